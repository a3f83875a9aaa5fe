"""The directed acyclic graph of a cell."""

import dataclasses
import functools
from typing import Any

import numpy as np

Edge = tuple[int, int]
"""An edge `(src, dst)` of a graph."""


def whole_number(name: str, value: Any) -> int:
  """Returns a positive whole number of Python or of NumPy as one of Python.

  Args:
    name: of the value, for the message.
    value: any value.

  Raises:
    ValueError: it is anything else.

  Example:
    >>> whole_number('k', np.int64(3))
    3
  """
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
    raise ValueError(f'{name} is {value!r}; it must be a whole number of at least 1')
  return int(value)


@dataclasses.dataclass(frozen=True)
class CellGraph:
  """Inputs, nodes 0 and 1, and S intermediate nodes 2 .. S+1, each fed by all before it.

  There is no edge 0 -> 1: both inputs are outputs of earlier cells. With one input, as in
  NAS-Bench-201, it is node 0, and the others are 1 .. S.

  Attributes:
    num_intermediate: S; DARTS has 4, the paper's stretchable cells 6, NAS-Bench-201 has 3.
    num_inputs: 2, or 1.
    output: the value that a cell hands on: 'concat' for all intermediate nodes side by side, or
      'last' for the last of them.

  Raises:
    ValueError: `num_intermediate` is not a whole number of at least 1, or another value is unknown.

  Example:
    >>> CellGraph(2).edges
    ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    >>> len(CellGraph(4).edges)
    14
  """

  num_intermediate: int
  num_inputs: int = 2
  output: str = 'concat'

  def __post_init__(self) -> None:
    size = whole_number('num_intermediate', self.num_intermediate)
    object.__setattr__(self, 'num_intermediate', size)  # JSON has no integers of NumPy
    if self.num_inputs not in (1, 2):
      raise ValueError(f'num_inputs is {self.num_inputs!r}; it must be 1 or 2')
    if self.output not in ('concat', 'last'):
      raise ValueError(f"output is {self.output!r}; it must be 'concat' or 'last'")

  @property
  def num_nodes(self) -> int:
    """Returns the number of nodes, inputs included."""
    return self.num_intermediate + self.num_inputs

  @functools.cached_property
  def edges(self) -> tuple[Edge, ...]:
    """Lists `(src, dst)` in DARTS' order: by destination, then by source."""
    return tuple((i, j) for j in range(self.num_inputs, self.num_nodes) for i in range(j))

  def out_edges(self, node: int) -> tuple[int, ...]:
    """Returns the indices of the edges that leave a node, by destination.

    Example:
      >>> CellGraph(2).out_edges(0)
      (0, 2)
    """
    return tuple(e for e, (src, _) in enumerate(self.edges) if src == node)

  def in_edges(self, node: int) -> tuple[int, ...]:
    """Returns the indices of the edges that enter a node, by source.

    Example:
      >>> CellGraph(2).in_edges(3)
      (2, 3, 4)
    """
    return tuple(e for e, (_, dst) in enumerate(self.edges) if dst == node)
