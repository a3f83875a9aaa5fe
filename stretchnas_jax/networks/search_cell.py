"""One cell of the search network: every candidate operation on every edge."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.networks import initializers, own_operations
from stretchnas_jax.networks.cell_inputs import CellInputs
from stretchnas_jax.networks.cell_plan import CellPlan
from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib
from stretchnas_jax.networks.forms import (
  dense_convolutions,
  dense_kernels,
  edge_groups,
  edge_loop,
  partial_channels,
)
from stretchnas_jax.networks.forms.edge_groups import AUXILIARY_SKIP, EdgeGroup
from stretchnas_jax.networks.forms.layouts import BatchLast, ChannelsLast, FeatureMap, Layout

_Node: TypeAlias = Float[Array, '...'] | float  # 0.0 where no edge has arrived yet


class Form(NamedTuple):
  """A way to compute the mixtures on the edges of a cell.

  Attributes:
    layout: the layout of the feature maps.
    prepare: turns the parameters of all edges of a cell, `[n, ...]` each, into those that
      `add_mixtures` takes. So kernels are made once for a cell, and not for each edge group.
    add_mixtures: adds the mixtures of an edge group to the nodes of the cell.
    together: whether a group may hold the edges of several nodes.
  """

  layout: type[Layout]
  prepare: Callable[..., dict[str, dict[str, AnyArray]]]
  add_mixtures: Callable[..., Any]
  together: bool


FORMS = {
  'merged': Form(
    ChannelsLast, dense_kernels.merge_all, dense_convolutions.add_mixtures, together=False
  ),
  'planes': Form(BatchLast, dict, edge_loop.add_mixtures, together=True),
}


class SearchCell(nn.Module):
  """One cell of the supernet. Its parameters are stored by source, then destination.

  Attributes:
    plan: the operations and where they stand; E edges, O operations of the search space.
    channels: C of every node.
    after_reduction: whether the cell before the previous one was twice as large.
    form: a name in `FORMS`; feature maps are in the form's layout.
    operations: a researcher's own operations.
    axis_name: the parallel axis over which batch statistics are taken, or None.
    batch_norm: as for `Supernet`.
    sparse: as for `Supernet`.
  """

  plan: CellPlan
  channels: int
  after_reduction: bool
  form: str
  operations: own_operations.OwnOperations | None = None
  axis_name: str | None = None
  batch_norm: str = 'corrected'
  sparse: bool = False

  def setup(self) -> None:
    """Creates the parameters of all edges, and the running averages."""
    self.edge_params = self._create_params()
    self.running = self.variable('batch_stats', 'norms', self._first_averages)

  @nn.compact
  def __call__(
    self,
    s0: FeatureMap,
    s1: FeatureMap,
    inputs: CellInputs,
    train: bool = False,
    learning: Float[AnyArray, ''] | float = 1.0,
  ) -> FeatureMap:
    """Returns the S intermediate nodes side by side along the channels.

    Args:
      s0: the output of the cell before the previous one.
      s1: the output of the previous cell.
      inputs: the weights of the mixtures, and further arrays.
      train: whether to normalise with the moments of the batch and update the running averages.
      learning: as for `Supernet`.
    """
    axis_name = None if self.is_initializing() else self.axis_name
    norms = batch_norm_lib.BatchNorms(None if train else self.running.value, axis_name)
    nodes: list[_Node] = [
      self._enter(s0, 'entry0', norms, self.after_reduction),
      self._enter(s1, 'entry1', norms, False),
    ]
    nodes += [0.0] * self.plan.space.graph.num_intermediate
    entries, seen = nodes[:2], []
    params = {} if self.is_initializing() else FORMS[self.form].prepare(self.edge_params)
    for group in self.plan.groups(FORMS[self.form].together):
      nodes, moments = self._add_built_in(group, params, nodes, inputs, learning, train, axis_name)
      nodes = self._add_own(group, nodes, inputs, train, axis_name)
      seen.append(moments)
    if train and not self.is_initializing() and self.is_mutable_collection('batch_stats'):
      batch = jax.lax.stop_gradient(norms.batch | edge_groups.join_moments(seen))
      factors = self._count_factors(cast(Array, entries[0]), cast(Array, nodes[2]))
      ran = self._ran(inputs)
      self.running.value = batch_norm_lib.update_running(self.running.value, batch, factors, ran)
    outputs = [self._read(nodes, node) for node in range(2, len(nodes))]
    return jnp.concatenate(outputs, self._layout.channel_axis)

  # ---- parameters and running averages -----------------------------------------------------------

  def _create_params(self) -> dict[str, dict[str, AnyArray]]:
    """Creates `{operation: {kind: [n, ...]}}`, all n edges of an operation in one array."""
    params: dict[str, dict[str, AnyArray]] = {}
    for name, (shape, fan_in) in self.plan.param_shapes(self.channels).items():
      operation, kind = name, 'pointwise'
      if name not in self.plan.operations:
        operation, _, kind = name.rpartition('_')
      array = self.param(name, initializers.uniform(fan_in), shape)
      params.setdefault(operation, {})[kind] = array
    return params

  def _first_averages(self) -> batch_norm_lib.Averages:
    """The running averages before the first batch: mean 0, variance 1."""
    return {
      name: {'mean': jnp.zeros(shape), 'var': jnp.ones(shape)}
      for name, shape in self.plan.norm_shapes(self.channels).items()
    }

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
    found = {}
    columns = self.plan.columns_of(group)
    for name, averages in self.running.value.items():
      operation = name.removesuffix('_first')
      skips = operation in ('skip_connect', AUXILIARY_SKIP) and group.stride == 1
      if operation in columns and not skips:
        rows = self.plan.rows_of(operation, group)
        found[name] = {field: values[rows] for field, values in averages.items()}
    return found

  def _ran(self, inputs: CellInputs) -> dict[str, Array]:
    """For each batch norm that is not always computed, whether it was, `[n, 1]`."""
    if not self.sparse:
      return {}
    active, found = inputs.active(self.plan), {}
    for name in self.running.value:
      operation = name.removesuffix('_first')
      if operation in active and '_pool_' not in operation:
        rows = np.array(self.plan.array_rows(operation))
        found[name] = active[operation][rows][:, None] != 0
    return found

  # ---- computation -------------------------------------------------------------------------------

  @property
  def _layout(self) -> type[Layout]:
    return FORMS[self.form].layout

  def _enter(
    self, x: FeatureMap, name: str, norms: batch_norm_lib.BatchNorms, halve: bool
  ) -> FeatureMap:
    """ReLU, 1x1 convolution or factorized reduction to C channels, batch norm."""
    x = jax.nn.relu(x)
    inputs = x.shape[self._layout.channel_axis]
    kernel = self.param(name, initializers.uniform(inputs), (inputs, self.channels))
    x = self._layout.halve(x, kernel) if halve else self._layout.project(x, kernel)
    return self._layout.normalize(x, name, norms)

  def _read(self, nodes: list[_Node], node: int) -> FeatureMap:
    """A finished node as the next ones see it."""
    x, split = cast(Array, nodes[node]), self.plan.partial_channels
    return x if node < 2 else partial_channels.shuffle(x, split, self._layout.channel_axis)

  def _add_built_in(
    self,
    group: EdgeGroup,
    params: Mapping[str, Mapping[str, AnyArray]],
    nodes: list[_Node],
    inputs: CellInputs,
    learning: Float[AnyArray, ''] | float,
    train: bool,
    axis_name: str | None,
  ) -> tuple[list[_Node], Mapping[str, Any]]:
    """Adds the mixtures of the operations that the form computes; returns their moments too."""
    columns = inputs.columns(self.plan, group)
    if self.is_initializing() or not columns:
      # All parameters exist by now, and tracing more than is needed would take seconds.
      x = cast(Array, nodes[group.first])
      zeros = jnp.zeros_like(x[:, :: group.stride, :: group.stride])  # in either layout
      return [*nodes[:2], *(node + zeros for node in nodes[2:])], {}
    own = {
      name: jax.tree.map(lambda a, name=name: a[self.plan.rows_of(name, group)], arrays)
      for name, arrays in params.items()
      if name in columns and not group.shares(name)
    }
    running = None if train else self._averages_of(group)
    extras = inputs.extras(self.plan, group, self.sparse and train)
    add_mixtures = FORMS[self.form].add_mixtures
    return add_mixtures(group, axis_name, own, nodes, columns, learning, running, extras)

  def _add_own(
    self,
    group: EdgeGroup,
    nodes: list[_Node],
    inputs: CellInputs,
    train: bool,
    axis_name: str | None,
  ) -> list[_Node]:
    """Adds the weighted outputs of the researcher's own operations, edge by edge."""
    nodes, axis, split = list(nodes), self._layout.channel_axis, self.plan.partial_channels
    weights = inputs.weights(self.plan) if self.plan.own else None
    for i, (source, target) in enumerate(group.edges):
      place = group.start + i
      for name in [name for name, places in self.plan.own.items() if place in places]:
        channels = self.channels // split
        module = own_operations.build(
          self.operations or {}, name, channels, group.stride, axis_name
        )
        module = module.copy(name=f'{name}_{source}_{target}')
        x = partial_channels.front(self._read(nodes, source), split, axis)
        y = own_operations.apply(module, name, group.stride, self._layout.leave(x), train)
        y = self._layout.enter(y)
        weight = cast(Array, weights)[place, self.plan.space.primitives.index(name)].astype(y.dtype)
        if inputs.edge_drop is not None:
          factors = inputs.edge_drop[self.plan.order[place]].astype(y.dtype)
          y = y * self._layout.along_images(factors)
        nodes[target] = partial_channels.add_front(
          cast(Array, nodes[target]), weight * y, split, axis
        )
    return nodes
