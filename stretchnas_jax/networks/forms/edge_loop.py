"""A cell over planes as two nested loops: over its nodes, and over the edges that leave each.

Every turn of the inner loop computes one edge with the same compiled body, so that a cell compiles
once and not for each of its fans; its arrays are small enough to stay in a processor's cache. The
gradient walks the same edges backwards and computes each again: that takes less time than writing
and reading what it would need to keep, and what a cell keeps is its nodes. A search step at C 16, 8
layers, S 4, batch 16 compiled in 30 s, where a body for each fan took 78 s, and needs 0.12 GB where
that needed 1.25 GB (two CPU cores; `experiments/results/benchmarks/compare.json` and its history).

An edge, what a node shares and the loops are each a `jax.jit`, and so are the sums of `planes`: XLA
inlines them, but JAX traces each once for all that ask for it with equal shapes, be it for moments,
for a value, for its gradient or for another edge. Tracing takes a third less time (same search).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import relu

from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib
from stretchnas_jax.networks.forms import shifted_copies


def add_fans(fans, params, nodes, weights, learning, running, axis_name):
  """As `merged.add_fans`, but of several nodes in turn, and over planes `[C, H, W, B]`."""
  sources, targets = np.array(fans.edges).T
  places = sources - fans.first, targets - 2
  spread = lambda w: jnp.zeros((len(fans.bounds) - 1, len(nodes) - 2)).at[places].set(w)
  pick = lambda tree, shared: {n: tree[n] for n in tree if fans.shares(n) == shared}
  for_nodes = jax.tree.map(spread, pick(weights, True)), running and pick(running, True)
  for_edges = params, pick(weights, False), running and pick(running, False)
  empty = jnp.zeros_like(nodes[fans.first][:, :: fans.stride, :: fans.stride])
  inputs = jnp.stack(nodes[:2]) if fans.stride == 2 else None
  reached = [node if np.shape(node) == empty.shape else empty for node in nodes]
  reached = jnp.stack(reached)
  after, moments = _walk(fans, axis_name, learning, for_nodes, for_edges, inputs, reached)
  return [*nodes[:2], *after[2:]], moments


def row(tree, i):
  return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), tree)


def put(tree, values, i):
  return jax.tree.map(lambda a, v: lax.dynamic_update_index_in_dim(a, v, i, 0), tree, values)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _shared(fans, axis_name, for_node, x):
  """What a node gives to all others, `[S, C, H, W, B]`, and the moments of its batch norms."""
  weights, running = for_node
  norms = batch_norm_lib.BatchNorms(running, axis_name)
  return shifted_copies.shared(x, weights, fans.stride, norms), norms.batch


@functools.partial(jax.jit, static_argnums=(0, 1))
def _edge(fans, axis_name, for_edge, r, learning):
  """What an edge adds to its target, `[C, H, W, B]`, and the moments of its batch norms."""
  params, weights, running = for_edge
  norms = batch_norm_lib.BatchNorms(running, axis_name)
  return shifted_copies.edge(params, r, weights, learning, fans.stride, norms), norms.batch


def _moments_like(function, tree, *args):
  """Zeros for the moments of every row of `tree`."""
  rows = len(jax.tree.leaves(tree)[0]) if jax.tree.leaves(tree) else 0
  _, moments = jax.eval_shape(function, jax.eval_shape(lambda t: row(t, 0), tree), *args)
  return jax.tree.map(lambda m: jnp.zeros((rows, *m.shape), m.dtype), moments)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _walk(*args):
  return _loops(*args)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _loops(fans, axis_name, learning, for_nodes, for_edges, inputs, nodes):
  shared, edge = (functools.partial(f, fans, axis_name) for f in (_shared, _edge))
  bounds, targets = jnp.array(fans.bounds), jnp.array([target for _, target in fans.edges])
  (shares, _), (_, has, _) = for_nodes, for_edges
  sources = nodes if inputs is None else inputs
  x = jax.eval_shape(lambda: sources[0])
  seen = [{}, {}]
  if shares:
    seen[0] = _moments_like(shared, for_nodes, x)
  if has:
    seen[1] = _moments_like(edge, for_edges, x, learning)

  def node(j, carry):
    nodes, (seen_nodes, seen_edges) = carry
    x = row(nodes if inputs is None else inputs, j + fans.first)
    if shares:
      y, moments = shared(row(for_nodes, j), x)
      nodes, seen_nodes = nodes.at[2:].add(y), put(seen_nodes, moments, j)
    r = relu(x)

    def one(e, carry):
      nodes, seen = carry
      # As the first half of a gradient: that half may be differentiated forwards, as an exact
      # second order needs it, which a function with a backward rule may not. And asked for exactly
      # as in `_backward`, so that both share what JAX makes of it.
      y, _, moments = jax.vjp(lambda *a: edge(*a, learning), row(for_edges, e), r, has_aux=True)
      return nodes.at[targets[e]].add(y), put(seen, moments, e)

    if has:
      carry = nodes, seen_edges
      nodes, seen_edges = lax.fori_loop(bounds[j], bounds[j + 1], one, carry)
    return nodes, [seen_nodes, seen_edges]

  nodes, seen = lax.fori_loop(0, len(bounds) - 1, node, (nodes, seen))
  return nodes, seen[0] | seen[1]


def _forward(fans, axis_name, learning, for_nodes, for_edges, inputs, nodes):
  after, moments = _loops(fans, axis_name, learning, for_nodes, for_edges, inputs, nodes)
  # A node is complete when its own edges are reached, so the last value of each is the one used.
  return (after, moments), (learning, for_nodes, for_edges, inputs, after)


def _backward(fans, axis_name, saved, gs):
  learning, for_nodes, for_edges, inputs, nodes = saved
  shared, edge = (functools.partial(f, fans, axis_name) for f in (_shared, _edge))
  bounds, targets = jnp.array(fans.bounds), jnp.array([target for _, target in fans.edges])
  (shares, _), (_, has, _) = for_nodes, for_edges

  def node(i, carry):
    g, to_inputs, to_nodes, to_edges = carry
    j = len(bounds) - 2 - i
    x = row(nodes if inputs is None else inputs, j + fans.first)
    r, to_x = relu(x), jnp.zeros_like(x)

    def one(e, carry):
      to_r, to_edges = carry
      back = jax.vjp(lambda *a: edge(*a, learning), row(for_edges, e), r, has_aux=True)[1]
      to_edge, more = back(row(g, targets[e]))
      return to_r + more, put(to_edges, to_edge, e)

    if has:
      to_r, to_edges = lax.fori_loop(bounds[j], bounds[j + 1], one, (to_x, to_edges))
      to_x = jnp.where(x > 0, to_r, 0)
    if shares:
      back = jax.vjp(lambda *args: shared(*args)[0], row(for_nodes, j), x)[1]
      to_node, more = back(g[2:])
      to_x, to_nodes = to_x + more, put(to_nodes, to_node, j)
    if inputs is None:
      g = g.at[j + fans.first].add(to_x)
    else:
      to_inputs = put(to_inputs, to_x, j + fans.first)
    return g, to_inputs, to_nodes, to_edges

  zeros = jax.tree.map(jnp.zeros_like, (inputs, for_nodes, for_edges))
  g, *rest = lax.fori_loop(0, len(bounds) - 1, node, (gs[0], *zeros))
  to_inputs, to_nodes, to_edges = rest
  return None, to_nodes, to_edges, to_inputs, g


_walk.defvjp(_forward, _backward)
