"""Edge groups: the edges that leave a node of a cell, which share the node's feature map."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from stretchnas_jax.cells.graph import CellGraph
from stretchnas_jax.networks.forms.batch_norm import Averages


class EdgeGroup(NamedTuple):
  """The edges that leave some consecutive nodes of a cell, all of one stride.

  Attributes:
    first: the first of the J nodes.
    edges: `((source, target), ...)` of all E edges, by source, then target.
    start: the number of edges of the cell that come before these in that order.
    stride: the stride of these edges, 1 or 2.
  """

  first: int
  edges: tuple[tuple[int, int], ...]
  start: int
  stride: int

  @property
  def rows(self) -> slice:
    """The places of these edges among the cell's edges, by source."""
    return slice(self.start, self.start + len(self.edges))

  @property
  def bounds(self) -> Int[np.ndarray, 'n']:
    """`[J + 1]`: the places in `edges` where each node's edges begin, and the end of the last."""
    sources = [source for source, _ in self.edges]
    return np.searchsorted(sources, np.arange(self.first, sources[-1] + 2))

  @property
  def num_sources(self) -> int:
    """J, the number of nodes that these edges leave."""
    return len(self.bounds) - 1

  def shares(self, name: str) -> bool:
    """Returns whether all edges of a node share an operation, because it has no parameters."""
    return '_pool_' in name or (name == 'skip_connect' and self.stride == 1)


def split_edges(graph: CellGraph, reduction: bool, together: bool) -> list[EdgeGroup]:
  """Returns all edges of a cell in groups.

  Args:
    graph: the graph of the cell.
    reduction: whether the edges that leave the two inputs have stride 2.
    together: whether all nodes whose edges have one stride form one group; else each node has its
      own.
  """
  if together:
    starts = [0, 2] if reduction else [0]
  else:
    starts = list(range(graph.num_nodes - 1))
  groups, by_source = [], sorted(graph.edges)
  for first, stop in zip(starts, [*starts[1:], graph.num_nodes]):
    edges = tuple(edge for edge in by_source if first <= edge[0] < stop)
    if edges:  # a graph of one intermediate node has no edge that leaves it
      stride = 2 if reduction and first < 2 else 1
      groups.append(EdgeGroup(first, edges, by_source.index(edges[0]), stride))
  return groups


def join_moments(parts: Sequence[Averages]) -> dict[str, Mapping[str, Array]]:
  """Returns the moments of a whole cell from those of its edge groups, in their order."""
  names = dict.fromkeys(name for part in parts for name in part)
  return {
    name: jax.tree.map(
      lambda *moments: jnp.concatenate(moments), *[part[name] for part in parts if name in part]
    )
    for name in names
  }
