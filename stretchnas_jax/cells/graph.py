"""The directed acyclic graph of a cell."""

import dataclasses
import functools

Edge = tuple[int, int]
"""An edge `(src, dst)` of a graph."""


@dataclasses.dataclass(frozen=True)
class CellGraph:
  """Two inputs, nodes 0 and 1, and S intermediate nodes 2 .. S+1, each fed by all before it.

  There is no edge 0 -> 1: both inputs are outputs of earlier cells.

  Attributes:
    num_intermediate: S; DARTS has 4, the paper's stretchable cells 6.

  Raises:
    ValueError: `num_intermediate` is not a whole number of at least 1.
  """

  num_intermediate: int

  def __post_init__(self) -> None:
    s = self.num_intermediate
    if isinstance(s, bool) or not isinstance(s, int) or s < 1:
      raise ValueError(f'num_intermediate is {s!r}; it must be a whole number of at least 1')

  @property
  def num_nodes(self) -> int:
    """Returns the number of nodes, inputs included: S + 2."""
    return self.num_intermediate + 2

  @functools.cached_property
  def edges(self) -> tuple[Edge, ...]:
    """Lists `(src, dst)` in DARTS' order: by destination, then by source."""
    return tuple((i, j) for j in range(2, self.num_nodes) for i in range(j))

  def out_edges(self, node: int) -> tuple[int, ...]:
    """Returns the indices of the edges that leave a node, by destination."""
    return tuple(e for e, (src, _) in enumerate(self.edges) if src == node)

  def in_edges(self, node: int) -> tuple[int, ...]:
    """Returns the indices of the edges that enter a node, by source."""
    return tuple(e for e, (_, dst) in enumerate(self.edges) if dst == node)
