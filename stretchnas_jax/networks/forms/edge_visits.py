"""What the loops of `edge_loop` compute at one node and on one edge, and the gradients of both.

Each is a `jax.jit`. XLA inlines it, but JAX traces it once for all callers with equal shapes.

Letters: S + 2 nodes of a cell, C channels, B images; D of the channels pass the edges by.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from stretchnas_jax.networks.forms import edge_mixture, partial_channels
from stretchnas_jax.networks.forms.batch_norm import Averages, BatchNorms
from stretchnas_jax.networks.forms.edge_groups import BYPASS, DROPPED_SKIP, Bundle, EdgeGroup
from stretchnas_jax.networks.forms.edge_mixture import EdgeGiven
from stretchnas_jax.networks.forms.loop_arrays import (
  BundleGiven,
  ByEdge,
  BySource,
  Index,
  Number,
  row,
)


class Parts(NamedTuple):
  """Maps that a node adds to all nodes after it, each None where there are none.

  Attributes:
    mixture: of the operations that its edges share.
    bypass: of the channels that pass its edges by.
  """

  mixture: Float[Array, 'S C h w B'] | None
  bypass: Float[Array, 'S D h w B'] | None


class Edges(NamedTuple):
  """The edges of a bundle as the loops see them.

  Attributes:
    bounds: `[J + 1]`, the rows where each node's edges begin, and the end of the last.
    targets: `[n]`, the nodes where they end.
    see_node: whether they see the node itself; others see it after ReLU.
  """

  bounds: Int[Array, 'n']
  targets: Int[Array, 'n']
  see_node: bool

  def source(self, x: Array, r: Array) -> Array:
    """Returns the node or, for other edges, the node after ReLU."""
    return x if self.see_node else r


def edges_of(group: EdgeGroup, bundles: tuple[Bundle, ...]) -> list[Edges]:
  """Returns the edges of all bundles of a group."""
  found = []
  for names, places in bundles:
    bounds, targets = jnp.array(group.bounds(places)), jnp.array(group.targets(places))
    found.append(Edges(bounds, targets, DROPPED_SKIP in names))
  return found


# ---- channels ------------------------------------------------------------------------------------


def read(group: EdgeGroup, sources: Float[Array, '_ C _ _ B'], j: Index) -> Float[Array, '...']:
  """Returns source j of a group as its edges see it.

  Args:
    group: the edges.
    sources: the maps that they leave. Those at stride 1 are not yet shuffled.
    j: counted from the first source of the group.
  """
  x = row(sources, j + group.first)
  return x if group.stride == 2 else partial_channels.shuffle(x, group.split, 0)


def unread(group: EdgeGroup, to_x: Float[Array, 'C H W B']) -> Float[Array, 'C H W B']:
  """Returns the gradient for a source as it is kept, from that for what `read` returns.

  Args:
    group: the edges.
    to_x: the gradient for the source as its edges see it.
  """
  return to_x if group.stride == 2 else partial_channels.unshuffle(to_x, group.split, 0)


def front(group: EdgeGroup, x: Float[Array, 'C _ _ B']) -> Float[Array, '_ _ _ B']:
  """Returns the channels that operations see."""
  return partial_channels.front(x, group.split, 0)


def add_parts(
  group: EdgeGroup, nodes: Float[Array, 'n C h w B'], parts: Parts
) -> Float[Array, 'n C h w B']:
  """Returns the nodes with the maps that a source adds to all of them.

  Args:
    group: the edges.
    nodes: S + 2 nodes.
    parts: the maps.
  """
  if group.split == 1:
    return nodes.at[2:].add(parts.mixture)
  channels = nodes.shape[1] // group.split
  if parts.mixture is not None:
    nodes = nodes.at[2:, :channels].add(parts.mixture)
  return nodes.at[2:, channels:].add(parts.bypass)


def take_parts(group: EdgeGroup, to_nodes: Float[Array, 'n C h w B'], parts: Parts) -> Parts:
  """Returns the gradients for the maps of a source from those for the nodes.

  Args:
    group: the edges.
    to_nodes: gradients for S + 2 nodes.
    parts: the maps, or their shapes.
  """
  if group.split == 1:
    return Parts(to_nodes[2:], None)
  channels = to_nodes.shape[1] // group.split
  fronts = None if parts.mixture is None else to_nodes[2:, :channels]
  return Parts(fronts, to_nodes[2:, channels:])


def add_edge(
  group: EdgeGroup, nodes: Float[Array, 'n C h w B'], target: Index, y: Float[Array, '_ h w B']
) -> Float[Array, 'n C h w B']:
  """Returns the nodes with the mixture of an edge.

  Args:
    group: the edges.
    nodes: S + 2 nodes.
    target: the node where the edge ends.
    y: the mixture.
  """
  if group.split == 1:
    return nodes.at[target].add(y)
  return nodes.at[target, : len(y)].add(y)


# ---- one node, one edge --------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(0, 1))
def shared(
  group: EdgeGroup, axis_name: str | None, data: BySource, x: Float[Array, 'C H W B']
) -> tuple[Parts, Averages]:
  """Computes the maps that a source adds to all nodes, and the moments of its batch norms.

  Args:
    group: the edges.
    axis_name: the parallel axis over which a batch is spread, or None.
    data: of the source.
    x: the source.

  Returns:
    The maps and the moments.
  """
  norms, mixture, bypass = BatchNorms(data.running, axis_name), None, None
  weights = {name: weight for name, weight in data.weights.items() if name != BYPASS}
  if weights:
    mixture = edge_mixture.shared(front(group, x), weights, group.stride, norms)
  if BYPASS in data.weights:
    bypass = edge_mixture.bypass(x, data.weights[BYPASS], group.stride, group.split)
  return Parts(mixture, bypass), norms.batch


@functools.partial(jax.jit, static_argnums=(0, 1))
def edge(
  group: EdgeGroup,
  axis_name: str | None,
  data: ByEdge,
  r: Float[Array, 'C H W B'],
  given: EdgeGiven,
) -> tuple[Float[Array, 'C h w B'], Averages]:
  """Computes the mixture that an edge adds to its target, and the moments of its batch norms.

  Args:
    group: the edges.
    axis_name: the parallel axis over which a batch is spread, or None.
    data: of the edge.
    r: as for `edge_mixture.edge`.
    given: the arguments without gradients.

  Returns:
    The mixture and the moments.
  """
  norms = BatchNorms(data.running, axis_name)
  y = edge_mixture.edge(data.params, r, data.weights, given, group.stride, norms)
  return y, norms.batch


def shared_vjp(
  group: EdgeGroup, axis_name: str | None, data: BySource, x: Float[Array, 'C H W B']
) -> tuple[Parts, Callable[[Parts], tuple[BySource, Array]]]:
  """Returns both halves of the gradient of `shared`, without moments; it has its arguments."""
  return jax.vjp(lambda data, x: shared(group, axis_name, data, x)[0], data, x)


def edge_vjp(
  group: EdgeGroup,
  axis_name: str | None,
  data: ByEdge,
  r: Float[Array, 'C H W B'],
  given: EdgeGiven,
) -> tuple[Array, Callable[[Array], tuple[ByEdge, Array]], Averages]:
  """Returns both halves of the gradient of `edge`, and the moments; it has its arguments."""
  return jax.vjp(lambda data, r: edge(group, axis_name, data, r, given), data, r, has_aux=True)


# ---- arguments without gradients -----------------------------------------------------------------


def given_for_edge(learning: Number, given: BundleGiven, e: Index) -> EdgeGiven:
  """Returns the arguments without gradients of one edge.

  Args:
    learning: as for `shifted_copies.depthwise`.
    given: those of all edges of a bundle.
    e: the row of the edge.
  """
  if given.draws is None:
    return EdgeGiven(learning)
  return EdgeGiven(learning, given.draws._replace(keys=given.draws.keys[e]))


def drop(
  y: Float[Array, '*n C h w B'], factors: Float[Array, 'r *n B'] | None, index: Index
) -> Float[Array, '*n C h w B']:
  """Returns maps times the factors of their images, or the maps where there are no factors.

  Args:
    y: maps.
    factors: rows of factors, or None.
    index: the row.
  """
  if factors is None:
    return y
  return y * row(factors, index).astype(y.dtype)[..., None, None, None, :]


def if_active(
  given: BundleGiven, e: Index, compute: Callable[[], Any], spare: Callable[[], Any]
) -> Any:
  """Returns the result for an edge, which takes no time where its operation is not active.

  Args:
    given: says which edges are active; all, where it does not say.
    e: the row of the edge.
    compute: gives the result.
    spare: gives it for an edge that is not active, in the same shapes.
  """
  if given.active is None:
    return compute()
  return lax.cond(row(given.active, e) != 0, compute, spare)


def zeros_like(function: Callable[[], Any]) -> Any:
  """Returns zeros in the shapes of a function's result, without a call of it."""
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function))
