"""How well a supernet ranks cells: Kendall's tau between its accuracies and those of a table."""

import json
import logging
import pathlib

import numpy as np
from scipy import stats

from experiments.nas_bench_201 import lines
from experiments.nas_bench_201.plan import Trial
from experiments.nas_bench_201.scales import Scale
from stretchnas_jax.cells import nas_bench_201
from stretchnas_jax.cells.nas_bench_201 import NUM_CELLS, Table
from stretchnas_jax.runs import supernet_accuracy


def rank(trial: Trial, scale: Scale, table: Table) -> float | None:
  """Measures cells with the supernet of a search, after its last epoch, and writes the result.

  Supernets of earlier epochs are not kept. The cells are the same for all searches.

  Args:
    trial: a finished search.
    scale: gives the number of cells and of validation images.
    table: of accuracies.

  Returns:
    Tau; None where the weights of the search are gone.
  """
  path = trial.folder / lines.RANKING
  if path.exists() or not (trial.folder / 'checkpoints').exists():
    return None
  codes = drawn_codes(scale.ranked, table)
  accuracies = _measured(trial.folder, codes, scale.ranked_images)
  tau = float(stats.kendalltau(accuracies, [table.accuracy(code) for code in codes]).statistic)
  found = {'tau': round(tau, 4), 'codes': codes, 'accuracies': accuracies}
  path.write_text(json.dumps(found) + '\n', 'utf-8')
  return tau


def drawn_codes(count: int, table: Table) -> list[int]:
  """Returns the codes of random cells whose output depends on the input.

  Args:
    count: how many.
    table: cells that it lacks are left out.
  """
  order = np.random.default_rng(0).permutation(NUM_CELLS)
  usable = (
    int(code)
    for code in order
    if np.isfinite(table.accuracies[code]) and nas_bench_201.from_code(int(code)).has_path
  )
  return [code for code, _ in zip(usable, range(count))]


def _measured(run: pathlib.Path, codes: list[int], images: int) -> list[float]:
  """Returns the accuracies of cells with the newest weights of a search."""
  with supernet_accuracy.opened(run) as net:
    net = net._replace(feed=net.feed.mixed(images))
    found = []
    for i, code in enumerate(codes, 1):
      mixture = net.mixture_of(nas_bench_201.from_code(code))
      found.append(round(net.of(mixture).accuracy, 4))
      if i % 50 == 0:
        logging.info('measured %d of %d cells', i, len(codes))
  return found
