"""The arrays of a group of edges as the loops of `edge_loop` read and write them.

Letters: J source nodes of the group, E edges, S intermediate nodes, C channels, B images, `H x W`
pixels of a source, `h x w` pixels of a target.
"""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from stretchnas_jax.networks.forms import partial_channels
from stretchnas_jax.networks.forms.batch_norm import Averages
from stretchnas_jax.networks.forms.draws import Draws
from stretchnas_jax.networks.forms.edge_groups import DROPPED_SKIP, Bundle, EdgeGroup, Extras
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
  """The data of operations that each edge has for itself; one row for each edge.

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
    by_edge: data of the edges, for each bundle of operations.
    inputs: the cell's two inputs in a group of stride 2, which are larger than the nodes; else
      None.
    nodes: the nodes as far as earlier groups have reached them.
  """

  by_source: BySource
  by_edge: tuple[ByEdge, ...]
  inputs: Float[Array, '2 C H W B'] | None
  nodes: Float[Array, 'S C h w B']

  @property
  def sources(self) -> Float[Array, '_ C _ _ B']:
    """Returns the maps that the edges of this group leave."""
    return self.nodes if self.inputs is None else self.inputs


class BundleGiven(NamedTuple):
  """Arrays without gradients of the edges of a bundle, each None where a search has none.

  Attributes:
    active: `[E]`, 0 where the bundle's only operation need not be computed.
    drop: `[E, B]`, a factor for each image.
    draws: of random maps, `[E]` keys.
  """

  active: Float[Array, 'E'] | None
  drop: Float[Array, 'E B'] | None
  draws: Draws | None


class Given(NamedTuple):
  """All arrays without gradients.

  Attributes:
    learning: as for `shifted_copies.depthwise`.
    drop: `[J, S, B]`, a factor for each image on each edge; None for 1.
    by_edge: for each bundle.
  """

  learning: Number
  drop: Float[Array, 'J S B'] | None
  by_edge: tuple[BundleGiven, ...]


class Moments(NamedTuple):
  """The moments of all batch norms of the group, one row for each source or edge."""

  by_source: dict[str, dict[str, Array]]
  by_edge: tuple[dict[str, dict[str, Array]], ...]

  def of(self, group: EdgeGroup) -> dict[str, dict[str, Array]]:
    """Returns them by name, with rows only of sources whose edges have the operation."""
    found = {}
    for name, moments in self.by_source.items():
      rows = group.sources_with(name)
      found[name] = moments if len(rows) == group.num_sources else _take(moments, np.array(rows))
    return functools.reduce(operator.or_, self.by_edge, found)


def gather(
  group: EdgeGroup,
  bundles: Sequence[Bundle],
  params: EdgeParams,
  nodes: Sequence[Node],
  weights: Mapping[str, Float[Array, '_']],
  running: Averages | None,
) -> Cell:
  """Returns the arrays for the loops; arguments as for `edge_loop.add_mixtures`.

  Args:
    group: the E edges.
    bundles: the operations that edges have for themselves.
    params: the parameters of the E edges.
    nodes: the S + 2 nodes of the cell.
    weights: the weights of operations.
    running: running averages, or None.
  """
  empty = jnp.zeros_like(nodes[group.first][:, :: group.stride, :: group.stride])
  # Every node that an edge can reach has the size of `empty`; with stride 2 the inputs do not.
  reached = [node if np.shape(node) == empty.shape else empty for node in nodes]
  if group.stride == 1:  # The loops shuffle each node that they read.
    reached[:2] = [partial_channels.unshuffle(x, group.split, 0) for x in reached[:2]]
  return Cell(
    BySource(
      _spread_weights(group, weights, len(nodes)),
      None if running is None else _averages_by_source(group, running),
    ),
    tuple(
      ByEdge(
        {name: params[name] for name in bundle.names if name in params},
        {name: weights[name] for name in bundle.names},
        None if running is None else _averages_by_edge(bundle, running),
      )
      for bundle in bundles
    ),
    jnp.stack(nodes[:2]) if group.stride == 2 else None,
    jnp.stack(reached),
  )


def gather_given(
  group: EdgeGroup, bundles: Sequence[Bundle], num_nodes: int, learning: Number, extras: Extras
) -> Given:
  """Returns the arrays without gradients for the loops.

  Args:
    group: the E edges.
    bundles: the operations that edges have for themselves.
    num_nodes: S + 2.
    learning: as for `shifted_copies.depthwise`.
    extras: of the group.
  """

  def of(bundle: Bundle) -> BundleGiven:
    places, draws = np.array(bundle.places), extras.draws
    active = None if extras.active is None else extras.active.get(bundle.names[0])
    drop = None if extras.edge_drop is None else extras.edge_drop[places]
    if draws is not None and bundle.names[0] in (DROPPED_SKIP, 'noise'):
      return BundleGiven(active, drop, draws._replace(keys=draws.keys[places]))
    return BundleGiven(active, drop, None)

  drop = extras.edge_drop
  if drop is not None:
    drop = _spread(group, range(len(group.edges)), drop, num_nodes)
  return Given(learning, drop, tuple(map(of, bundles)))


def _averages_by_source(group: EdgeGroup, running: Averages) -> Averages:
  """Returns the averages of shared operations with a row for each source; some are never used."""
  found = {}
  for name in filter(group.shares, running):
    rows = group.sources_with(name)
    if len(rows) == group.num_sources:
      found[name] = running[name]
    else:
      place = np.searchsorted(rows, range(group.num_sources)).clip(max=len(rows) - 1)
      found[name] = _take(running[name], place)
  return found


def _averages_by_edge(bundle: Bundle, running: Averages) -> Averages:
  """Returns the averages of a bundle's operations."""
  return {name: running[name] for name in running if name.removesuffix('_first') in bundle.names}


def _spread_weights(
  group: EdgeGroup, weights: Mapping[str, Float[Array, '_']], num_nodes: int
) -> dict[str, Float[Array, 'J S']]:
  """Writes the weights of shared operations as one number for each source and target."""
  return {
    name: _spread(group, group.places(name), weights[name], num_nodes)
    for name in weights
    if group.shares(name)
  }


def _spread(
  group: EdgeGroup, places: Sequence[int], values: Float[Array, 'n *B'], num_nodes: int
) -> Float[Array, 'J S *B']:
  """Writes values of some edges as one for each source and target, 0 where none is."""
  sources, targets = np.array([group.edges[place] for place in places]).T
  places = sources - group.first, targets - 2
  shape = group.num_sources, num_nodes - 2, *values.shape[1:]
  return jnp.zeros(shape).at[places].set(values)


def _take(tree: PyTree, rows: Int[np.ndarray, 'n']) -> PyTree:
  """Returns some rows of every array."""
  return jax.tree.map(lambda a: jnp.asarray(a)[rows], tree)


def row(tree: PyTree, i: Index) -> PyTree:
  """Returns row i of every array.

  Args:
    tree: arrays of as many rows.
    i: the row.
  """
  return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), tree)


def put(tree: PyTree, values: PyTree, i: Index) -> PyTree:
  """Returns the arrays with row i replaced.

  Args:
    tree: arrays of as many rows.
    values: the new row of each array.
    i: the row.
  """
  return jax.tree.map(lambda a, v: lax.dynamic_update_index_in_dim(a, v, i, 0), tree, values)
