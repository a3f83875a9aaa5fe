"""Edge groups: the edges that leave a node of a cell, which share the node's feature map."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from stretchnas_jax.cells.graph import Edge
from stretchnas_jax.networks.forms.batch_norm import Averages
from stretchnas_jax.networks.forms.draws import Draws

AUXILIARY_SKIP = 'auxiliary_skip'
"""An own skip connection of each edge beside its mixture (DARTS-)."""

BYPASS = 'bypass'
"""The channels that pass an edge by, where its operations see a part of them (PC-DARTS)."""

DROPPED_SKIP = 'dropped_skip'
"""`skip_connect` at stride 1 with dropout, so that each edge has its own map (P-DARTS)."""

RESERVED = (AUXILIARY_SKIP, BYPASS, DROPPED_SKIP)
"""The names above, which no operation of a search space may have."""


class Bundle(NamedTuple):
  """Operations that stand on the same edges of a group, and are computed together.

  Attributes:
    names: the operations.
    places: the places of these edges in the group.
  """

  names: tuple[str, ...]
  places: tuple[int, ...]


class EdgeGroup(NamedTuple):
  """The edges that leave some consecutive nodes of a cell, all of one stride.

  Attributes:
    first: the first of the J nodes.
    edges: `((source, target), ...)` of all E edges, by source, then target.
    start: the number of edges of the cell that come before these in that order.
    stride: the stride of these edges, 1 or 2.
    some: `((name, places), ...)` of the operations that do not stand on all of these edges.
    split: K; operations see the first C / K channels.
  """

  first: int
  edges: tuple[tuple[int, int], ...]
  start: int
  stride: int
  some: tuple[tuple[str, tuple[int, ...]], ...] = ()
  split: int = 1

  @property
  def rows(self) -> slice:
    """The places of these edges among the cell's edges, by source."""
    return slice(self.start, self.start + len(self.edges))

  @property
  def num_sources(self) -> int:
    """J, the number of nodes that these edges leave."""
    return self.edges[-1][0] + 1 - self.first

  def bounds(self, places: Sequence[int]) -> Int[np.ndarray, 'n']:
    """`[J + 1]`: where each node's edges begin among some edges, and the end of the last."""
    sources = [self.edges[place][0] for place in places]
    return np.searchsorted(sources, np.arange(self.first, self.first + self.num_sources + 1))

  def targets(self, places: Sequence[int]) -> Int[np.ndarray, 'n']:
    """The nodes where some edges end."""
    return np.array([self.edges[place][1] for place in places])

  def places(self, name: str) -> tuple[int, ...]:
    """The places of the edges that have an operation."""
    name = 'skip_connect' if name == DROPPED_SKIP else name
    return dict(self.some).get(name, tuple(range(len(self.edges))))

  def sources_with(self, name: str) -> tuple[int, ...]:
    """The nodes, counted from the first, from which an edge with an operation leaves."""
    return tuple(sorted({self.edges[place][0] - self.first for place in self.places(name)}))

  def shares(self, name: str) -> bool:
    """Returns whether all edges of a node share an operation, because it has no parameters."""
    if name in ('skip_connect', AUXILIARY_SKIP):
      return self.stride == 1
    return '_pool_' in name or name == BYPASS

  def bundles(self, names: Sequence[str], apart: bool = False) -> tuple[Bundle, ...]:
    """Returns operations in bundles.

    Args:
      names: the operations.
      apart: whether each operation is a bundle of its own.
    """
    found: dict[object, list[str]] = {}
    for name in names:
      alone = apart or name in (DROPPED_SKIP, 'noise')
      found.setdefault(name if alone else self.places(name), []).append(name)
    return tuple(Bundle(tuple(some), self.places(some[0])) for some in found.values())


class Extras(NamedTuple):
  """Inputs of a group that few searches need; none of them has a gradient.

  Attributes:
    active: for each operation `[n]`, 0 where it need not be computed; None to compute all.
    edge_drop: `[E, B]`, a factor of each edge for each image; None for 1.
    draws: of the E edges; None for no random maps.
  """

  active: Mapping[str, Float[Array, '_']] | None = None
  edge_drop: Float[Array, 'E B'] | None = None
  draws: Draws | None = None


NO_EXTRAS = Extras()


def split_edges(by_source: Sequence[Edge], reduction: bool, together: bool) -> list[EdgeGroup]:
  """Returns all edges of a cell in groups.

  Args:
    by_source: the edges of the cell, by source, then target.
    reduction: whether the edges that leave the two inputs have stride 2.
    together: whether all nodes whose edges have one stride form one group; else each node has its
      own.
  """
  last = by_source[-1][0]
  if together:
    starts = [0, 2] if reduction else [0]
  else:
    starts = list(range(last + 1))
  groups = []
  for first, stop in zip(starts, [*starts[1:], last + 1]):
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
