"""The scores of a search, kept after every epoch: how its cell came to be what it is.

`scores.jsonl` has a line for each epoch: alpha, beta, operation weights and edge scores of both
cell types. `space.json` says once which edges, operations and codes these numbers belong to. So a
history is read without the program that made the run.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, PyTree

from stretchnas_jax.cells import search_result, topology
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cells.graph import Edge
from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.machine.faults import Fault
from stretchnas_jax.runs import epoch_arrays, json_files, run_shape, workdir
from stretchnas_jax.runs.epoch_arrays import Stacked
from stretchnas_jax.views import notebooks

SCORES, SPACE = 'scores.jsonl', 'space.json'

# Digits of numbers that follow from alpha and beta; these two are kept exactly.
_DIGITS = 6


class Facts(NamedTuple):
  """The edges, operations and codes that the numbers of a history belong to.

  Attributes:
    edges: `(src, dst)`, in the order of the arrays.
    primitives: names of the operations.
    table: the topology table of both cell types.
  """

  edges: tuple[Edge, ...]
  primitives: tuple[str, ...]
  table: topology.TopologyTable


class History(NamedTuple):
  """The scores of a search after each of its epochs.

  Every array begins with an axis of n epochs; dicts are by cell type, 'normal' and 'reduce'. Where
  a shape changes from epoch to epoch, a list of n arrays takes the place of the array.

  Attributes:
    facts: what the numbers belong to; None in runs of version 0.1, which kept no scores.
    epochs: `[n]`, counted from 1.
    alpha: operation logits `[n, E, O]`; of some relaxations another pytree.
    beta: topology logits `[n, R, K]`; minus infinity where a row has no such code.
    op_weights: of an evaluation, `[n, E, O]` or `[n, L, E, O]`.
    strength: the numbers by which operations are ranked in a decoding, likewise.
    edge_scores: `[n, E]`.
    genotypes: the decoded cell of each epoch, as `Genotype.to_dict` has it.
    lines: the line of metrics of each epoch.
  """

  facts: Facts | None
  epochs: Int[np.ndarray, ' n']
  alpha: Mapping[str, PyTree]
  beta: Mapping[str, Float[np.ndarray, 'n R K']]
  op_weights: Mapping[str, Stacked]
  strength: Mapping[str, Stacked]
  edge_scores: Mapping[str, Float[np.ndarray, 'n E']]
  genotypes: tuple[dict, ...]
  lines: tuple[dict, ...]

  @property
  def cells(self) -> tuple[AnyGenotype, ...]:
    """Returns the decoded cell of each epoch, with the names of your own operations.

    Raises:
      ValueError: one of them is damaged.
    """
    return tuple(map(search_result.cell_of, self.genotypes))

  def _repr_html_(self) -> str:
    """Returns the numbers of all epochs as a table, for notebooks."""
    names = list(dict.fromkeys(name for line in self.lines for name in line if name != 'step'))
    return notebooks.rows_page(names, [[line.get(name) for name in names] for line in self.lines])


# ---- writing -------------------------------------------------------------------------------------


def facts_line(space: SearchSpace, table: topology.TopologyTable) -> dict[str, Any]:
  """Returns the content of `space.json`.

  Args:
    space: the search space.
    table: the topology table; each of its codes is kept as a list of edges.
  """
  rows = [
    [np.flatnonzero(code).tolist() for code, real in zip(codes, mask) if real]
    for codes, mask in zip(np.asarray(table.codes), np.asarray(table.mask))
  ]
  return {
    'edges': [list(edge) for edge in space.graph.edges],
    'primitives': list(space.primitives),
    'topology': {
      'rows': rows, 'scale': _exact(table.scale), 'by': table.by, 'k': table.k,
    },
  }  # fmt: skip


def scores_line(
  arch: Arch,
  table: topology.TopologyTable,
  op_weights: Mapping[str, Float[AnyArray, '...']],
  edge_scores: Mapping[str, Float[AnyArray, ' E']],
  strength: Mapping[str, Float[AnyArray, '...']],
) -> dict[str, Any]:
  """Returns the scores of one epoch, as a line of `scores.jsonl` has them.

  Args:
    arch: alpha and beta, on the host.
    table: tells which codes of beta are real.
    op_weights: operation weights of an evaluation, by cell type.
    edge_scores: edge scores, by cell type.
    strength: the ranks of a decoding; left out where they equal the operation weights.
  """
  masks = np.asarray(table.mask)
  line = {
    'alpha': {c: epoch_arrays.nested_tree(arch.alpha[c], _exact) for c in arch.alpha},
    'beta': {
      c: [_exact(row[mask]) for row, mask in zip(np.asarray(arch.beta[c]), masks)]
      for c in arch.alpha
    },
    'op_weights': {c: _rounded(op_weights[c]) for c in arch.alpha},
    'edge_scores': {c: _rounded(edge_scores[c]) for c in arch.alpha},
  }
  ranks = {c: _rounded(strength[c]) for c in arch.alpha}
  return line if ranks == line['op_weights'] else {**line, 'strength': ranks}


def _exact(values: Float[AnyArray, '...']) -> Any:
  """Returns nested lists of the shortest decimals that give the same float32 numbers."""
  return epoch_arrays.nested(np.asarray(values, np.float32), lambda x: float(str(x)))


def _rounded(values: Float[AnyArray, '...']) -> Any:
  return epoch_arrays.nested(np.asarray(values, np.float64), lambda x: float(f'{x:.{_DIGITS}g}'))


# ---- reading -------------------------------------------------------------------------------------


def load_history(run: pathlib.Path | str) -> History:
  """Reads the scores, cells and metrics of a search, of all its epochs so far.

  Args:
    run: the folder of a search: finished, at work, stopped, or of version 0.1. An epoch counts
      where its line is whole in every file of the run. Where a later phase has another number of
      edges or operations, only the epochs from there on count.

  Raises:
    ValueError, OSError: no search has run there, or a file is damaged; the sentence names it.

  Example:
    >>> history = load_history('runs/digits')
    >>> history.edge_scores['normal'].shape == (len(history.epochs), len(history.facts.edges))
    True
  """
  path = workdir.absolute(run)
  if not (path / 'genotypes.jsonl').is_file():
    raise FileNotFoundError(f'{path} holds no genotypes.jsonl: no search has run there')
  lines = _by_epoch(path / 'genotypes.jsonl')
  cells = {epoch: line for epoch, line in lines.items() if known_cell(line.get('genotype'))}
  metrics = _by_epoch(path / 'metrics.jsonl')
  common = [epoch for epoch in sorted(cells) if epoch in metrics]
  if not (path / SPACE).is_file():
    return _without_scores(common, cells, metrics)
  with_scores = _by_epoch(path / SCORES)
  common = [epoch for epoch in common if epoch in with_scores]
  facts = _facts_of(path / SPACE)
  try:
    new_space = common and _misfit(facts, _numbers(with_scores[common[-1]]))
    if new_space and run_shape.has_phases(path):  # a phase has begun, and has no epoch yet
      return _without_scores([], cells, metrics)._replace(facts=facts)
    return _with_scores(facts, common, cells, metrics, with_scores)
  except (KeyError, TypeError, ValueError) as error:
    raise Fault(f'{path / SCORES} is damaged: {error}') from error


def known_cell(fields: Any) -> AnyGenotype | None:
  """Returns a cell that a run has written; None where its fields are damaged.

  Args:
    fields: as `Genotype.to_dict` has it.
  """
  try:
    return search_result.cell_of(fields)
  except ValueError:
    return None


def _by_epoch(path: pathlib.Path) -> dict[int, dict]:
  """Returns the whole lines of a file by their epoch; the last one of an epoch counts."""
  return {line['epoch']: line for line in json_files.read_lines(path) if 'epoch' in line}


def _without_scores(
  epochs: Sequence[int], cells: Mapping[int, dict], metrics: Mapping[int, dict]
) -> History:
  genotypes = tuple(cells[epoch].get('genotype', {}) for epoch in epochs)
  lines = tuple(metrics[epoch] for epoch in epochs)
  return History(None, np.array(epochs, int), {}, {}, {}, {}, {}, genotypes, lines)


def _with_scores(
  facts: Facts,
  epochs: Sequence[int],
  cells: Mapping[int, dict],
  metrics: Mapping[int, dict],
  scores: Mapping[int, dict],
) -> History:
  """Stacks the numbers of all epochs in the search space of the last one."""
  numbers = {epoch: _numbers(scores[epoch]) for epoch in epochs}
  misfits = [_misfit(facts, numbers[epoch]) for epoch in epochs]
  first = next((i for i, name in enumerate(misfits) if not name), 0)
  if name := next(filter(None, misfits[first:]), None):
    raise ValueError(f'{name} is not of the edges and operations in {SPACE}')
  epochs = epochs[first:]
  bare = _without_scores(epochs, cells, metrics)
  if not epochs:
    return bare._replace(facts=facts)
  types = tuple(scores[epochs[0]]['alpha'])
  of = lambda name, c: [scores[epoch][name][c] for epoch in epochs]
  return bare._replace(
    facts=facts,
    alpha={c: epoch_arrays.stacked_tree(of('alpha', c)) for c in types},
    beta={c: _stacked_beta(of('beta', c), facts.table) for c in types},
    **{
      name: {c: epoch_arrays.stacked([numbers[e][name][c] for e in epochs]) for c in types}
      for name in numbers[epochs[0]]
    },
  )


def _numbers(line: dict) -> dict[str, dict[str, Float[np.ndarray, '...']]]:
  """Returns the scores of one epoch as arrays, by name and cell type."""
  found = {'op_weights': line['op_weights'], 'strength': line.get('strength', line['op_weights'])}
  return {
    name: {c: np.array(values, float) for c, values in scores.items()}
    for name, scores in {**found, 'edge_scores': line['edge_scores']}.items()
  }


def _misfit(facts: Facts, numbers: Mapping[str, Mapping[str, np.ndarray]]) -> str | None:
  """Returns which scores are of other edges or operations than the facts; None where all fit."""
  size = len(facts.edges), len(facts.primitives)
  for name, values in numbers.items():
    own = size[:1] if name == 'edge_scores' else size
    if any(array.shape[-len(own) :] != own for array in values.values()):
      return name
  return None


def _stacked_beta(
  values: Sequence[Any], table: topology.TopologyTable
) -> Float[np.ndarray, 'n R K']:
  """Puts the logits of the real codes back into their places.

  A phase with another topology than the last one has no logits of these codes: they are 0 there.
  """
  beta = np.full((len(values), *table.mask.shape), -np.inf, np.float32)
  codes = table.mask.sum(1).tolist()
  for one, rows in zip(beta, values):
    if rows is not values[-1] and list(map(len, rows)) != codes:
      one[table.mask] = 0.0
      continue
    for row, mask, logits in zip(one, table.mask, rows, strict=True):
      row[mask] = logits
  return beta


def _facts_of(path: pathlib.Path) -> Facts:
  """Reads `space.json`."""
  content = json_files.read_object(path)
  try:
    edges = tuple((int(src), int(dst)) for src, dst in content['edges'])
    about = content['topology']
    rows, scale = about['rows'], np.array(about['scale'], np.float32)
    codes = np.zeros((len(rows), max(map(len, rows), default=0), len(edges)), np.float32)
    mask = np.zeros(codes.shape[:2], bool)
    for r, row in enumerate(rows):
      for k, code in enumerate(row):
        codes[r, k, code], mask[r, k] = 1, True
    table = topology.TopologyTable(codes, mask, scale, str(about['by']), int(about['k']))
    return Facts(edges, tuple(map(str, content['primitives'])), table)
  except (KeyError, TypeError, ValueError, IndexError) as error:
    raise Fault(f'{path} is damaged: {error}') from error
