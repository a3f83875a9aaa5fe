"""From the edges that a written form has to the fields of a genotype.

A form may say less than a genotype, or more. Then a note says how it was read.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stretchnas_jax.cells.genotype_calls import Name
from stretchnas_jax.cells.genotype_text import shorten
from stretchnas_jax.cells.space import CELL_TYPES, OPERATIONS, CellEdge, meant

MAX_EDGES = 5000
"""The most entries of a cell that are read."""

# The operations by number in NASLib's compact form.
_NASLIB_ORDER = OPERATIONS[:7]

# Other names of operations, in small letters and without other characters.
_ALIASES = {re.sub('[^a-z0-9]', '', name): name for name in OPERATIONS} | {
  'skip': 'skip_connect', 'skipconnection': 'skip_connect', 'identity': 'skip_connect',
  'factorizedreduce': 'skip_connect', 'max': 'max_pool_3x3', 'maxpool': 'max_pool_3x3',
  'avg': 'avg_pool_3x3', 'avgpool': 'avg_pool_3x3', 'averagepool': 'avg_pool_3x3',
  'sep3': 'sep_conv_3x3', 'sep5': 'sep_conv_5x5', 'sep7': 'sep_conv_7x7', 'dil3': 'dil_conv_3x3',
  'dil5': 'dil_conv_5x5', 'duasepc3x3': 'sep_conv_3x3', 'duasepc5x5': 'sep_conv_5x5',
  'dilsepc3x3': 'dil_conv_3x3', 'dilsepc5x5': 'dil_conv_5x5', 'zero': 'none', 'none': 'none',
}  # fmt: skip

# The operations of NAS-Bench-201 that no cell of this package has.
_BENCH_201 = {'norconv1x1', 'norconv3x3', 'norconv7x7'}


class Cells(NamedTuple):
  """The fields of a genotype, as a text has them.

  Attributes:
    fields: as `Genotype.from_dict` takes them.
    form: the name of the form.
    notes: sentences on what the form leaves open, or says beyond a genotype.
  """

  fields: dict[str, Any]
  form: str
  notes: tuple[str, ...] = ()


class CellEdges(NamedTuple):
  """The edges of one cell; an operation may be `none`.

  Attributes:
    edges: `(operation, src, dst)`.
    form: the name of the form.
    every_edge: True for a form that gives an operation to each edge, or leaves nodes out.
  """

  edges: list[tuple[Any, int, int]]
  form: str
  every_edge: bool = False


def finished(
  cells: Mapping[str, CellEdges],
  concats: Mapping[str, Any],
  operations: Sequence[str],
  notes: Sequence[str] = (),
) -> Cells:
  """Returns the cells of a genotype from the edges that a form has.

  Operations get the names of this package. Edges of `none` are left out, and so are nodes without
  an input where the form may have them.

  Args:
    cells: by cell type.
    concats: the concatenated nodes by cell type; None for a form that does not say them.
    operations: names of operations beside the known ones.
    notes: sentences of the form itself.

  Raises:
    ValueError: an operation is unknown, or a value is none of the form.
  """
  fields, found, renamed = {}, list(notes), {}
  for cell in CELL_TYPES:
    edges = [(_operation(op, operations, renamed), src, dst) for op, src, dst in cells[cell].edges]
    kept = [edge for edge in edges if edge[0] != 'none']
    if len(kept) < len(edges):
      found.append(f'{cell}: {len(edges) - len(kept)} edges of the operation none are left out')
    concat = concats[cell] and numbers(f'{cell}_concat', concats[cell])
    if len(kept) < len(edges) or cells[cell].every_edge:
      kept, concat = _without_dead_nodes(cell, kept, concat, found)
    if concat is None:
      concat = sorted({dst for _, _, dst in kept})
    fields[cell], fields[f'{cell}_concat'] = [list(edge) for edge in kept], concat
  if None in concats.values():
    found.append(
      'it does not say which nodes are concatenated: all of them are, as in DARTS; in a space with '
      'loose ends the network would be another one'
    )
  if renamed:
    found.append('; '.join(f'{theirs} is read as {ours}' for theirs, ours in renamed.items()))
  if any(type(op) is int for cell in CELL_TYPES for op, _, _ in cells[cell].edges):
    order = ', '.join(f'{i} {name}' for i, name in enumerate(_NASLIB_ORDER))
    found.append(f"operations are numbers, in NASLib's order: {order}")
  forms = dict.fromkeys(cells[cell].form for cell in CELL_TYPES)
  return Cells(fields, ' and '.join(forms), tuple(found))


def _without_dead_nodes(
  cell: str, edges: list[CellEdge], concat: list[int] | None, notes: list[str]
) -> tuple[list[CellEdge], list[int] | None]:
  """Leaves out nodes without an input, and the edges from them; adds a note."""
  before = {dst for _, _, dst in edges} | {src for _, src, _ in edges} | set(concat or ())
  fed: set[int] = {0, 1}
  kept = []
  for edge in sorted(edges, key=lambda edge: edge[2]):
    if edge[1] in fed:
      fed.add(edge[2])
      kept.append(edge)
  dead = sorted(before - fed)
  if dead:
    notes.append(f'{cell}: nodes without an input are left out: {", ".join(map(str, dead[:8]))}')
  return kept, None if concat is None else [node for node in concat if node in fed]


def _operation(op: Any, operations: Sequence[str], renamed: dict[str, str]) -> str:
  """Returns the name that this package has for an operation; notes it where it is another one."""
  if isinstance(op, Name):
    op = op.text
  if type(op) is int and 0 <= op < len(_NASLIB_ORDER):
    return _NASLIB_ORDER[op]
  if not isinstance(op, str):
    raise ValueError(f'where the name of an operation belongs stands {shorten(op)}')
  if op in operations or op in OPERATIONS:
    return op
  plain = re.sub('[^a-z0-9]', '', op.lower()[:40])
  if plain in _ALIASES:
    if _ALIASES[plain] != op and len(renamed) < 8:
      renamed[shorten(op)[1:-1]] = _ALIASES[plain]
    return _ALIASES[plain]
  if plain in _BENCH_201:
    raise ValueError(
      f'the operation {shorten(op)} belongs to NAS-Bench-201, and a cell here has none like it'
    )
  known = (*OPERATIONS, *operations)
  raise ValueError(f'the operation {shorten(op)} is unknown; {meant(op, known)}')


def number(value: Any, where: str) -> int:
  """Returns a whole number; ValueError for everything else, and for bool.

  Args:
    value: perhaps a float without a fraction, or digits.
    where: the place, for an error.
  """
  if isinstance(value, str | Name):
    text = value.text if isinstance(value, Name) else value
    value = int(text) if text.isdigit() and text.isascii() and len(text) < 7 else text
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  if isinstance(value, bool) or not isinstance(value, int):
    raise ValueError(f'{where} stands {shorten(value)}; node numbers are whole numbers')
  if not -1000000 < value < 1000000:
    raise ValueError(f'{where} stands {value}; no cell has so many nodes')
  return value


def numbers(field: str, values: Any) -> list[int]:
  """Returns the nodes of a concat.

  Args:
    field: its name, for an error.
    values: a list of them, or one.
  """
  if isinstance(values, int) and not isinstance(values, bool):
    values = [values]
  if not isinstance(values, list | tuple) or len(values) > MAX_EDGES:
    raise ValueError(f'{field} is {shorten(values)}; it must be a list of nodes')
  return [number(value, f'in {field}') for value in values]
