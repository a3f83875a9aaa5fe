"""One cell of the search network of NAS-Bench-201: every operation on every edge."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.networks import initializers
from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib
from stretchnas_jax.networks.forms import dense_copies
from stretchnas_jax.networks.forms import draws as draws_lib
from stretchnas_jax.networks.forms import partial_channels as partial_lib
from stretchnas_jax.networks.forms.layouts import FeatureMap
from stretchnas_jax.networks.forms.pooling import pooled
from stretchnas_jax.networks.layers import Style

_SIZES = {'nor_conv_1x1': 1, 'nor_conv_3x3': 3}


class CellExtras(NamedTuple):
  """The inputs of a cell that only few searches need; None where they change nothing.

  Attributes:
    auxiliary_skip: the weight of a skip connection beside the operations of each edge (DARTS-).
    edge_drop: `[E, B]`, a factor of each edge for each image.
    draws: of the dropout of skip connections; its `keys` are one key, for all edges of the cell.
  """

  auxiliary_skip: Float[AnyArray, ''] | None = None
  edge_drop: Float[Array, 'E B'] | None = None
  draws: draws_lib.Draws | None = None


class NasBenchSearchCell(nn.Module):
  """One cell of the supernet; its edges that leave one node share a convolution of each size.

  Attributes:
    space: the search space; S intermediate nodes, E edges, O operations.
    channels: C of every node.
    style: type, parallel axis and layout.
    partial_channels: K; operations see the first C / K channels, see `NasBenchSupernet`.
  """

  space: SearchSpace
  channels: int
  style: Style
  partial_channels: int = 1

  def setup(self) -> None:
    """Creates the parameters of all edges, and the running averages."""
    edges, width = len(self.space.graph.edges), self.channels // self.partial_channels
    kernels, first = {}, {}
    for name, size in _SIZES.items():
      if name in self.space.primitives:
        shape = (edges, size, size, width, width)
        init = initializers.uniform(width * size * size)
        kernels[name] = self.param(name, init, shape)
        # The benchmark's convolutions have biases, which batch norm takes away.
        self.param(f'{name}_bias', initializers.uniform(width * size * size), (edges, width))
        first[name] = {'mean': jnp.zeros((edges, width)), 'var': jnp.ones((edges, width))}
    self.kernels = kernels
    averages: batch_norm_lib.Averages = first
    self.running = self.variable('batch_stats', 'norms', lambda: averages)

  def __call__(
    self,
    x: FeatureMap,
    op_weights: Float[AnyArray, 'E O'],
    edge_scores: Float[AnyArray, 'E'],
    train: bool = False,
    extras: CellExtras | None = None,
  ) -> FeatureMap:
    """Returns the last node.

    Args:
      x: the input.
      op_weights: operation weights, float32.
      edge_scores: edge scores, float32.
      train: whether to normalise with the moments of the batch and update the running averages.
      extras: auxiliary skips, dropped edges and dropout.
    """
    extras = extras or CellExtras()
    graph, axis = self.space.graph, self.style.layout.channel_axis
    nodes: list[FeatureMap | float] = [x, *[0.0] * graph.num_intermediate]
    rests: list[FeatureMap | float] = [0.0] * graph.num_nodes
    width, moments = self.channels // self.partial_channels, {name: {} for name in self.kernels}
    for source in range(graph.num_nodes - 1):
      edges = list(graph.out_edges(source))
      node = jnp.asarray(self._shuffled(source, nodes[source], rests[source]), self.style.dtype)
      seen, rest = jnp.split(node, [width], axis)
      weights = jnp.asarray(op_weights)[np.array(edges)] * edge_scores[np.array(edges), None]
      skips = self._skips(seen, edges, weights, edge_scores, extras)
      mixtures = self._mixtures(seen, edges, weights, skips, train, moments)
      for edge, mixture in zip(edges, jnp.split(mixtures, len(edges), axis)):
        target = graph.edges[edge][1]
        nodes[target] = nodes[target] + self._dropped(mixture, edge, extras)
        if self.partial_channels > 1:
          passed = rest * edge_scores[edge].astype(rest.dtype)
          rests[target] = rests[target] + self._dropped(passed, edge, extras)
    if train:
      self._update_running(moments, _count_factor(x, self.style))
    last = graph.num_nodes - 1
    return jnp.asarray(self._shuffled(last, nodes[last], rests[last]))

  def _shuffled(self, node: int, seen: Any, rest: Any) -> Any:
    """Returns a node whose channels come in turn from K groups; the input comes as it is."""
    if self.partial_channels == 1 or not node:
      return seen
    axis = self.style.layout.channel_axis
    both = partial_lib.join(seen, rest, axis)
    return partial_lib.shuffle(both, self.partial_channels, axis)

  def _mixtures(
    self,
    x: FeatureMap,
    edges: Sequence[int],
    weights: Float[Array, 'k O'],
    skips: FeatureMap | float,
    train: bool,
    moments: dict[str, dict[int, dict[str, Array]]],
  ) -> FeatureMap:
    """Returns the mixtures on the k edges that leave a node, side by side along the channels.

    Args:
      x: the channels that operations see.
      edges: their places in the graph.
      weights: operation weights times edge scores.
      skips: the part of their skip connections.
      train: see `__call__`.
      moments: gets the moments of the batch norms, by edge.
    """
    layout, axis = self.style.layout, self.style.layout.channel_axis
    width, names = x.shape[axis], self.space.primitives
    rows, r = np.array(edges), jax.nn.relu(x)
    column = lambda name: jnp.repeat(weights[:, names.index(name)], width)
    total = jnp.zeros_like(jnp.concatenate([x] * len(edges), axis))
    for name in self.kernels:
      kernel = self.kernels[name][rows].astype(x.dtype)  # [k, s, s, C, C]
      kernel = jnp.moveaxis(kernel, 0, 3).reshape(*kernel.shape[1:4], -1)
      if _SIZES[name] == 1:
        y = layout.project(r, kernel[0, 0])
      else:
        y = dense_copies.convolve(r, kernel, layout)
      norms = self._norms(rows, train)
      y = layout.normalize(y, name, norms)
      for field, values in norms.batch.get(name, {}).items():
        for edge, value in zip(edges, values.reshape(len(edges), -1)):
          moments[name].setdefault(edge, {})[field] = value
      total += y * _along_channels(column(name), axis).astype(x.dtype)
    total += skips
    if 'avg_pool_3x3' in names:
      copies = jnp.concatenate([pooled(x, 'avg_pool_3x3', 1)] * len(edges), axis)
      total += copies * _along_channels(column('avg_pool_3x3'), axis).astype(x.dtype)
    return total

  def _skips(
    self,
    x: FeatureMap,
    edges: Sequence[int],
    weights: Float[Array, 'k O'],
    edge_scores: Float[AnyArray, 'E'],
    extras: CellExtras,
  ) -> FeatureMap | float:
    """Returns the skip connections of the k edges that leave a node, as `_mixtures` does.

    Args:
      x: the channels that operations see.
      edges: their places in the graph.
      weights: operation weights times edge scores.
      edge_scores: of all edges.
      extras: dropout, and the weight of auxiliary skips, which have none.
    """
    axis, width = self.style.layout.channel_axis, x.shape[self.style.layout.channel_axis]
    wide = lambda of_edges: _along_channels(jnp.repeat(of_edges, width), axis).astype(x.dtype)
    copies, total = jnp.concatenate([x] * len(edges), axis), 0.0
    if 'skip_connect' in self.space.primitives:
      column = weights[:, self.space.primitives.index('skip_connect')]
      total = copies * wide(column)
      if extras.draws is not None:
        total = total * self._kept(x, edges, extras.draws)
    if extras.auxiliary_skip is not None:
      scores = jnp.asarray(edge_scores)[np.array(edges)]
      total = total + copies * wide(scores * extras.auxiliary_skip)
    return total

  def _kept(self, x: FeatureMap, edges: Sequence[int], draws: draws_lib.Draws) -> FeatureMap:
    """Returns the factors of the numbers of some edges' skip connections, side by side."""
    layout = self.style.layout
    shape = layout.leave(x).shape[1:]
    factors = [
      draws_lib.skip_factors(draws._replace(keys=jax.random.fold_in(draws.keys, edge)), shape)
      for edge in edges
    ]
    return jnp.concatenate([layout.enter(one) for one in factors], layout.channel_axis)

  def _dropped(self, x: FeatureMap, edge: int, extras: CellExtras) -> FeatureMap:
    """Returns the map of an edge, times its factor for each image."""
    if extras.edge_drop is None:
      return x
    return x * self.style.layout.along_images(extras.edge_drop[edge]).astype(x.dtype)

  def _norms(self, rows: np.ndarray, train: bool) -> batch_norm_lib.BatchNorms:
    """Returns the statistics of the batch norms of some edges, side by side."""
    axis_name = None if self.is_initializing() else self.style.axis_name
    if train:
      return batch_norm_lib.BatchNorms(None, axis_name)
    flat = jax.tree.map(lambda values: jnp.asarray(values)[rows].reshape(-1), self.running.value)
    return batch_norm_lib.BatchNorms(flat, axis_name)

  def _update_running(
    self, moments: Mapping[str, Mapping[int, Mapping[str, Array]]], factor: float
  ) -> None:
    """Moves the running averages towards the moments of all edges."""
    if self.is_initializing() or not self.is_mutable_collection('batch_stats'):
      return
    edges = range(len(self.space.graph.edges))
    batch = {
      name: {
        field: jax.lax.stop_gradient(jnp.stack([found[edge][field] for edge in edges]))
        for field in ('mean', 'var')
      }
      for name, found in moments.items()
    }
    corrected = self.style.batch_norm == 'corrected'
    factors = dict.fromkeys(batch, factor) if corrected else {}
    self.running.value = batch_norm_lib.update_running(self.running.value, batch, factors)


def _count_factor(x: FeatureMap, style: Style) -> float:
  """Returns PyTorch's factor of the variance for maps of one size."""
  return batch_norm_lib.count_factor(x, style.layout.channel_axis, style.axis_name)


def _along_channels(values: Float[Array, 'D'], axis: int) -> Float[Array, '...']:
  """Returns a number for each channel in a shape that multiplies whole maps."""
  return values if axis == -1 else values[:, None, None, None]
