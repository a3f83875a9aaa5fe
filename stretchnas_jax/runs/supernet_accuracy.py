"""Accuracies of cells, and of changed mixtures, with the weights of a search's supernet."""

import contextlib
import logging
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.data.batches import feeds as feeds_lib
from stretchnas_jax.data.batches import opening
from stretchnas_jax.learning import evaluation
from stretchnas_jax.learning.evaluation import Mixture
from stretchnas_jax.machine import faults, parallel
from stretchnas_jax.runs import checkpoint, identity, steps, trained
from stretchnas_jax.runs import parts as parts_lib
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.runs.what_if import Answer

_AT_ONCE = 8  # batches that are sent before one is waited for


class Measured(NamedTuple):
  """The figures of one evaluation.

  Attributes:
    accuracy: on the validation images, from 0 to 1.
    loss: the mean cross entropy.
  """

  accuracy: float
  loss: float


class Supernet(NamedTuple):
  """A supernet with weights of a checkpoint, and the validation images of its search.

  Attributes:
    saved: the checkpoint.
    feed: the validation images, in a fixed shuffled order.
    program: the compiled evaluation.
    data: of the feed, on the device.
  """

  saved: trained.Saved
  feed: feeds_lib.EvaluationFeed
  program: parallel.Program
  data: Any

  def cell(self) -> AnyGenotype:
    """Returns the cell that the scores of the checkpoint give."""
    state = self.saved.state
    return self.saved.objects.search.decode(state.arch, self.saved.step, state.control)[0]

  def mixture_of(self, cell: AnyGenotype) -> Mixture:
    """Returns the mixture that computes a cell alone."""
    return evaluation.mixture_of(self.saved.objects.net.space, cell.to_dict())

  def mixture(self) -> Mixture:
    """Returns the operation weights and edge scores of the whole supernet."""
    state = self.saved.state
    found = self.saved.objects.search.mixture(state.arch, self.saved.step, state.control)
    return Mixture(*jax.device_get(found))

  def of(self, mixture: Mixture) -> Measured:
    """Measures a mixture. Each batch is normalised by its own moments."""
    state = self.saved.state._replace(arch=mixture)
    found = steps.measure(self.program, state, self.data, self.feed, _AT_ONCE)
    return Measured(found['accuracy'], found['loss'])


def without_edge(mixture: Mixture, cell: str, edge: int) -> Mixture:
  """Returns a mixture without one edge.

  Args:
    mixture: of a cell, or of the whole supernet.
    cell: the cell type.
    edge: the place of the edge.
  """
  scores = np.array(mixture.edge_scores[cell])
  scores[edge] = 0
  return mixture._replace(edge_scores={**mixture.edge_scores, cell: scores})


@contextlib.contextmanager
def opened(
  run: pathlib.Path | str, trust: bool = False, step: int | None = None
) -> Iterator[Supernet]:
  """Opens the supernet of a search together with the validation images of its phase.

  Args:
    run: the folder of the search.
    trust: run the program of the search's own parts.
    step: takes the weights after so many steps; None for the newest.

  Raises:
    ValueError, OSError: there is no checkpoint, or the images are missing, or others than those of
      the search.
  """
  path = workdir_lib.absolute(run)
  own = parts_lib.of_run(path, trust=trust)
  saved = trained.read_run(path, step=step, parts=own, trust=trust)
  if saved.kind != 'search':
    raise ValueError(f'{path} is a training; only a search has a supernet')
  feeds = opening.open_search(saved.phase, own.data)
  with contextlib.closing(feeds):
    identity.check_read(path, feeds.fingerprint)
    devices = parallel.Devices('single')
    feed = feeds.val.mixed()  # each batch is normalised by its own moments
    program = steps.compile_evaluation(saved.objects.search.evaluate, feed, devices)
    saved = saved._replace(state=parallel.fetch(saved.state))
    yield Supernet(saved, feed, program, devices.replicate(feed.data))


def saved_steps(workdir: pathlib.Path | str) -> list[int]:
  """Returns after how many steps the checkpoints of a run were saved, the newest first."""
  path = workdir_lib.absolute(workdir) / 'checkpoints'
  if not path.is_dir():
    return []
  with checkpoint.Checkpoints(path, read_only=True) as saved:
    return saved.steps()


def measured(answer: Answer, trust: bool = False) -> Answer:
  """Returns decodings with the accuracy of each cell; a note where it cannot be measured.

  Args:
    answer: the decodings of a search.
    trust: run the program of the search's own parts.
  """
  cells = list(dict.fromkeys(row.cell for row in answer.rows))
  found: dict[AnyGenotype, float] = {}
  try:
    with opened(answer.path, trust) as net:
      for i, cell in enumerate(cells):
        found[cell] = net.of(net.mixture_of(cell)).accuracy
        logging.info('measured %d of %d cells', i + 1, len(cells))
  except (ValueError, OSError) as error:
    return answer._replace(notes=(*answer.notes, f'without accuracies: {faults.one_line(error)}'))
  rows = tuple(row._replace(accuracy=found[row.cell]) for row in answer.rows)
  return answer._replace(rows=rows)
