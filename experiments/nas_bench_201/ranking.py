"""How well supernets rank cells: Kendall's tau between their accuracies and those of a table."""

import itertools
import json
import logging
import pathlib
from collections.abc import Iterator

import numpy as np
from scipy import stats

from experiments.nas_bench_201 import lines
from experiments.nas_bench_201.lines import Ranking
from experiments.nas_bench_201.plan import Trial
from experiments.nas_bench_201.scales import Scale
from stretchnas_jax.cells import nas_bench_201
from stretchnas_jax.cells.nas_bench_201 import NUM_CELLS, Table
from stretchnas_jax.machine import files
from stretchnas_jax.runs import checkpoint, json_files, supernet_accuracy
from stretchnas_jax.runs.history import load_history


def rank(trial: Trial, scale: Scale) -> Iterator[tuple[int, Ranking]]:
  """Measures cells with the supernets of a search, and writes the result of each at once.

  The supernets are those of the last epoch and of the earlier ones whose checkpoints stay by
  `checkpoint.keep_every_epochs`. The cells are the same for all of them.

  Args:
    trial: a finished search.
    scale: gives the number of cells and of validation images.

  Yields:
    Each epoch whose supernet was not measured before, and all accuracies so far.
  """
  path = trial.folder / lines.RANKING
  codes = drawn_codes(scale.ranked)
  found = json_files.read_object(path) if path.exists() else {}
  if found.get('codes') != codes:
    found = {'codes': codes, 'accuracies': {}}
  for epoch, step in _saved_epochs(trial.folder, scale).items():
    if str(epoch) in found['accuracies']:
      continue
    logging.info('%s seed %d: the supernet of epoch %d', trial.key, trial.seed, epoch)
    try:
      accuracies = _measured(trial.folder, step, codes, scale.ranked_images)
    except checkpoint.Unusable as error:
      logging.warning('passed over: %s', error)
      continue
    found['accuracies'][str(epoch)] = accuracies
    files.replace(path, (json.dumps(found) + '\n').encode())
    yield epoch, found


def taus(found: Ranking, table: Table) -> dict[int, float]:
  """Returns Kendall's tau between the accuracies with supernets and those of a table, by epoch.

  Args:
    found: the accuracies with supernets.
    table: cells that it lacks are left out.
  """
  truth = table.accuracies[found['codes']]
  known = np.isfinite(truth)
  taus = {
    int(epoch): stats.kendalltau(np.array(accuracies)[known], truth[known]).statistic
    for epoch, accuracies in found['accuracies'].items()
  }
  return {epoch: float(np.nan_to_num(tau)) for epoch, tau in sorted(taus.items())}  # equal ones: 0


def _saved_epochs(run: pathlib.Path, scale: Scale) -> dict[int, int]:
  """Returns the steps after which the supernets to be measured were saved, by their epochs."""
  steps = set(supernet_accuracy.saved_steps(run))
  every = scale.fields['checkpoint.keep_every_epochs']
  ends = {line['epoch']: line['step'] for line in load_history(run).lines}
  return {
    epoch: step
    for epoch, step in ends.items()
    if step in steps and (epoch % every == 0 or epoch == max(ends))
  }


def drawn_codes(count: int) -> list[int]:
  """Returns the codes of so many random cells whose output depends on the input."""
  order = np.random.default_rng(0).permutation(NUM_CELLS)
  usable = (int(code) for code in order if nas_bench_201.from_code(int(code)).has_path)
  return list(itertools.islice(usable, count))


def _measured(run: pathlib.Path, step: int, codes: list[int], images: int) -> list[float]:
  """Returns the accuracies of cells with the weights after so many steps of a search."""
  with supernet_accuracy.opened(run, step=step) as net:
    net = net._replace(feed=net.feed.mixed(images))
    found = []
    for i, code in enumerate(codes, 1):
      mixture = net.mixture_of(nas_bench_201.from_code(code))
      found.append(round(net.of(mixture).accuracy, 4))
      if i % 50 == 0:
        logging.info('measured %d of %d cells', i, len(codes))
  return found
