"""Search spaces: a graph and the operations that may stand on its edges."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from stretchnas_jax.cells import graph as graph_lib
from stretchnas_jax.cells.arrays import AnyArray

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

WITHOUT_WEIGHTS = ('none', 'noise', 'max_pool_3x3', 'avg_pool_3x3', 'skip_connect')
"""The operations that learn nothing, at stride 1."""

NAS_BENCH_201_PRIMITIVES = (
  'none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3',
)  # fmt: skip

_Rows = tuple[tuple[bool, ...], ...]


@dataclasses.dataclass(frozen=True, init=False)
class SearchSpace:
  """A graph and the O operations that compete on each of its edges.

  Attributes:
    graph: the graph of both cell types.
    primitives: O distinct names of operations, known ones or a researcher's own. The operation
      `none` gives zero, and no derived cell holds it.
    allowed: for each cell type a bool `[E, O]`, which operations an edge may have. None: all.

  Raises:
    ValueError: `primitives` is not a sequence of distinct names, or holds `none` alone; `allowed`
      has another shape, or an edge without any operation.

  Example:
    >>> from stretchnas_jax import CellGraph
    >>> SearchSpace(CellGraph(2), ('skip_connect', 'sep_conv_3x3')).num_operations
    2
  """

  graph: graph_lib.CellGraph
  primitives: tuple[str, ...]
  _allowed: tuple[_Rows, ...] | None = dataclasses.field(repr=False)

  def __init__(
    self,
    graph: graph_lib.CellGraph,
    primitives: Sequence[str],
    allowed: Mapping[str, Bool[np.ndarray, 'E O']] | None = None,
  ) -> None:
    object.__setattr__(self, 'graph', graph)
    object.__setattr__(self, 'primitives', _checked_names(primitives))
    shape = (len(graph.edges), len(self.primitives))
    rows = None if allowed is None else _checked_allowed(allowed, shape, self.cell_types)
    object.__setattr__(self, '_allowed', rows)

  @property
  def allowed(self) -> dict[str, Bool[np.ndarray, 'E O']] | None:
    """Returns which operations an edge may have, by cell type; None where it may have all."""
    if self._allowed is None:
      return None
    return {cell: np.array(rows, bool) for cell, rows in zip(self.cell_types, self._allowed)}

  @property
  def cell_types(self) -> tuple[str, ...]:
    """Returns the types of cell: both, or 'normal' alone where residual blocks halve the maps."""
    return CELL_TYPES if self.graph.output == 'concat' else CELL_TYPES[:1]

  @property
  def num_operations(self) -> int:
    """Returns O, `none` included."""
    return len(self.primitives)

  def allowed_on(
    self, cell: str, more: Bool[AnyArray, 'E O'] | None = None
  ) -> Bool[AnyArray, 'E O'] | None:
    """Returns which operations an edge of a cell type may have; None where it may have all.

    Args:
      cell: the cell type.
      more: which operations are allowed beside; it may be traced. None: all.
    """
    if self._allowed is None:
      return more
    own = np.array(self._allowed[self.cell_types.index(cell)], bool)
    return own if more is None else own & more


def darts_space(num_intermediate: int = 4, with_none: bool = False) -> SearchSpace:
  """Builds the search space of DARTS (Liu et al. 2018).

  Args:
    num_intermediate: S, the number of intermediate nodes.
    with_none: whether `none` is among the operations, as in DARTS; the paper leaves it out.

  Returns:
    The space, with 8 operations or, without `none`, 7.

  Example:
    >>> darts_space().num_operations, darts_space(with_none=True).num_operations
    (7, 8)
  """
  primitives = DARTS_PRIMITIVES if with_none else DARTS_PRIMITIVES[1:]
  return SearchSpace(graph_lib.CellGraph(num_intermediate), primitives)


def nas_bench_201(with_none: bool = True) -> SearchSpace:
  """Builds the search space of NAS-Bench-201 (Dong & Yang 2020), of one cell type.

  Args:
    with_none: whether `none` is among the operations. Stretchable cells drop an edge by a code of
      their topology, and need no `none`.

  Returns:
    The space: one input, six edges, the last node is the output.

  Example:
    >>> nas_bench_201().graph.edges
    ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
  """
  primitives = NAS_BENCH_201_PRIMITIVES if with_none else NAS_BENCH_201_PRIMITIVES[1:]
  return SearchSpace(graph_lib.CellGraph(3, num_inputs=1, output='last'), primitives)


def meant(name: str, known: Sequence[str]) -> str:
  """Returns words about an unknown operation: the one that was probably meant, or known ones.

  The operation `noise` of S4 is known to searches alone; the words say what to do instead.

  Args:
    name: the unknown operation.
    known: the names of the known ones.

  Example:
    >>> meant('sep_conv3x3', OPERATIONS)
    'did you mean sep_conv_3x3?'
  """
  if name == 'noise':
    return (
      'only a search has it, and a cell with noise cannot be trained: take one without it, such as '
      'that of another epoch (FOLDER@EPOCH)'
    )
  close = difflib.get_close_matches(name[:40], known, n=1)
  if close:
    return f'did you mean {close[0]}?'
  more = f' and {len(known) - 7} more' if len(known) > 8 else ''
  return f'known are {", ".join(known[:7] if more else known)}{more}'


def reduction_layers(num_layers: int) -> tuple[int, int]:
  """Returns the layers whose cells are reduction cells: at 1/3 and 2/3 of the depth.

  Both are layer 0 in a network of one layer.

  Example:
    >>> sorted(reduction_layers(8))
    [2, 5]
  """
  return num_layers // 3, 2 * num_layers // 3


def _checked_allowed(
  allowed: Mapping[str, Bool[np.ndarray, 'E O']],
  shape: tuple[int, int],
  cell_types: tuple[str, ...],
) -> tuple[_Rows, ...]:
  """Returns the allowed operations of all cell types as tuples, or raises ValueError."""
  if not isinstance(allowed, Mapping) or set(allowed) != set(cell_types):
    raise ValueError(f'allowed must have exactly the cell types {" and ".join(cell_types)}')
  for cell in cell_types:
    mask = np.asarray(allowed[cell])
    if mask.shape != shape or mask.dtype != bool:
      raise ValueError(
        f'allowed[{cell!r}] has the shape {mask.shape} and the type {mask.dtype}; it must be '
        f'{shape} and bool'
      )
    if not mask.any(1).all():
      raise ValueError(f'allowed[{cell!r}] leaves edge {int(mask.any(1).argmin())} no operation')
  return tuple(tuple(map(tuple, np.asarray(allowed[cell]).tolist())) for cell in cell_types)


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
