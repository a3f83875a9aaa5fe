"""How well supernets rank cells: Kendall's tau between their accuracies and those of a table."""

import itertools
import json
import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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


class Order(NamedTuple):
  """How accuracies of random cells order them.

  Attributes:
    tau: Kendall's tau with the accuracies of a table, from -1 to 1.
    convolutions: Kendall's tau with the numbers of convolutions in the cells.
    accuracy: the mean over the cells, from 0 to 1.
  """

  tau: float
  convolutions: float
  accuracy: float


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


def orders(found: Ranking, table: Table) -> dict[int, Order]:
  """Returns how supernets order random cells, by epoch.

  Args:
    found: the accuracies with supernets.
    table: cells that it lacks are left out.
  """
  by_epoch = {int(epoch): accuracies for epoch, accuracies in found['accuracies'].items()}
  return {
    epoch: _order(accuracies, found['codes'], table)
    for epoch, accuracies in sorted(by_epoch.items())
  }


def order_of_table(codes: Sequence[int], table: Table) -> Order:
  """Returns how a table orders cells.

  Args:
    codes: of the cells.
    table: cells that it lacks are left out.
  """
  return _order(table.accuracies[codes] / 100, codes, table)


def _order(accuracies: Sequence[float], codes: Sequence[int], table: Table) -> Order:
  truth = table.accuracies[codes]
  known = np.isfinite(truth)
  texts = [nas_bench_201.to_text(nas_bench_201.from_code(code)) for code in codes]
  numbers = np.array([text.count('nor_conv') for text in texts])
  here = np.array(accuracies)[known]
  taus = [stats.kendalltau(here, there[known]).statistic for there in (truth, numbers)]
  return Order(*map(float, np.nan_to_num(taus)), float(here.mean()))  # equal ones: 0


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
