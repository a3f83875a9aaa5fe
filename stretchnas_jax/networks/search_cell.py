"""One cell of the search network: every candidate operation on every edge."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.space import DARTS_PRIMITIVES, SearchSpace
from stretchnas_jax.networks import initializers, own_operations
from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib
from stretchnas_jax.networks.forms import dense_convolutions, edge_groups, edge_loop
from stretchnas_jax.networks.forms.edge_groups import EdgeGroup
from stretchnas_jax.networks.forms.layouts import BatchLast, ChannelsLast, FeatureMap, Layout

_Node: TypeAlias = Float[Array, '...'] | float  # 0.0 where no edge has arrived yet


class Form(NamedTuple):
  """A way to compute the mixtures on the edges of a cell.

  Attributes:
    layout: the layout of the feature maps.
    add_mixtures: adds the mixtures of an edge group to the nodes of the cell.
    together: whether a group may hold the edges of several nodes.
  """

  layout: type[Layout]
  add_mixtures: Callable[..., Any]
  together: bool


FORMS = {
  'merged': Form(ChannelsLast, dense_convolutions.add_mixtures, together=False),
  'planes': Form(BatchLast, edge_loop.add_mixtures, together=True),
}


def is_convolution(name: str) -> bool:
  """Returns whether an operation is separable or dilated, such as `sep_conv_3x3`."""
  return re.fullmatch(r'(sep|dil)_conv_([3579])x\2', name) is not None


def is_built_in(name: str) -> bool:
  """Returns whether the forms compute an operation; any other is a module of the researcher."""
  return name in DARTS_PRIMITIVES or is_convolution(name)


class SearchCell(nn.Module):
  """One cell of the supernet. Its parameters are stored by source, then destination.

  Attributes:
    space: the search space; S intermediate nodes, E edges, O operations.
    channels: C of every node.
    reduction: whether the edges from the two inputs have stride 2.
    after_reduction: whether the cell before the previous one was twice as large.
    form: a name in `FORMS`; feature maps are in the form's layout.
    operations: a researcher's own operations.
    axis_name: the parallel axis over which batch statistics are taken, or None.
    batch_norm: as for `Supernet`.
  """

  space: SearchSpace
  channels: int
  reduction: bool
  after_reduction: bool
  form: str
  operations: own_operations.OwnOperations | None = None
  axis_name: str | None = None
  batch_norm: str = 'corrected'

  def setup(self) -> None:
    """Creates the parameters of all edges, and the running averages."""
    self.edge_params = self._create_params()
    self.running = self.variable('batch_stats', 'norms', self._first_averages)

  @nn.compact
  def __call__(
    self,
    s0: FeatureMap,
    s1: FeatureMap,
    op_weights: Float[AnyArray, 'E O'],
    edge_scores: Float[AnyArray, 'E'],
    train: bool = False,
    learning: Float[AnyArray, ''] | float = 1.0,
  ) -> FeatureMap:
    """Returns the S intermediate nodes side by side along the channels.

    Args:
      s0: the output of the cell before the previous one.
      s1: the output of the previous cell.
      op_weights: operation weights, float32, edges in DARTS' order.
      edge_scores: edge scores, float32.
      train: whether to normalise with the moments of the batch and update the running averages.
      learning: as for `Supernet`.
    """
    axis_name = None if self.is_initializing() else self.axis_name
    norms = batch_norm_lib.BatchNorms(None if train else self.running.value, axis_name)
    nodes: list[_Node] = [
      self._enter(s0, 'entry0', norms, self.after_reduction),
      self._enter(s1, 'entry1', norms, False),
    ]
    nodes += [0.0] * self.space.graph.num_intermediate
    weights = (jnp.asarray(op_weights) * jnp.asarray(edge_scores)[:, None])[self._order()]
    entries, seen = nodes[:2], []
    for group in self._groups():
      nodes, moments = self._add_built_in(group, nodes, weights, learning, train, axis_name)
      nodes = self._add_own(group, nodes, weights, train)
      seen.append(moments)
    if train and not self.is_initializing() and self.is_mutable_collection('batch_stats'):
      batch = jax.lax.stop_gradient(norms.batch | edge_groups.join_moments(seen))
      factors = self._count_factors(cast(Array, entries[0]), cast(Array, nodes[2]))
      self.running.value = batch_norm_lib.update_running(self.running.value, batch, factors)
    return jnp.concatenate(nodes[2:], self._layout.channel_axis)

  # ---- parameters and running averages -----------------------------------------------------------

  def _create_params(self) -> dict[str, dict[str, AnyArray]]:
    """Creates `{operation: {kind: [E, ...]}}`, all edges of an operation in one array."""
    names = self.space.primitives
    params = {name: self._create_convolution(name) for name in names if is_convolution(name)}
    if self.reduction and 'skip_connect' in names:
      shape = (2 * self.space.graph.num_intermediate, 1, self.channels, self.channels)
      kernel = self.param('skip_connect', initializers.uniform(self.channels), shape)
      params['skip_connect'] = {'pointwise': kernel}
    return params

  def _create_convolution(self, name: str) -> dict[str, AnyArray]:
    size, stages = int(name[-1]), 2 if name.startswith('sep') else 1
    lead = (len(self.space.graph.edges), stages, self.channels)
    depthwise = self.param(
      f'{name}_depthwise', initializers.uniform(size * size), (*lead, size, size)
    )
    pointwise = self.param(
      f'{name}_pointwise', initializers.uniform(self.channels), (*lead, self.channels)
    )
    return {'depthwise': depthwise, 'pointwise': pointwise}

  def _first_averages(self) -> batch_norm_lib.Averages:
    """The running averages before the first batch: mean 0, variance 1."""
    return {
      name: {'mean': jnp.zeros(shape), 'var': jnp.ones(shape)}
      for name, shape in self._norm_shapes().items()
    }

  def _norm_shapes(self) -> dict[str, tuple[int, ...]]:
    """For each batch norm the shape of its moments: `[E, C]`, or for pools a row for each node."""
    graph, channels = self.space.graph, self.channels
    shapes: dict[str, tuple[int, ...]] = {'entry0': (channels,), 'entry1': (channels,)}
    for name in self.space.primitives:
      if is_convolution(name):
        stages = (name + '_first', name) if name.startswith('sep') else (name,)
        shapes |= dict.fromkeys(stages, (len(graph.edges), channels))
      elif '_pool_' in name and is_built_in(name):
        shapes[name] = (graph.num_intermediate + 1, channels)
      elif name == 'skip_connect' and self.reduction:
        shapes[name] = (2 * graph.num_intermediate, channels)
    return shapes

  def _count_factors(self, entry: FeatureMap, node: FeatureMap) -> dict[str, float]:
    """Returns PyTorch's factor of the variance for each batch norm.

    Both inputs of the cell have one size, and every other batch norm has the size of a node.
    """
    if self.batch_norm != 'corrected':
      return {}
    of_entry, of_node = (
      batch_norm_lib.count_factor(x, self._layout.channel_axis, self.axis_name)
      for x in (entry, node)
    )
    return {name: of_entry if name.startswith('entry') else of_node for name in self.running.value}

  def _averages_of(self, group: EdgeGroup) -> batch_norm_lib.Averages:
    """The running averages of one group."""
    sources = slice(group.first, group.first + group.num_sources)
    found = {}
    for name, averages in self.running.value.items():
      if name.startswith('entry') or (name == 'skip_connect' and group.stride == 1):
        continue
      rows = sources if group.shares(name) else group.rows
      found[name] = {field: values[rows] for field, values in averages.items()}
    return found

  # ---- computation -------------------------------------------------------------------------------

  @property
  def _layout(self) -> type[Layout]:
    return FORMS[self.form].layout

  def _order(self) -> np.ndarray:
    """`[E]`: the places of the edges by source, then destination, in DARTS' order."""
    edges = self.space.graph.edges
    return np.array(sorted(range(len(edges)), key=edges.__getitem__))

  def _groups(self) -> list[EdgeGroup]:
    """The cell's edges in groups; an own operation stands between the groups of two nodes."""
    together = FORMS[self.form].together and all(map(is_built_in, self.space.primitives))
    return edge_groups.split_edges(self.space.graph, self.reduction, together)

  def _enter(
    self, x: FeatureMap, name: str, norms: batch_norm_lib.BatchNorms, halve: bool
  ) -> FeatureMap:
    """ReLU, 1x1 convolution or factorized reduction to C channels, batch norm."""
    x = jax.nn.relu(x)
    inputs = x.shape[self._layout.channel_axis]
    kernel = self.param(name, initializers.uniform(inputs), (inputs, self.channels))
    x = self._layout.halve(x, kernel) if halve else self._layout.project(x, kernel)
    return self._layout.normalize(x, name, norms)

  def _add_built_in(
    self,
    group: EdgeGroup,
    nodes: list[_Node],
    weights: Float[Array, 'E O'],
    learning: Float[AnyArray, ''] | float,
    train: bool,
    axis_name: str | None,
  ) -> tuple[list[_Node], Mapping[str, Any]]:
    """Adds the mixtures of the operations that the form computes; returns their moments too."""
    columns = {
      name: weights[group.rows, o]
      for o, name in enumerate(self.space.primitives)
      if is_built_in(name) and name != 'none'
    }
    if self.is_initializing() or not columns:
      # All parameters exist by now, and tracing more than is needed would take seconds.
      x = cast(Array, nodes[group.first])
      zeros = jnp.zeros_like(x[:, :: group.stride, :: group.stride])  # in either layout
      return [*nodes[:2], *(node + zeros for node in nodes[2:])], {}
    params = {
      name: jax.tree.map(lambda a: a[group.rows], arrays)
      for name, arrays in self.edge_params.items()
      if not group.shares(name)
    }
    running = None if train else self._averages_of(group)
    add_mixtures = FORMS[self.form].add_mixtures
    return add_mixtures(group, axis_name, params, nodes, columns, learning, running)

  def _add_own(
    self,
    group: EdgeGroup,
    nodes: list[_Node],
    weights: Float[Array, 'E O'],
    train: bool,
  ) -> list[_Node]:
    """Adds the weighted outputs of the researcher's own operations, edge by edge."""
    own = [(o, name) for o, name in enumerate(self.space.primitives) if not is_built_in(name)]
    nodes = list(nodes)
    for i, (source, target) in enumerate(group.edges):
      for o, name in own:
        module = own_operations.build(self.operations or {}, name, self.channels, group.stride)
        module = module.copy(name=f'{name}_{source}_{target}')
        x = self._layout.leave(cast(Array, nodes[source]))
        y = own_operations.apply(module, name, group.stride, x, train)
        weight = weights[group.start + i, o]
        nodes[target] += weight.astype(y.dtype) * self._layout.enter(y)
    return nodes
