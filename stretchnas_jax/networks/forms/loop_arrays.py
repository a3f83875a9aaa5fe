"""The arrays of a group of edges as the loops of `edge_loop` read and write them.

Letters: J source nodes of the group, E edges, S intermediate nodes, C channels, B images, `H x W`
pixels of a source, `h x w` pixels of a target.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from stretchnas_jax.networks.forms.batch_norm import Averages
from stretchnas_jax.networks.forms.edge_groups import EdgeGroup
from stretchnas_jax.networks.forms.edge_mixture import EdgeParams

Node: TypeAlias = Float[Array, 'C _ _ B'] | Float[Array, '']  # 0 where no edge has arrived yet
_Weights: TypeAlias = Mapping[str, Float[Array, '...']]
Number: TypeAlias = Float[Array, ''] | Int[Array, ''] | float
Index: TypeAlias = Int[Array, ''] | int


class BySource(NamedTuple):
  """The data of the operations that all edges of a node share; one row for each source.

  Attributes:
    weights: for each operation `[J, S]`: a number for each node where an edge could end.
    running: running averages `[J, C]`, or None.
  """

  weights: _Weights
  running: Averages | None


class ByEdge(NamedTuple):
  """The data of the operations that each edge has for itself; one row for each edge.

  Attributes:
    params: for each operation `{'depthwise': [E, stages, C, k, k], ...}`.
    weights: for each operation `[E]`.
    running: running averages `[E, C]`, or None.
  """

  params: EdgeParams
  weights: _Weights
  running: Averages | None


class Cell(NamedTuple):
  """All arrays that the loops read, or the gradients for them.

  Attributes:
    by_source: data of the sources.
    by_edge: data of the edges.
    inputs: the cell's two inputs in a group of stride 2, which are larger than the nodes; else
      None.
    nodes: the nodes as far as earlier groups have reached them.
  """

  by_source: BySource
  by_edge: ByEdge
  inputs: Float[Array, '2 C H W B'] | None
  nodes: Float[Array, 'S C h w B']

  @property
  def sources(self) -> Float[Array, '_ C _ _ B']:
    """Returns the maps that the edges of this group leave."""
    return self.nodes if self.inputs is None else self.inputs


class Moments(NamedTuple):
  """The moments of all batch norms of the group, one row for each source or edge."""

  by_source: dict[str, dict[str, Array]]
  by_edge: dict[str, dict[str, Array]]


def gather(
  group: EdgeGroup,
  params: EdgeParams,
  nodes: Sequence[Node],
  weights: Mapping[str, Float[Array, 'E']],
  running: Averages | None,
) -> Cell:
  """Returns the arrays for the loops; arguments as for `edge_loop.add_mixtures`.

  Args:
    group: the E edges.
    params: the parameters of the E edges.
    nodes: the S + 2 nodes of the cell.
    weights: the weights of operations.
    running: running averages, or None.
  """

  def averages(shared: bool) -> Averages | None:
    return None if running is None else _pick(group, running, shared)

  empty = jnp.zeros_like(nodes[group.first][:, :: group.stride, :: group.stride])
  # Every node that an edge can reach has the size of `empty`; with stride 2 the inputs do not.
  reached = [node if np.shape(node) == empty.shape else empty for node in nodes]
  return Cell(
    BySource(_spread_weights(group, weights, len(nodes)), averages(shared=True)),
    ByEdge(params, _pick(group, weights, shared=False), averages(shared=False)),
    jnp.stack(nodes[:2]) if group.stride == 2 else None,
    jnp.stack(reached),
  )


def _pick(group: EdgeGroup, tree: Mapping[str, PyTree], shared: bool) -> dict[str, PyTree]:
  """Keeps the entries of the operations that a node's edges share, or those of the others."""
  return {name: tree[name] for name in tree if group.shares(name) == shared}


def _spread_weights(
  group: EdgeGroup, weights: Mapping[str, Float[Array, 'E']], num_nodes: int
) -> dict[str, Float[Array, 'J S']]:
  """Writes the weights of shared operations as one number for each source and target."""
  sources, targets = np.array(group.edges).T
  places = sources - group.first, targets - 2

  def spread(weight: Float[Array, 'E']) -> Float[Array, 'J S']:
    return jnp.zeros((group.num_sources, num_nodes - 2)).at[places].set(weight)

  return jax.tree.map(spread, _pick(group, weights, shared=True))


def row(tree: PyTree[Array], i: Index) -> PyTree[Array]:
  """Returns row i of every array.

  Args:
    tree: arrays of as many rows.
    i: the row.
  """
  return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), tree)


def put(tree: PyTree[Array], values: PyTree[Array], i: Index) -> PyTree[Array]:
  """Returns the arrays with row i replaced.

  Args:
    tree: arrays of as many rows.
    values: the new row of each array.
    i: the row.
  """
  return jax.tree.map(lambda a, v: lax.dynamic_update_index_in_dim(a, v, i, 0), tree, values)
