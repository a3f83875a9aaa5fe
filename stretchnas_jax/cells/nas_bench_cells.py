"""The cells of NAS-Bench-201 and their text (Dong & Yang 2020).

A cell has one input, node 0, and three more nodes; the last one is its output. Each of its six
edges carries one of five operations, so that there are 15,625 cells. The field writes a cell as
`|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|`.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.cells.graph import Edge
from stretchnas_jax.cells.space import CellEdge

OPERATIONS = space_lib.NAS_BENCH_201_PRIMITIVES
"""The five operations; `none` means that there is no edge."""

EDGES: tuple[Edge, ...] = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The six edges `(src, dst)`, in the order of the text."""

NUM_CELLS = len(OPERATIONS) ** len(EDGES)

KEY = 'nas_bench_201'
"""The name of the text in the JSON form of a cell."""

_EXAMPLE = '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|'
_NODE = re.compile(r'\|(?:[^|~]+~[0-9]\|)+')
_ANYWHERE = re.compile(r'\|\w+~0\|\+\|\w+~\d\|\w+~\d\|\+\|\w+~\d\|\w+~\d\|\w+~\d\|')
_TERM = re.compile(r'([^|~]+)~([0-9])\|')


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell of NAS-Bench-201.

  Attributes:
    operations: a name of `OPERATIONS` for each of `EDGES`.

  Raises:
    ValueError: these are not six known names.

  Example:
    >>> Cell(('skip_connect',) * 6).has_path
    True
  """

  operations: tuple[str, ...]

  def __post_init__(self) -> None:
    if len(self.operations) != len(EDGES):
      raise ValueError(
        f'a cell of NAS-Bench-201 has {len(EDGES)} operations; these are {len(self.operations)}'
      )
    for name in self.operations:
      if name not in OPERATIONS:
        raise ValueError(
          f'the operation {name[:40]!r} is not in NAS-Bench-201; '
          f'{space_lib.meant(name, OPERATIONS)}'
        )

  @property
  def edges(self) -> tuple[CellEdge, ...]:
    """Returns the edges `(operation, src, dst)` that carry an operation other than `none`."""
    pairs = zip(self.operations, EDGES)
    return tuple((name, src, dst) for name, (src, dst) in pairs if name != 'none')

  @property
  def normal(self) -> tuple[CellEdge, ...]:
    """Returns the edges: the only type of cell is the normal one."""
    return self.edges

  def to_dict(self) -> dict[str, Any]:
    """Returns the content of the JSON form: the text under the name of the space, and the edges."""
    return {KEY: to_text(self), 'normal': [list(edge) for edge in self.edges]}

  @property
  def code(self) -> int:
    """Returns the number of the cell, from 0 to 15,624: its operations as digits to base 5."""
    code = 0
    for name in self.operations:
      code = len(OPERATIONS) * code + OPERATIONS.index(name)
    return code

  @property
  def has_path(self) -> bool:
    """Tells whether the output depends on the input; 341 cells have no path between them."""
    reached = {0}
    for (src, dst), name in zip(EDGES, self.operations):
      if src in reached and name != 'none':
        reached.add(dst)
    return 3 in reached


def from_code(code: int) -> Cell:
  """Returns the cell of a number from 0 to 15,624, see `Cell.code`.

  Example:
    >>> from_code(15_624).operations[0]
    'avg_pool_3x3'
  """
  if not 0 <= code < NUM_CELLS:
    raise ValueError(f'the code is {code}; it must be from 0 to {NUM_CELLS - 1}')
  operations = []
  for _ in EDGES:
    code, digit = divmod(code, len(OPERATIONS))
    operations.append(OPERATIONS[digit])
  return Cell(tuple(reversed(operations)))


def codes_of(digits: Int[np.ndarray, 'n 6']) -> Int[np.ndarray, ' n']:
  """Returns the codes of cells whose operations are given by their places in `OPERATIONS`."""
  return digits @ len(OPERATIONS) ** np.arange(len(EDGES))[::-1]


def have_paths() -> Bool[np.ndarray, '15625']:
  """Returns `Cell.has_path` of all cells, in the order of their codes."""
  digits = np.indices([len(OPERATIONS)] * len(EDGES)).reshape(len(EDGES), -1)
  reached = [np.ones(NUM_CELLS, bool)] + [np.zeros(NUM_CELLS, bool) for _ in range(3)]
  for (src, dst), digit in zip(EDGES, digits):
    reached[dst] |= reached[src] & (digit != OPERATIONS.index('none'))
  return reached[3]


def all_cells() -> Iterator[Cell]:
  """Yields the 15,625 cells in the order of their codes.

  Example:
    >>> sum(cell.has_path for cell in all_cells())
    15284
  """
  return map(from_code, range(NUM_CELLS))


def from_text(text: str) -> Cell:
  """Reads the text of a cell, `|operation~source|+|...|+|...|`.

  Args:
    text: a part for each of the nodes 1, 2 and 3. The sources of a node stand in any order, and
      white space around the text does not count.

  Raises:
    ValueError: the text is not that of a cell; the sentence names the fault.

  Example:
    >>> text = (
    ...   '|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|'
    ...   '+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|'
    ... )
    >>> from_text(text).operations[:2]
    ('nor_conv_3x3', 'nor_conv_3x3')
  """
  parts = text.strip().split('+')
  if len(parts) != 3 or not all(map(_NODE.fullmatch, parts)):
    raise ValueError(f'{text[:120]!r} is not a cell of NAS-Bench-201; one looks like {_EXAMPLE}')
  found: dict[Edge, str] = {}
  for node, part in enumerate(parts, start=1):
    terms = _TERM.findall(part)
    if sorted(int(source) for _, source in terms) != list(range(node)):
      sources = ', '.join(map(str, range(node)))
      raise ValueError(f'{text[:120]!r}: node {node} must have each source once: {sources}')
    found |= {(int(source), node): name for name, source in terms}
  return Cell(tuple(found[edge] for edge in EDGES))


def last_in(text: str) -> Cell | None:
  """Returns the last cell that stands anywhere in a text, for example in a log; None without any.

  Args:
    text: any text.
  """
  found = None
  for match in _ANYWHERE.finditer(text):
    with contextlib.suppress(ValueError):
      found = from_text(match.group())
  return found


def from_edges(edges: Iterable[CellEdge]) -> Cell:
  """Returns the cell that has these edges, and `none` on all others.

  Args:
    edges: `(operation, src, dst)`, at most one between two nodes.

  Raises:
    ValueError: an edge or an operation is not in NAS-Bench-201.

  Example:
    >>> from_edges([('skip_connect', 0, 3)]).operations
    ('none', 'none', 'none', 'skip_connect', 'none', 'none')
  """
  found = dict.fromkeys(EDGES, 'none')
  for operation, src, dst in edges:
    if found.get((src, dst)) != 'none':
      raise ValueError(
        f'the edge {src}->{dst} is not in NAS-Bench-201, or has two operations; it has one each'
      )
    found[src, dst] = operation
  return Cell(tuple(found.values()))


def decoded(edges: Iterable[CellEdge]) -> tuple[Cell, tuple[str, ...]]:
  """Returns the cell that a search has decoded, and a note where it has no path.

  Args:
    edges: see `from_edges`.
  """
  cell = from_edges(edges)
  note = 'no path leads from the input to the output: the network is constant'
  return cell, () if cell.has_path else (note,)


def from_dict(fields: Any) -> Cell:
  """Returns the cell of a JSON form, or raises ValueError.

  Args:
    fields: a dict with the text of a cell under the name `nas_bench_201`, and perhaps with its
      edges under the name `normal`.
  """
  known = isinstance(fields, dict) and isinstance(fields.get(KEY), str)
  if not known or not set(fields) <= {KEY, 'normal'}:
    raise ValueError(f'a cell of NAS-Bench-201 has the field {KEY!r}, a text, and perhaps normal')
  cell = from_text(fields[KEY])
  if fields.get('normal', cell.to_dict()['normal']) != cell.to_dict()['normal']:
    raise ValueError(f'the edges in normal are not those of the cell {fields[KEY]}')
  return cell


def to_text(cell: Cell) -> str:
  """Returns the text of a cell, as NAS-Bench-201 writes it.

  Example:
    >>> to_text(from_edges([('skip_connect', 0, 3)]))
    '|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|'
  """
  nodes = []
  for node in (1, 2, 3):
    terms = [f'{op}~{src}' for op, (src, dst) in zip(cell.operations, EDGES) if dst == node]
    nodes.append(f'|{"|".join(terms)}|')
  return '+'.join(nodes)
