"""Search spaces: a graph and the operations that may stand on its edges."""

import dataclasses
import difflib
from collections.abc import Sequence

from stretchnas_jax.cells import graph as graph_lib

CellEdge = tuple[str, int, int]
"""An edge of a cell: `(operation, src, dst)`."""

CELL_TYPES = ('normal', 'reduce')
"""The two types of cell. Cells of type 'reduce' halve the feature maps."""

DARTS_PRIMITIVES = (
  'none',
  'max_pool_3x3',
  'avg_pool_3x3',
  'skip_connect',
  'sep_conv_3x3',
  'sep_conv_5x5',
  'dil_conv_3x3',
  'dil_conv_5x5',
)

# The operations of published cells. `none` is absent, as it means that there is no edge; the last
# two are NASNet's.
OPERATIONS = DARTS_PRIMITIVES[1:] + ('sep_conv_7x7', 'conv_7x1_1x7')


@dataclasses.dataclass(frozen=True, init=False)
class SearchSpace:
  """A graph and the O operations that compete on each of its edges.

  Attributes:
    graph: the graph of both cell types.
    primitives: O distinct names of operations, known ones or a researcher's own. The operation
      `none` gives zero, and no derived cell holds it.

  Raises:
    ValueError: `primitives` is not a sequence of distinct names, or holds `none` alone.
  """

  graph: graph_lib.CellGraph
  primitives: tuple[str, ...]

  def __init__(self, graph: graph_lib.CellGraph, primitives: Sequence[str]) -> None:
    object.__setattr__(self, 'graph', graph)
    object.__setattr__(self, 'primitives', _checked_names(primitives))

  @property
  def num_operations(self) -> int:
    """Returns O, `none` included."""
    return len(self.primitives)


def darts_space(num_intermediate: int = 4, with_none: bool = False) -> SearchSpace:
  """Builds the search space of DARTS (Liu et al. 2018).

  Args:
    num_intermediate: S, the number of intermediate nodes.
    with_none: whether `none` is among the operations, as in DARTS; the paper leaves it out.

  Returns:
    The space, with 8 operations or, without `none`, 7.
  """
  primitives = DARTS_PRIMITIVES if with_none else DARTS_PRIMITIVES[1:]
  return SearchSpace(graph_lib.CellGraph(num_intermediate), primitives)


def meant(name: str, known: Sequence[str]) -> str:
  """Returns words about an unknown operation: the one that was probably meant, or known ones.

  Args:
    name: the unknown operation.
    known: the names of the known ones.
  """
  close = difflib.get_close_matches(name[:40], known, n=1)
  if close:
    return f'did you mean {close[0]}?'
  more = f' and {len(known) - 7} more' if len(known) > 8 else ''
  return f'known are {", ".join(known[:7] if more else known)}{more}'


def reduction_layers(num_layers: int) -> tuple[int, int]:
  """Returns the layers whose cells are reduction cells: at 1/3 and 2/3 of the depth.

  Both are layer 0 in a network of one layer.
  """
  return num_layers // 3, 2 * num_layers // 3


def _checked_names(names: Sequence[str]) -> tuple[str, ...]:
  """Returns the names of a search space as a tuple, or raises ValueError."""
  if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
    raise ValueError(f'primitives is {names!r}; it must be a sequence of names')
  names = tuple(names)
  repeated = sorted({name for name in names if names.count(name) > 1})
  if repeated:
    raise ValueError(f'primitives names {repeated[0]!r} more than once; names must be distinct')
  if not set(names) - {'none'}:
    raise ValueError(f'primitives is {names!r}; it must hold an operation other than none')
  return names
