"""How well a supernet ranks cells: Kendall's tau between its accuracies and those of a table."""

import json
import logging
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, PyTree
from scipy import stats

from experiments.nas_bench_201 import lines
from experiments.nas_bench_201.plan import Trial
from experiments.nas_bench_201.scales import Scale
from stretchnas_jax.cells import nas_bench_201
from stretchnas_jax.cells.nas_bench_201 import NUM_CELLS, Table
from stretchnas_jax.data.batches import feeds
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.runs import supernet_accuracy


class _Mixed(NamedTuple):
  """Some images of a feed in a random order; every batch has all classes.

  A cell is normalised by the moments of its batch. The images of a folder come class by class, and
  moments of one class would distort its accuracy.

  Attributes:
    feed: gives batches.
    count: how many images.
  """

  feed: feeds.EvaluationFeed
  count: int

  @property
  def data(self) -> PyTree:
    """Returns the data of the feed."""
    return self.feed.data

  def examples(self, data: PyTree, batch: PyTree) -> Examples:
    """Returns the examples of one batch; see `EvaluationFeed.examples`."""
    return self.feed.examples(data, batch)

  def close(self) -> None:
    """Closes the feed."""
    self.feed.close()

  def chunks(self, length: int) -> Iterator[tuple[PyTree, Float32[np.ndarray, 'T B']]]:
    """Yields one chunk with all batches; see `EvaluationFeed.chunks`."""
    parts, valid = zip(*self.feed.chunks(length))
    batch = valid[0].shape[1]
    real = np.flatnonzero(np.concatenate(valid).reshape(-1))
    order = np.random.default_rng(0).permutation(real)[: self.count]
    steps = max(1, len(order) // batch)
    places = np.resize(order, (steps, batch))
    counts = (np.arange(places.size) < len(order)).astype(np.float32).reshape(places.shape)

    def chosen(*arrays: np.ndarray) -> np.ndarray:
      return np.concatenate([x.reshape(-1, *x.shape[2:]) for x in arrays])[places]

    yield jax.tree.map(chosen, *parts), counts


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
    net = net._replace(feed=_Mixed(net.feed, images))
    found = []
    for i, code in enumerate(codes, 1):
      mixture = net.mixture_of(nas_bench_201.from_code(code))
      found.append(round(net.of(mixture).accuracy, 4))
      if i % 50 == 0:
        logging.info('measured %d of %d cells', i, len(codes))
  return found
