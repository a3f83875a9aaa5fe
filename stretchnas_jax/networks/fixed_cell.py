"""One cell of a fixed genotype."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from stretchnas_jax.networks import operations as ops
from stretchnas_jax.networks import own_operations
from stretchnas_jax.networks.forms.layouts import FeatureMap
from stretchnas_jax.networks.layers import Identity, Style


class FixedCell(nn.Module):
  """One cell of a genotype; a node may have any number of inputs.

  Attributes:
    edges: `((operation, source, destination), ...)`, sorted by destination.
    concat: the nodes whose values are the output, side by side.
    channels: C of every node.
    reduction: whether the edges from the two inputs have stride 2.
    after_reduction: whether the cell before the previous one was twice as large.
    operations: a researcher's own operations; they always see channels-last maps.
    style: type, parallel axis, and the layout of the feature maps, inputs and output too.
  """

  edges: tuple[tuple[str, int, int], ...]
  concat: tuple[int, ...]
  channels: int
  reduction: bool
  after_reduction: bool
  operations: own_operations.OwnOperations | None = None
  style: Style = Style()

  @nn.compact
  def __call__(
    self,
    s0: FeatureMap,
    s1: FeatureMap,
    train: bool = False,
    keep: Float[Array, 'B E'] | None = None,
  ) -> FeatureMap:
    """Returns the nodes in `concat` side by side along the channels.

    Args:
      s0: the output of the cell before the previous one.
      s1: the output of the previous cell.
      train: whether to normalise with the moments of the batch.
      keep: the factor with which drop path multiplies the value of each edge; None without it.
    """
    enter_first = ops.FactorizedReduce if self.after_reduction else ops.ReluConvNorm
    nodes = {
      0: enter_first(self.channels, self.style, name='enter_0')(s0, train),
      1: ops.ReluConvNorm(self.channels, self.style, name='enter_1')(s1, train),
    }
    for i, (name, source, destination) in enumerate(self.edges):
      stride = 2 if self.reduction and source < 2 else 1
      operation = self._operation(name, stride).copy(name=f'edge_{i}')
      value = self._apply(operation, name, stride, nodes[source], train)
      if keep is not None and not isinstance(operation, Identity):
        value *= self.style.layout.along_images(keep[:, i]).astype(value.dtype)
      nodes[destination] = nodes[destination] + value if destination in nodes else value
    return jnp.concatenate([nodes[node] for node in self.concat], self.style.layout.channel_axis)

  def _is_own(self, name: str) -> bool:
    return name in (self.operations or {})

  def _operation(self, name: str, stride: int) -> nn.Module:
    """Builds the module of an operation; own ones go before built-in ones."""
    if self._is_own(name):
      axis_name = None if self.is_initializing() else self.style.axis_name
      return own_operations.build(self.operations or {}, name, self.channels, stride, axis_name)
    return ops.OPERATIONS[name](self.channels, stride, self.style)

  def _apply(
    self, operation: nn.Module, name: str, stride: int, x: FeatureMap, train: bool
  ) -> FeatureMap:
    """Computes an operation; own ones get channels-last maps, and their output is checked."""
    if not self._is_own(name):
      return operation(x, train)
    layout = self.style.layout
    return layout.enter(own_operations.apply(operation, name, stride, layout.leave(x), train))
