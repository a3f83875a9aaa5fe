"""Fans: the edges that leave a node of a cell, which share what enters them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Fans(NamedTuple):
  """The edges that leave some consecutive nodes of a cell.

  Attributes:
    first: the first of the J nodes.
    edges: `((source, target), ...)` of all E edges, by source, then target.
    start: how many edges of the cell come before them in this order.
    stride: of these edges, 1 or 2.
  """

  first: int
  edges: tuple
  start: int
  stride: int

  @property
  def rows(self):
    """Which of the cell's edges these are."""
    return slice(self.start, self.start + len(self.edges))

  @property
  def bounds(self):
    """`[J + 1]`: where the edges of each node begin, and where the last end."""
    sources = [source for source, _ in self.edges]
    return np.searchsorted(sources, np.arange(self.first, sources[-1] + 2))

  def shares(self, name):
    """Whether an operation is computed once for all edges of a node, having no parameters."""
    return '_pool_' in name or (name == 'skip_connect' and self.stride == 1)


def fans_of(graph, reduction, together):
  """All edges of a cell, cut into fans.

  Args:
    graph: a `CellGraph`.
    reduction: whether the edges that leave the two inputs have stride 2.
    together: whether fans of one stride may stand side by side, else each is alone.
  """
  cuts = [0, 2] if reduction else [0]
  cuts = cuts if together else range(graph.num_nodes - 1)
  parts, by_source = [], sorted(graph.edges)
  for first, stop in zip(cuts, [*cuts[1:], graph.num_nodes]):
    edges = tuple(edge for edge in by_source if first <= edge[0] < stop)
    if edges:
      stride = 2 if reduction and first < 2 else 1
      parts.append(Fans(first, edges, by_source.index(edges[0]), stride))
  return parts


def gather_moments(parts):
  """Moments of one part of a cell after the other -> those of the cell."""
  names = dict.fromkeys(name for part in parts for name in part)
  return {
    name: jax.tree.map(
      lambda *moments: jnp.concatenate(moments), *[part[name] for part in parts if name in part]
    )
    for name in names
  }
