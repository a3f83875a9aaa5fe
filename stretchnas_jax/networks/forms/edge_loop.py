"""A cell over batch-last maps as two nested loops: over nodes, and over the edges that leave each.

Every turn of the inner loop computes one edge with the same compiled body. So a cell compiles once,
and not for each of its nodes, and its arrays are small enough to stay in a processor's cache. The
gradient visits the same edges backwards and computes each again. That takes less time than to write
and read all that the edges would keep, and a cell keeps nothing but its nodes.

An edge, the shared part of a node and the loops are each a `jax.jit`. XLA inlines them, but JAX
traces each once for all callers with equal shapes: for moments, for a value, for its gradient.

Letters: J source nodes of the group, E edges, S + 2 nodes of the cell, C channels, B images.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import relu
from jaxtyping import Array, Float

from stretchnas_jax.networks.forms import edge_mixture, loop_arrays
from stretchnas_jax.networks.forms.batch_norm import Averages, BatchNorms
from stretchnas_jax.networks.forms.edge_groups import EdgeGroup
from stretchnas_jax.networks.forms.loop_arrays import (
  ByEdge,
  BySource,
  Cell,
  Index,
  Moments,
  Node,
  Number,
  put,
  row,
)


# Jitted by itself only so that equal groups are traced once.
@functools.partial(jax.jit, static_argnums=(0, 1))
def add_mixtures(
  group: EdgeGroup,
  axis_name: str | None,
  params: edge_mixture.EdgeParams,
  nodes: Sequence[Node],
  weights: Mapping[str, Float[Array, 'E']],
  learning: Number,
  running: Averages | None,
) -> tuple[list[Node], dict[str, dict[str, Array]]]:
  """Adds the mixtures on the edges of some nodes to the nodes where the edges end.

  Args:
    group: the E edges of J consecutive nodes.
    axis_name: the parallel axis over which a batch is spread, or None.
    params: the parameters of the E edges, `{'depthwise': [E, stages, C, k, k], 'pointwise': [E,
      stages, C, C]}` for each operation; at stride 2 `{'skip_connect': {'pointwise': [E, 1, C,
      C]}}` too.
    nodes: the S + 2 nodes of a cell, `[C, H, W, B]`, 0.0 where no edge has arrived yet.
    weights: for each operation, its weights times the edge scores, float32.
    learning: as for `shifted_copies.depthwise`.
    running: running averages, `[J, C]` for shared operations and `[E, C]` for the rest; None to
      normalise with the moments of the batch.

  Returns:
    The nodes, and the moments of the batch in the form of `running`; `{}` where that is given.
  """
  cell = loop_arrays.gather(group, params, nodes, weights, running)
  after, moments = _run(group, axis_name, learning, cell)
  return [*nodes[:2], *after[2:]], moments.by_source | moments.by_edge


# ---- one node, one edge --------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(0, 1))
def _shared(
  group: EdgeGroup, axis_name: str | None, data: BySource, x: Float[Array, 'C H W B']
) -> tuple[Float[Array, 'S C h w B'], Averages]:
  """Computes the mixtures that a source adds to all nodes, and the moments of its batch norms."""
  norms = BatchNorms(data.running, axis_name)
  return edge_mixture.shared(x, data.weights, group.stride, norms), norms.batch


@functools.partial(jax.jit, static_argnums=(0, 1))
def _edge(
  group: EdgeGroup,
  axis_name: str | None,
  data: ByEdge,
  r: Float[Array, 'C H W B'],
  learning: Number,
) -> tuple[Float[Array, 'C h w B'], Averages]:
  """Computes the mixture that an edge adds to its target, and the moments of its batch norms."""
  norms = BatchNorms(data.running, axis_name)
  y = edge_mixture.edge(data.params, r, data.weights, learning, group.stride, norms)
  return y, norms.batch


def _shared_vjp(
  group: EdgeGroup, axis_name: str | None, data: BySource, x: Float[Array, 'C H W B']
) -> Callable[[Array], tuple[BySource, Array]]:
  """The gradient of `_shared`, without its moments."""
  return jax.vjp(lambda data, x: _shared(group, axis_name, data, x)[0], data, x)[1]


def _edge_vjp(
  group: EdgeGroup,
  axis_name: str | None,
  data: ByEdge,
  r: Float[Array, 'C H W B'],
  learning: Number,
) -> tuple[Array, Callable[[Array], tuple[ByEdge, Array]], Averages]:
  """Both halves of the gradient of `_edge`, and the moments."""
  return jax.vjp(lambda data, r: _edge(group, axis_name, data, r, learning), data, r, has_aux=True)


# ---- forwards ------------------------------------------------------------------------------------


class _ForwardCarry(NamedTuple):
  """The state of the outer loop forwards; the inner loop has the moments of edges alone."""

  nodes: Float[Array, 'S C h w B']
  moments: Moments


class _EdgeCarry(NamedTuple):
  """The state of the inner loop forwards."""

  nodes: Float[Array, 'S C h w B']
  moments: dict[str, dict[str, Array]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(
  group: EdgeGroup, axis_name: str | None, learning: Number, cell: Cell
) -> tuple[Float[Array, 'S C h w B'], Moments]:
  """Runs the loops; returns the nodes after all edges, and the moments."""
  return _loops(group, axis_name, learning, cell)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _loops(
  group: EdgeGroup, axis_name: str | None, learning: Number, cell: Cell
) -> tuple[Float[Array, 'S C h w B'], Moments]:
  bounds = jnp.array(group.bounds)
  targets = jnp.array([target for _, target in group.edges])

  def visit_node(j: Index, carry: _ForwardCarry) -> _ForwardCarry:
    nodes, moments = carry
    sources = nodes if cell.inputs is None else cell.inputs
    x = row(sources, j + group.first)
    if cell.by_source.weights:
      y, of_source = _shared(group, axis_name, row(cell.by_source, j), x)
      nodes = nodes.at[2:].add(y)
      moments = moments._replace(by_source=put(moments.by_source, of_source, j))
    r = relu(x)

    def visit_edge(e: Index, carry: _EdgeCarry) -> _EdgeCarry:
      # As the first half of a gradient: that half may be differentiated forwards, as an exact
      # second order needs it, which a function with a backward rule may not. And asked for exactly
      # as in `_backward`, so that both share the work of JAX's tracing.
      y, _, of_edge = _edge_vjp(group, axis_name, row(cell.by_edge, e), r, learning)
      return _EdgeCarry(carry.nodes.at[targets[e]].add(y), put(carry.moments, of_edge, e))

    if cell.by_edge.weights:
      start = _EdgeCarry(nodes, moments.by_edge)
      nodes, by_edge = lax.fori_loop(bounds[j], bounds[j + 1], visit_edge, start)
      moments = moments._replace(by_edge=by_edge)
    return _ForwardCarry(nodes, moments)

  start = _ForwardCarry(cell.nodes, _zero_moments(group, axis_name, learning, cell))
  return tuple(lax.fori_loop(0, group.num_sources, visit_node, start))


def _zero_moments(group: EdgeGroup, axis_name: str | None, learning: Number, cell: Cell) -> Moments:
  """Zeros in the place of all moments that the loops are going to write."""
  x = jax.eval_shape(lambda: cell.sources[0])
  shared, edge = (functools.partial(f, group, axis_name) for f in (_shared, _edge))
  by_source, by_edge = {}, {}
  if cell.by_source.weights:
    by_source = _zero_rows(shared, cell.by_source, x)
  if cell.by_edge.weights:
    by_edge = _zero_rows(edge, cell.by_edge, x, learning)
  return Moments(by_source, by_edge)


def _zero_rows(
  function: Callable[..., tuple[Array, Averages]], data: BySource | ByEdge, *args: Any
) -> dict[str, dict[str, Array]]:
  """Zeros for the moments that a function returns for each row of its data."""
  rows = len(jax.tree.leaves(data)[0])
  first = jax.eval_shape(lambda tree: row(tree, 0), data)
  _, moments = jax.eval_shape(function, first, *args)
  return jax.tree.map(lambda m: jnp.zeros((rows, *m.shape), m.dtype), moments)


# ---- backwards -----------------------------------------------------------------------------------


def _forward(
  group: EdgeGroup, axis_name: str | None, learning: Number, cell: Cell
) -> tuple[tuple[Float[Array, 'S C h w B'], Moments], tuple[Number, Cell]]:
  nodes, moments = _loops(group, axis_name, learning, cell)
  # A node is complete when its own edges are reached, so the last value of each is the one used.
  return (nodes, moments), (learning, cell._replace(nodes=nodes))


def _backward(
  group: EdgeGroup,
  axis_name: str | None,
  saved: tuple[Number, Cell],
  gs: tuple[Float[Array, 'S C h w B'], Moments],
) -> tuple[None, Cell]:
  """Computes the gradients for the arrays of the cell; no loss depends on the moments."""
  learning, cell = saved
  bounds = jnp.array(group.bounds)
  targets = jnp.array([target for _, target in group.edges])

  def visit_node(i: Index, to: Cell) -> Cell:
    j = len(bounds) - 2 - i
    x, to_nodes = row(cell.sources, j + group.first), to.nodes
    r, to_x = relu(x), jnp.zeros_like(x)

    def visit_edge(e: Index, carry: tuple[Array, ByEdge]) -> tuple[Array, ByEdge]:
      to_r, by_edge = carry
      data = row(cell.by_edge, e)
      _, pull_back, _ = _edge_vjp(group, axis_name, data, r, learning)
      to_data, more = pull_back(row(to_nodes, targets[e]))
      return to_r + more, put(by_edge, to_data, e)

    if cell.by_edge.weights:
      start = to_x, to.by_edge
      to_r, by_edge = lax.fori_loop(bounds[j], bounds[j + 1], visit_edge, start)
      to_x = jnp.where(x > 0, to_r, 0)
      to = to._replace(by_edge=by_edge)
    if cell.by_source.weights:
      pull_back = _shared_vjp(group, axis_name, row(cell.by_source, j), x)
      to_data, more = pull_back(to_nodes[2:])
      to_x = to_x + more
      to = to._replace(by_source=put(to.by_source, to_data, j))
    if cell.inputs is None:
      return to._replace(nodes=to_nodes.at[j + group.first].add(to_x))
    return to._replace(inputs=put(to.inputs, to_x, j + group.first))

  start = jax.tree.map(jnp.zeros_like, cell)._replace(nodes=gs[0])
  return None, lax.fori_loop(0, group.num_sources, visit_node, start)  # `learning` learns nothing


_run.defvjp(_forward, _backward)
