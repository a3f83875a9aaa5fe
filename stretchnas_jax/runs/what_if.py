"""The same search, read by other decodings.

A search has one result, but its scores allow many. Where all rules give nearly the same cell, the
search has decided. Nothing is trained here, and the sizes come from a few traces.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stretchnas_jax.cells import decodings, genotype, nas_bench_cells, search_course, topology
from stretchnas_jax.cells.decoding import Decoding
from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cells.search_result import edges_of
from stretchnas_jax.cells.space import CELL_TYPES, SearchSpace
from stretchnas_jax.machine import faults
from stretchnas_jax.networks import quick_sizes
from stretchnas_jax.runs import history as history_lib
from stretchnas_jax.runs import parts as parts_lib
from stretchnas_jax.runs import run_shape
from stretchnas_jax.runs import scores as scores_lib
from stretchnas_jax.runs.looked_up import looked_up
from stretchnas_jax.runs.run_shape import Shape
from stretchnas_jax.runs.scores import Scores
from stretchnas_jax.views import tables

_SHARES = (0.5, 0.75, 0.9)  # thresholds, as parts of the strongest product of a cell
_SKIPS = (0, 1, 2)
_MOST_EPOCHS = 8  # in a table for a person


class Row(NamedTuple):
  """One decoding.

  Attributes:
    rule: its name.
    epoch: whose scores were decoded.
    cell: the decoded cells.
    notes: sentences on repaired and pruned edges.
    params: of a network of this cell, or None where its shape is not known.
    macs: multiply-adds for an image, likewise.
    accuracy: of the cell with the weights of the supernet, or None.
    table: percent, of a trained cell of NAS-Bench-201 where the extra is installed, or None.
  """

  rule: str
  epoch: int
  cell: AnyGenotype
  notes: tuple[str, ...]
  params: int | None = None
  macs: int | None = None
  accuracy: float | None = None
  table: float | None = None


class Answer(NamedTuple):
  """All decodings of a search; the first one is its own.

  Attributes:
    path: the folder of the search.
    rows: the decodings.
    shape: of the network whose sizes are in the rows; None where it is not known.
    notes: sentences on missing parts, and on the source of the table.
  """

  path: pathlib.Path
  rows: tuple[Row, ...]
  shape: Shape | None
  notes: tuple[str, ...]

  def changed(self, row: Row) -> int:
    """Returns the number of edges on which a cell differs from the search's own."""
    return len(search_course.changes(self.rows[0].cell.to_dict(), row.cell.to_dict()))


def ask(run: pathlib.Path | str, trust: bool = False) -> Answer:
  """Decodes a search by every rule.

  Args:
    run: the folder of the search: finished, at work, stopped, damaged, or of version 0.1.
    trust: run the program of the search's own parts.

  Raises:
    ValueError, OSError: the folder holds neither scores nor cells.
  """
  found = scores_lib.load(run, trust)
  notes = [found.note] if found.note else []
  rows = list(_own(found))
  if found.has_scores:
    rows[1:1] = _by_rules(found, notes)
  if not rows:
    raise ValueError(f'{found.path} holds no cell that can be read')
  known = [looked_up(row.cell) for row in rows]
  rows = [row._replace(table=one.get('table_accuracy')) for row, one in zip(rows, known)]
  sources = {one['table_source'] for one in known if one}
  notes += [f'table: the accuracy in percent, {source}' for source in sources]
  try:
    return _with_sizes(Answer(found.path, tuple(rows), None, tuple(notes)), trust)
  except (ValueError, OSError) as error:
    reason = f'without sizes: {faults.one_line(error)}'
    return Answer(found.path, tuple(rows), None, (*notes, reason))


def _with_sizes(answer: Answer, trust: bool) -> Answer:
  """Returns the decodings with the sizes of their networks; a cell with noise has no network."""
  shape, operations = run_shape.read(answer.path, answer.rows[0].epoch), None
  if parts_lib.operation_names(answer.path):
    operations = parts_lib.of_run(answer.path, trust=trust).operations
  cells = [cell for cell in dict.fromkeys(row.cell for row in answer.rows) if not _noisy(cell)]
  sizes = dict(zip(cells, quick_sizes.measure_many(cells, *shape, operations=operations)))
  rows = [
    row._replace(params=sizes[row.cell].params, macs=sizes[row.cell].macs)
    if row.cell in sizes
    else row
    for row in answer.rows
  ]
  notes = answer.notes
  if any(row.cell not in sizes for row in answer.rows):
    notes = (*notes, 'a cell with noise has no network that can be trained, and so no size')
  return answer._replace(rows=tuple(rows), shape=shape, notes=notes)


def _noisy(cell: AnyGenotype) -> bool:
  return any(op == 'noise' for name in CELL_TYPES for op, _, _ in edges_of(cell, name))


# ---- rules ---------------------------------------------------------------------------------------


def _own(found: Scores) -> Iterator[Row]:
  """Yields the cell of the last epoch, and those of earlier epochs from the newest, as kept."""
  later, history = None, found.history
  for i in reversed(range(len(history.genotypes))):
    cell = history_lib.known_cell(history.genotypes[i])
    epoch = int(history.epochs[i])
    if cell is not None and cell != later:
      yield Row('as it was' if later is None else 'as it was, earlier', epoch, cell, ())
      later = cell


def _by_rules(found: Scores, notes: list[str]) -> list[Row]:
  """Returns the decodings of the last epoch; adds a note where there can be none."""
  try:
    space = found.space()
  except ValueError as error:
    notes.append(str(error))
    return []
  strength = {cell: found.strength(cell) for cell in found.cells}
  scores = {cell: found.edge_scores(cell) for cell in found.cells}
  beta = {cell: found.beta(cell) for cell in found.cells}
  allowed = {cell: found.allowed(cell) for cell in found.cells}
  rows, epoch = [], int(found.history.epochs[-1])
  for name, table, rule in _rules(found, space):
    try:
      cell, remarks = genotype.derive(
        space, table, strength, beta, decoding=rule, edge_scores=scores, allowed=allowed
      )
    except ValueError as error:
      notes.append(f'{name}: {error}')
      continue
    rows.append(Row(name, epoch, cell, remarks))
  return rows


_Rule = Decoding | Mapping[str, Decoding] | None


def _rules(
  found: Scores, space: SearchSpace
) -> Iterator[tuple[str, topology.TopologyTable, _Rule]]:
  """Yields the name of each rule, the table that it reads, and the rule."""
  table = found.facts.table
  if table.has_rows:
    yield 'most probable codes', table, None
    for k, own in _of_size(table):
      yield f'most probable codes of {k} {"edge" if k == 1 else "edges"}', own, None
  for by, side in (('target', 'in'), ('source', 'out')):
    for k in (1, 2, 3):
      if k < space.graph.num_nodes - space.graph.num_inputs + 1:
        rule = decodings.strongest_edges(k, by)
        yield f'{k} strongest {side}-{"edge" if k == 1 else "edges"} of a node', table, rule
  if space.graph.output == 'concat':  # an edge of NAS-Bench-201 has one operation
    yield '2 strongest pairs of edge and operation', table, decodings.pairs(2)
  for most in _SKIPS:
    yield f'2 in-edges, at most {most} skips in a cell', table, decodings.capped(most)
  for share in _SHARES:
    rules = {cell: decodings.threshold(share * _largest(found, cell)) for cell in found.cells}
    yield f'2 in-edges, from {share:.0%} of the strongest on', table, rules
  yield 'all edges where none is not strongest', table, decodings.all_edges()


def _of_size(table: topology.TopologyTable) -> Iterator[tuple[int, topology.TopologyTable]]:
  """Yields tables with the codes of k edges alone; a row without any has no edge then."""
  counts = np.where(table.mask, np.asarray(table.codes).sum(2), -1)
  sizes = sorted({int(size) for size in counts[table.mask]} - {0})
  for k in sizes if len(sizes) > 1 else ():
    mask = counts == k
    if mask.any(1).sum() > 1:
      codes = np.asarray(table.codes) * mask[:, :, None]
      mask[:, 0] |= ~mask.any(1)
      yield k, table._replace(codes=codes, mask=mask)


def _largest(found: Scores, cell: str) -> float:
  """Returns the largest product of strength and score that a decoded operation may have."""
  real = [name != 'none' for name in found.facts.primitives]
  return float((found.strength(cell)[:, real] * found.edge_scores(cell)[:, None]).max())


# ---- for a person and for programs ---------------------------------------------------------------


def text(answer: Answer) -> str:
  """Returns the decodings as a table for a terminal."""
  own = [row for row in answer.rows if not row.rule.endswith('earlier')]
  earlier = [row for row in answer.rows if row.rule.endswith('earlier')]
  header = ['rule', 'epoch', 'edges', 'changed', 'skips', 'params', 'MACs']
  known = [
    name for name in ('accuracy', 'table') if any(getattr(r, name) is not None for r in answer.rows)
  ]
  rows = [
    [row.rule, row.epoch, *_counts(answer, row), row.params, row.macs]
    + [getattr(row, name) for name in known]
    for row in [*own, *earlier[:_MOST_EPOCHS]]
  ]
  lines = [tables.text([*header, *known], rows)]
  if len(earlier) > _MOST_EPOCHS:
    lines.append(f'and {len(earlier) - _MOST_EPOCHS} earlier cells, which --json lists')
  if answer.shape is not None:
    shape = answer.shape
    cells = '1 cell' if shape.num_layers == 1 else f'{shape.num_layers} cells'
    cells += ' a stage' if isinstance(answer.rows[0].cell, nas_bench_cells.Cell) else ''
    lines.append(f'sizes with {cells} and C {shape.channels}, as in the search')
  return '\n'.join([*lines, *answer.notes])


def to_dict(answer: Answer) -> dict[str, Any]:
  """Returns the decodings as JSON holds them."""
  names = ('edges', 'changed', 'skips')
  return {
    'run': str(answer.path),
    'sizes_of': None if answer.shape is None else answer.shape._asdict(),
    'rows': [
      {
        'rule': row.rule,
        'epoch': row.epoch,
        **dict(zip(names, _counts(answer, row))),
        'params': row.params,
        'macs': row.macs,
        'accuracy': row.accuracy,
        'table_accuracy': row.table,
        'genotype': row.cell.to_dict(),
        'notes': list(row.notes),
      }
      for row in answer.rows
    ],
    'notes': list(answer.notes),
  }


def _counts(answer: Answer, row: Row) -> Sequence[int]:
  edges = [edge for cell in CELL_TYPES for edge in edges_of(row.cell, cell)]
  return len(edges), answer.changed(row), sum(op == 'skip_connect' for op, _, _ in edges)
