"""A cell over batch-last maps as two nested loops: over nodes, and over the edges that leave each.

Every turn of the inner loop computes one edge with the same compiled body. So a cell compiles once,
and not for each of its nodes, and its arrays are small enough to stay in a processor's cache. The
gradient visits the same edges backwards and computes each again. That takes less time than to write
and read all that the edges would keep, and a cell keeps nothing but its nodes.

Operations that stand on the same edges share a loop. Where edges differ in their operations, each
operation has a loop over its own edges alone, so that time goes by what is allowed.

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

from stretchnas_jax.networks.forms import edge_visits, loop_arrays
from stretchnas_jax.networks.forms.batch_norm import Averages
from stretchnas_jax.networks.forms.edge_groups import NO_EXTRAS, Bundle, EdgeGroup, Extras
from stretchnas_jax.networks.forms.edge_mixture import EdgeParams
from stretchnas_jax.networks.forms.loop_arrays import (
  ByEdge,
  BySource,
  Cell,
  Given,
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
  params: EdgeParams,
  nodes: Sequence[Node],
  weights: Mapping[str, Float[Array, '_']],
  learning: Number,
  running: Averages | None,
  extras: Extras = NO_EXTRAS,
) -> tuple[list[Node], dict[str, dict[str, Array]]]:
  """Adds the mixtures on the edges of some nodes to the nodes where the edges end.

  Args:
    group: the E edges of J consecutive nodes. An operation stands on n of them, which leave j of
      the nodes.
    axis_name: the parallel axis over which a batch is spread, or None.
    params: for each operation `{'depthwise': [n, stages, C, k, k], 'pointwise': [n, stages, C,
      C]}`; at stride 2 `{'skip_connect': {'pointwise': [n, 1, C, C]}}` too.
    nodes: the S + 2 nodes of a cell, `[C, H, W, B]`, 0.0 where no edge has arrived yet.
    weights: for each operation, its weights times the edge scores, float32.
    learning: as for `shifted_copies.depthwise`.
    running: running averages, `[j, C]` for shared operations and `[n, C]` for the rest; None to
      normalise with the moments of the batch.
    extras: arrays that few searches need.

  Returns:
    The nodes, and the moments of the batch in the form of `running`; `{}` where that is given.
  """
  own = [name for name in weights if not group.shares(name)]
  bundles = group.bundles(own, apart=extras.active is not None)
  cell = loop_arrays.gather(group, bundles, params, nodes, weights, running)
  given = loop_arrays.gather_given(group, bundles, len(nodes), learning, extras)
  after, moments = _run(group, bundles, axis_name, given, cell)
  return [*nodes[:2], *after[2:]], moments.of(group)


# ---- forwards ------------------------------------------------------------------------------------


class _ForwardCarry(NamedTuple):
  """The state of the outer loop forwards; an inner loop has the moments of its edges alone."""

  nodes: Float[Array, 'S C h w B']
  moments: Moments


class _EdgeCarry(NamedTuple):
  """The state of an inner loop."""

  nodes: Float[Array, 'S C h w B']
  moments: dict[str, dict[str, Array]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(
  group: EdgeGroup, bundles: tuple[Bundle, ...], axis_name: str | None, given: Given, cell: Cell
) -> tuple[Float[Array, 'S C h w B'], Moments]:
  """Runs the loops; returns the nodes after all edges, and the moments."""
  return _loops(group, bundles, axis_name, given, cell)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _loops(
  group: EdgeGroup, bundles: tuple[Bundle, ...], axis_name: str | None, given: Given, cell: Cell
) -> tuple[Float[Array, 'S C h w B'], Moments]:
  all_edges = edge_visits.edges_of(group, bundles)

  def visit_node(j: Index, carry: _ForwardCarry) -> _ForwardCarry:
    nodes, moments = carry
    x = edge_visits.read(group, nodes if cell.inputs is None else cell.inputs, j)
    if cell.by_source.weights:
      y, of_source = edge_visits.shared(group, axis_name, row(cell.by_source, j), x)
      y = jax.tree.map(lambda maps: edge_visits.drop(maps, given.drop, j), y)
      nodes = edge_visits.add_parts(group, nodes, y)
      moments = moments._replace(by_source=put(moments.by_source, of_source, j))
    x = edge_visits.front(group, x)
    r, by_edge = relu(x), list(moments.by_edge)
    for b, edges in enumerate(all_edges):
      visit_edge = _visit_forwards(group, axis_name, given, cell, b, edges, edges.source(x, r))
      start = _EdgeCarry(nodes, by_edge[b])
      nodes, by_edge[b] = lax.fori_loop(edges.bounds[j], edges.bounds[j + 1], visit_edge, start)
    return _ForwardCarry(nodes, moments._replace(by_edge=tuple(by_edge)))

  start = _ForwardCarry(cell.nodes, _zero_moments(group, axis_name, given, cell))
  return tuple(lax.fori_loop(0, group.num_sources, visit_node, start))


def _visit_forwards(
  group: EdgeGroup,
  axis_name: str | None,
  given: Given,
  cell: Cell,
  b: int,
  edges: edge_visits.Edges,
  source: Float[Array, 'C H W B'],
) -> Callable[[Index, _EdgeCarry], _EdgeCarry]:
  """The body of the loop over the edges of bundle b that leave a node."""
  data, of_bundle = cell.by_edge[b], given.by_edge[b]

  def visit_edge(e: Index, carry: _EdgeCarry) -> _EdgeCarry:
    def compute() -> tuple[Array, Averages]:
      # As the first half of a gradient: that half may be differentiated forwards, as an exact
      # second order needs it, which a function with a backward rule may not. And asked for exactly
      # as in `_backward`, so that both share the work of JAX's tracing.
      for_edge = edge_visits.given_for_edge(given.learning, of_bundle, e)
      y, _, of_edge = edge_visits.edge_vjp(group, axis_name, row(data, e), source, for_edge)
      return y, of_edge

    spare = lambda: edge_visits.zeros_like(compute)
    y, of_edge = edge_visits.if_active(of_bundle, e, compute, spare)
    y = edge_visits.drop(y, of_bundle.drop, e)
    nodes = edge_visits.add_edge(group, carry.nodes, edges.targets[e], y)
    return _EdgeCarry(nodes, put(carry.moments, of_edge, e))

  return visit_edge


def _zero_moments(group: EdgeGroup, axis_name: str | None, given: Given, cell: Cell) -> Moments:
  """Zeros in the place of all moments that the loops are going to write."""
  x = jax.eval_shape(lambda: cell.sources[0])
  front = jax.eval_shape(lambda: edge_visits.front(group, cell.sources[0]))
  shared, edge = (
    functools.partial(f, group, axis_name) for f in (edge_visits.shared, edge_visits.edge)
  )
  by_source = _zero_rows(shared, cell.by_source, x) if cell.by_source.weights else {}
  by_edge = []
  for data, of_bundle in zip(cell.by_edge, given.by_edge):
    for_edge = edge_visits.given_for_edge(given.learning, of_bundle, 0)
    by_edge.append(_zero_rows(edge, data, front, for_edge))
  return Moments(by_source, tuple(by_edge))


def _zero_rows(
  function: Callable[..., tuple[Any, Averages]], data: BySource | ByEdge, *args: Any
) -> dict[str, dict[str, Array]]:
  """Zeros for the moments that a function returns for each row of its data."""
  rows = len(jax.tree.leaves(data)[0])
  first = jax.eval_shape(lambda tree: row(tree, 0), data)
  _, moments = jax.eval_shape(function, first, *args)
  return jax.tree.map(lambda m: jnp.zeros((rows, *m.shape), m.dtype), moments)


# ---- backwards -----------------------------------------------------------------------------------


def _forward(
  group: EdgeGroup, bundles: tuple[Bundle, ...], axis_name: str | None, given: Given, cell: Cell
) -> tuple[tuple[Float[Array, 'S C h w B'], Moments], tuple[Given, Cell]]:
  nodes, moments = _loops(group, bundles, axis_name, given, cell)
  # A node is complete when its own edges are reached, so the last value of each is the one used.
  return (nodes, moments), (given, cell._replace(nodes=nodes))


def _backward(
  group: EdgeGroup,
  bundles: tuple[Bundle, ...],
  axis_name: str | None,
  saved: tuple[Given, Cell],
  gs: tuple[Float[Array, 'S C h w B'], Moments],
) -> tuple[None, Cell]:
  """Computes the gradients for the arrays of the cell; no loss depends on the moments."""
  given, cell = saved
  all_edges = edge_visits.edges_of(group, bundles)

  def visit_node(i: Index, to: Cell) -> Cell:
    j = group.num_sources - 1 - i
    x, to_nodes = edge_visits.read(group, cell.sources, j), to.nodes
    front = edge_visits.front(group, x)
    r, by_edge = relu(front), list(to.by_edge)
    to_front = to_r = jnp.zeros_like(front)
    for b, edges in enumerate(all_edges):
      source = edges.source(front, r)
      visit_edge = _visit_backwards(group, axis_name, given, cell, b, edges, source, to_nodes)
      start = edges.source(to_front, to_r), by_edge[b]
      found, by_edge[b] = lax.fori_loop(edges.bounds[j], edges.bounds[j + 1], visit_edge, start)
      to_front, to_r = (found, to_r) if edges.see_node else (to_front, found)
    see_node = {edges.see_node for edges in all_edges}
    if False in see_node:
      to_r = jnp.where(front > 0, to_r, 0)
      to_front = to_front + to_r if True in see_node else to_r
    to, to_x = to._replace(by_edge=tuple(by_edge)), to_front
    if cell.by_source.weights:
      maps, pull_back = edge_visits.shared_vjp(group, axis_name, row(cell.by_source, j), x)
      to_maps = edge_visits.take_parts(group, to_nodes, maps)
      to_maps = jax.tree.map(lambda g: edge_visits.drop(g, given.drop, j), to_maps)
      to_data, more = pull_back(to_maps)
      to_x = to_x + more if group.split == 1 else more.at[: len(front)].add(to_x)
      to = to._replace(by_source=put(to.by_source, to_data, j))
    to_x = edge_visits.unread(group, to_x)
    if cell.inputs is None:
      return to._replace(nodes=to_nodes.at[j + group.first].add(to_x))
    return to._replace(inputs=put(to.inputs, to_x, j + group.first))

  start = jax.tree.map(jnp.zeros_like, cell)._replace(nodes=gs[0])
  return None, lax.fori_loop(0, group.num_sources, visit_node, start)  # nothing for `given`


def _visit_backwards(
  group: EdgeGroup,
  axis_name: str | None,
  given: Given,
  cell: Cell,
  b: int,
  edges: edge_visits.Edges,
  source: Float[Array, 'C H W B'],
  to_nodes: Float[Array, 'S D h w B'],
) -> Callable[[Index, tuple[Array, ByEdge]], tuple[Array, ByEdge]]:
  """The body of the loop backwards over the edges of bundle b that leave a node."""
  all_data, of_bundle = cell.by_edge[b], given.by_edge[b]

  def visit_edge(e: Index, carry: tuple[Array, ByEdge]) -> tuple[Array, ByEdge]:
    to_source, to_bundle = carry
    data = row(all_data, e)

    def compute() -> tuple[ByEdge, Array]:
      for_edge = edge_visits.given_for_edge(given.learning, of_bundle, e)
      _, pull_back, _ = edge_visits.edge_vjp(group, axis_name, data, source, for_edge)
      g = edge_visits.front(group, row(to_nodes, edges.targets[e]))
      return pull_back(edge_visits.drop(g, of_bundle.drop, e))

    spare = lambda: jax.tree.map(jnp.zeros_like, (data, source))
    to_data, more = edge_visits.if_active(of_bundle, e, compute, spare)
    return to_source + more, put(to_bundle, to_data, e)

  return visit_edge


_run.defvjp(_forward, _backward)
