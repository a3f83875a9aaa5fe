"""The scores of a search, for commands that look back at it: from its history, or a checkpoint.

A run of version 0.1 has kept no scores. Its newest checkpoint still has those of one epoch.
"""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.graph import CellGraph
from stretchnas_jax.cells.space import CELL_TYPES, SearchSpace
from stretchnas_jax.machine import faults, parallel
from stretchnas_jax.runs import history as history_lib
from stretchnas_jax.runs import trained
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.runs.history import Facts, History


class Scores(NamedTuple):
  """The scores of a search after some of its epochs.

  Attributes:
    path: the folder of the run.
    history: the scores. Of a run that has kept none they are of its newest checkpoint, and the last
      of its epochs.
    note: a sentence on scores that are missing; '' where all are there.
  """

  path: pathlib.Path
  history: History
  note: str

  @property
  def facts(self) -> Facts:
    """Returns the edges, operations and codes; only where there are scores."""
    assert self.history.facts is not None
    return self.history.facts

  @property
  def has_scores(self) -> bool:
    """Returns whether there are scores of at least one epoch."""
    return self.history.facts is not None and bool(self.history.strength)

  @property
  def cells(self) -> tuple[str, ...]:
    """Returns the cell types that have scores."""
    return tuple(cell for cell in CELL_TYPES if cell in self.history.strength)

  def space(self) -> SearchSpace:
    """Returns the search space.

    Raises:
      ValueError: its graph is of another kind than those of DARTS.
    """
    edges = self.facts.edges
    inputs = min(dst for _, dst in edges)
    # Only a cell that hands on its last node has one type.
    output = 'concat' if 'reduce' in self.cells else 'last'
    if inputs <= 2:
      graph = CellGraph(max(dst for _, dst in edges) + 1 - inputs, inputs, output)
      if graph.edges == edges:
        return SearchSpace(graph, self.facts.primitives)
    raise ValueError(f'{self.path} searched another kind of graph, which no rule here decodes')

  def allowed(self, cell: str) -> Bool[np.ndarray, 'E O']:
    """Returns which operations an edge has at the end: the others have neither weight nor strength.

    A space may allow an edge some operations only, and a phase or a monitor lets others fall. An
    edge whose operations are all without strength may have all.

    Args:
      cell: the cell type.
    """
    weights = np.array(self.history.op_weights[cell][-1], float)
    weights = np.abs(weights).sum(0) if weights.ndim == 3 else weights
    there = (weights != 0) | (self.strength(cell) != 0)
    real = np.array([name != 'none' for name in self.facts.primitives])
    return there | ~(there & real).any(1, keepdims=True)

  def strength(self, cell: str, i: int = -1) -> Float[np.ndarray, 'E O']:
    """Returns the numbers by which a decoding ranks operations.

    Args:
      cell: the cell type.
      i: the place of the epoch in the history.
    """
    values = np.array(self.history.strength[cell][i], float)
    values = values.mean(0) if values.ndim == 3 else values
    finite = np.isfinite(values)
    return np.where(finite, values, np.min(values, initial=0.0, where=finite) - 1)

  def edge_scores(self, cell: str, i: int = -1) -> Float[np.ndarray, ' E']:
    """Returns the merged scores of the edges.

    Args:
      cell: the cell type.
      i: the place of the epoch in the history.
    """
    return np.nan_to_num(np.array(self.history.edge_scores[cell][i], float))

  def beta(self, cell: str, i: int = -1) -> Float[np.ndarray, 'R K']:
    """Returns the topology logits; 0 where a row has no such code.

    Args:
      cell: the cell type.
      i: the place of the epoch in the history.
    """
    found = self.history.beta[cell][i] if self.facts.table.has_rows else self.facts.table.mask
    return np.where(self.facts.table.mask, found, 0).astype(np.float32)


def load(run: pathlib.Path | str, trust: bool = False) -> Scores:
  """Reads the scores of a search: finished, at work, stopped, damaged, or of version 0.1.

  Args:
    run: the folder of the search.
    trust: run the program that the folder keeps, where a checkpoint has to be read.

  Raises:
    ValueError, OSError: there are neither scores, nor cells, nor a checkpoint.
  """
  path = workdir_lib.absolute(run)
  found, reason = None, ''
  try:
    found = history_lib.load_history(path)
    if found.facts is not None and found.strength:
      return Scores(path, found, '')
    early = found.facts is not None
    reason = f'{path} holds no scores yet' if early else f'{path} has kept no scores'
  except (ValueError, OSError) as error:
    reason = faults.one_line(error)
  try:
    return Scores(path, _of_checkpoint(path, found, trust), _partly(reason))
  except (ValueError, OSError) as error:
    if found is not None and found.genotypes:
      return Scores(path, found, f'{reason}; no checkpoint helps ({faults.one_line(error)})')
    if reason and not isinstance(error, FileNotFoundError):
      raise
    raise FileNotFoundError(reason) from error


def _partly(reason: str) -> str:
  return f'{reason}: the scores are those of the newest checkpoint'


def _of_checkpoint(path: pathlib.Path, found: History | None, trust: bool) -> History:
  """Returns a history whose last epoch has the scores of the newest checkpoint."""
  saved = trained.read_run(path, trust=trust)
  if saved.kind != 'search':
    raise ValueError(f'{path} is a training; only a search has scores')
  state, objects = parallel.fetch(saved.state), saved.objects
  op_weights, edge_scores = objects.search.mixture(state.arch, saved.step, state.control)
  strength = objects.search.strength(state.arch, saved.step, state.control)
  cell = objects.search.decode(state.arch, saved.step, state.control)[0]
  lines = () if found is None else found.lines
  last = lines[-1]['epoch'] if lines else 0
  known = () if found is None else found.genotypes[:-1]
  return History(
    Facts(objects.net.space.graph.edges, objects.net.space.primitives, objects.table),
    np.array([line['epoch'] for line in lines] or [last], int),
    state.arch.alpha,
    _only(state.arch.beta),
    _only(op_weights),
    _only(strength),
    _only(edge_scores),
    (*known, cell.to_dict()),
    lines,
  )


def _only(values: Mapping[str, Float[AnyArray, '...']]) -> dict[str, Float[np.ndarray, '...']]:
  """Returns arrays with an axis of one epoch."""
  return {cell: np.asarray(values[cell])[None] for cell in values}
