"""DARTS' form of a genotype, and the forms of programs that follow it.

A cell is a list of `(operation, src)`, flat or by node, or a list of edges with both ends.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stretchnas_jax.cells.genotype_calls import Call, Name, dict_of
from stretchnas_jax.cells.genotype_forms import (
  MAX_EDGES,
  CellEdges,
  Cells,
  finished,
  number,
)
from stretchnas_jax.cells.genotype_text import FIELDS, shorten
from stretchnas_jax.cells.space import CELL_TYPES

NATIVE = 'the native form'


def two_cells(mapping: Mapping[str, Any], operations: Sequence[str]) -> Cells:
  """Reads `normal` and `reduce`, in DARTS' form or one like it.

  Args:
    mapping: with both, and perhaps `normal_concat` and `reduce_concat`.
    operations: names of operations beside the known ones.
  """
  shared = mapping.get('concat')
  concats = {cell: mapping.get(f'{cell}_concat', shared) for cell in CELL_TYPES}
  cells, notes = {}, []
  for cell in CELL_TYPES:
    cells[cell] = _edges_of(cell, mapping[cell], concats[cell])
  for name in ('connectN', 'connects'):
    if mapping.get(name) is not None:
      raise ValueError(
        f'{name} is {shorten(mapping[name])}; it changes how cells are joined, which a genotype '
        'here cannot say'
      )
  if 'connectN' in mapping:
    cells = {
      cell: found._replace(form='the form of AutoDL-Projects') for cell, found in cells.items()
    }
  known = {*FIELDS, 'concat', 'connectN', 'connects', 'name'}
  if more := [shorten(name) for name in mapping if name not in known]:
    notes.append(f'left out: {", ".join(more[:8])}')
  return finished(cells, concats, operations, notes)


def _edges_of(cell: str, value: Any, concat: Any) -> CellEdges:
  """Returns the edges of one cell, whichever way its list is made."""
  if isinstance(value, Mapping):
    items = [(number(node, f'as a node of {cell}'), entries) for node, entries in value.items()]
    return _by_node(cell, items)
  if not isinstance(value, list | tuple):
    raise ValueError(f'{cell} is {shorten(value)}; it must be a list of edges')
  if len(value) > MAX_EDGES:
    raise ValueError(f'{cell} has {len(value)} entries; no cell has so many')
  if value and all(_is_list(item) and item and _is_list(item[0]) for item in value):
    return _by_node(cell, list(enumerate(value, 2)))
  entries = [_entry(cell, item) for item in value]
  kinds = {len(entry) for entry in entries}
  if kinds == {3}:
    return _triples(cell, entries)
  if kinds != {2}:
    raise ValueError(
      f'{cell} mixes entries of two and of three values' if kinds else f'{cell} is empty'
    )
  by_number = any(isinstance(op, int) for op, _ in entries)
  form = "NASLib's compact form" if by_number else "DARTS' form"
  if _is_every_edge([src for _, src in entries], concat):
    ends = [dst for dst in range(2, len(entries)) for _ in range(dst)]
    edges = [(op, src, dst) for (op, src), dst in zip(entries, ends)]
    return CellEdges(edges, "SNAS' form, an operation for each edge", every_edge=True)
  if len(entries) % 2:
    raise ValueError(f'{cell} has {len(entries)} entries; in this form each node has exactly two')
  return CellEdges([(op, src, k // 2 + 2) for k, (op, src) in enumerate(entries)], form)


def _by_node(cell: str, items: Sequence[tuple[int, Any]]) -> CellEdges:
  """Returns the edges of a cell that has a list of entries for each node."""
  edges = []
  for node, entries in items:
    if not _is_list(entries):
      raise ValueError(f'{cell} has {shorten(entries)} for node {node}; it must be a list')
    for item in entries:
      op, src, *rest = _entry(cell, item)
      if rest and rest[0] != node:
        raise ValueError(f'{cell} has the edge {shorten(item)} among those of node {node}')
      edges.append((op, src, node))
  return CellEdges(edges, 'a form with a list for each node, as in pt.darts and AutoDL-Projects')


def _entry(cell: str, item: Any) -> tuple[Any, ...]:
  """Returns `(op, number)` or `(op, number, number)`; a weight after them is left out."""
  if not _is_list(item) or len(item) not in (2, 3):
    raise ValueError(f'{cell} has the entry {shorten(_plain(item))}; it must be (operation, src)')
  where = f'in the entry {shorten(_plain(item))} of {cell}'
  if len(item) == 3 and isinstance(item[2], float | Call):  # a weight, in logs of GDAS
    item = item[:2]
  op, *nodes = item
  if len(nodes) == 1 and isinstance(op, int) and isinstance(nodes[0], str | Name):
    op, nodes = nodes[0], [op]
  if len(nodes) == 1 and type(op) is int and type(nodes[0]) is int:
    return nodes[0], op  # NASLib writes (src, number of the operation)
  if not isinstance(op, str | Name):
    raise ValueError(f'{where} stands no name of an operation')
  return op, *[number(node, where) for node in nodes]


def _triples(cell: str, entries: Sequence[tuple[Any, ...]]) -> CellEdges:
  """Returns the edges of entries with both ends; FairDARTS writes the target first."""
  if all(first < second for _, first, second in entries):
    return CellEdges([(op, src, dst) for op, src, dst in entries], NATIVE)
  if all(first > second for _, first, second in entries):
    edges = [(op, src, dst) for op, dst, src in entries]
    return CellEdges(edges, "FairDARTS' form, (operation, target, source)", every_edge=True)
  wrong = next(entry for entry in entries if entry[1] >= entry[2])
  raise ValueError(f'{cell} has the edge {shorten(_plain(wrong))}; src must be less than dst')


def _is_every_edge(sources: Sequence[int], concat: Any) -> bool:
  """Tells if entries stand for all edges in order: 0 1, 0 1 2, 0 1 2 3 and so on."""
  nodes, total = 0, 0
  while total < len(sources):
    nodes += 1
    total += nodes + 1
  wanted = [src for dst in range(2, nodes + 2) for src in range(dst)]
  last = (
    max(concat, default=0) if _is_list(concat) and all(type(n) is int for n in concat) else None
  )
  return nodes > 1 and list(sources) == wanted and last in (None, nodes + 1)


def _is_list(value: Any) -> bool:
  return isinstance(value, list | tuple)


def _plain(value: Any) -> Any:
  """Returns a value for a message, with words in place of `Name`."""
  if isinstance(value, Name):
    return value.text
  return tuple(_plain(item) for item in value) if _is_list(value) else value


def mapping_of(value: Any) -> Mapping[Any, Any] | None:
  """Returns the fields of a genotype, or of another dict, that a value stands for; else None.

  Args:
    value: a dict, a call such as `Genotype(...)`, pairs of keys and values, or a tuple of the
      four fields, or of two cells.
  """
  if isinstance(value, Call):
    if len(value.values) == 1 and not value.fields:
      return mapping_of(value.values[0])
    given = dict(zip(FIELDS, value.values)) if 2 <= len(value.values) <= 4 else {}
    return {**given, **value.fields}
  if isinstance(value, Mapping):
    return value
  if not _is_list(value):
    return None
  if value and all(
    _is_list(item) and len(item) == 2 and isinstance(item[0], str) for item in value
  ):
    with_keys = all(isinstance(item[1], str) or _is_list(item[1]) for item in value)
    return dict_of([tuple(item) for item in value]) if with_keys else None
  if len(value) == 4 and all(map(_is_list, value)) and all(type(n) is int for n in value[1]):
    return dict(zip(FIELDS, value))
  if len(value) == 2 and all(_is_list(cell) and len(cell) > 1 for cell in value):
    entries = [item for cell in value for item in cell]
    if all(_is_list(item) and item for item in entries):
      return dict(zip(CELL_TYPES, value))
  return None


# Other names of the two cells.
_CELL_NAMES = {
  'normal_cell': 'normal', 'reduction': 'reduce', 'reduction_cell': 'reduce',
  'reduce_cell': 'reduce', 'reduction_concat': 'reduce_concat',
}  # fmt: skip


def with_usual_names(mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
  """Returns a mapping in which the two cells have the names that DARTS gives them."""
  if 'normal' in mapping and 'reduce' in mapping:
    return mapping
  return {
    _CELL_NAMES.get(key, key) if isinstance(key, str) else key: item
    for key, item in mapping.items()
  }
