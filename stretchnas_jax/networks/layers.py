"""The layers of which networks consist, in either layout of feature maps.

Every layer that costs something is a module of its own, so that `sizes` counts by watching them at
work. A stride of 2 gives `ceil(H / 2)` rows. Parameters are the same in both layouts.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.networks import initializers
from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib
from stretchnas_jax.networks.forms import dense_copies, pooling, shifted_copies
from stretchnas_jax.networks.forms.layouts import BatchLast, ChannelsLast, FeatureMap, Layout

EPSILON = batch_norm_lib.EPSILON
"""The number that a batch norm adds to the variance."""

_Padding = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))


@dataclasses.dataclass(frozen=True)
class Style:
  """The properties that all layers of a network, or of a cell, have in common.

  Attributes:
    dtype: the type of the computation; parameters and batch statistics are float32.
    axis_name: the parallel axis over which batch statistics are taken, or None.
    layout: the layout of the feature maps that enter and leave a layer.
    batch_norm: the rule of running averages, a member of `batch_norm.RULES`.
  """

  dtype: DTypeLike = jnp.float32
  axis_name: str | None = None
  layout: type[Layout] = ChannelsLast
  batch_norm: str = 'corrected'


# The functions below are jitted by themselves only so that equal layers are traced once.


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _convolve(
  x: Float[Array, 'B H W C'],
  kernel: Float[Array, 'a b c D'],
  strides: tuple[int, int],
  padding: _Padding,
  dilation: int = 1,
  groups: int = 1,
) -> Float[Array, 'B h w D']:
  """Convolves channels-last maps."""
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
  )


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _convolve_batch_last(
  x: Float[Array, 'C H W B'],
  kernel: Float[Array, 'a b c D'],
  strides: tuple[int, int],
  padding: _Padding,
  dilation: int = 1,
  groups: int = 1,
) -> Float[Array, 'D h w B']:
  """Convolves batch-last maps, the usual ones faster on a CPU than over channels-last maps."""
  if groups > 1:
    kernels = kernel[:, :, 0].transpose(2, 0, 1)
    return shifted_copies.depthwise((kernels,), (x,), 1.0, strides[0], (dilation,))[0]
  if kernel.shape[:2] == (1, 1):
    return BatchLast.project(x, kernel[0, 0])
  if kernel.shape[:2] == (3, 3) and dilation == 1 and strides[0] == strides[1]:
    return dense_copies.convolve(x, kernel, BatchLast, strides[0])
  y = _convolve(BatchLast.leave(x), kernel, strides, padding, dilation)
  return BatchLast.enter(y)


_CONVOLUTIONS: dict[type[Layout], Callable[..., Array]] = {
  ChannelsLast: _convolve,
  BatchLast: _convolve_batch_last,
}
_pooled = jax.jit(pooling.pooled, static_argnums=(1, 2))


class Conv(nn.Module):
  """A convolution without bias, padded so that an odd size at stride 1 keeps the image's.

  Attributes:
    features: the output channels; a depthwise convolution has as many as its input.
    size: height and width of the kernel.
    strides: the strides down and across.
    dilation: the distance of the kernel's pixels.
    depthwise: whether every channel has a kernel of its own.
    style: type and layout of the computation.
  """

  features: int
  size: tuple[int, int] = (1, 1)
  strides: tuple[int, int] = (1, 1)
  dilation: int = 1
  depthwise: bool = False
  style: Style = Style()

  @nn.compact
  def __call__(self, x: FeatureMap) -> FeatureMap:
    """Returns the convolution of `x`, in the type of the style."""
    inputs = 1 if self.depthwise else x.shape[self.style.layout.channel_axis]
    shape = (*self.size, inputs, self.features)
    kernel = self.param('kernel', initializers.uniform(inputs * self.size[0] * self.size[1]), shape)
    x, kernel = x.astype(self.style.dtype), kernel.astype(self.style.dtype)
    padding = tuple((self.dilation * (size - 1) // 2,) * 2 for size in self.size)
    groups = self.features if self.depthwise else 1
    convolve = _CONVOLUTIONS[self.style.layout]
    return convolve(x, kernel, self.strides, padding, self.dilation, groups)


class BatchNorm(nn.Module):
  """Batch norm with scale and bias, written as `x * factor + shift`.

  The gradient of linen's form, `(x - mean) * factor + bias`, sums over all pixels once more.
  Defaults are PyTorch's. Scale, bias and running averages begin as float32.

  Attributes:
    train: whether to normalise with the moments of the batch, which then move the averages.
    style: type, parallel axis, layout, and the rule of running averages.
  """

  train: bool
  style: Style = Style()

  @nn.compact
  def __call__(self, x: Float[AnyArray, '*r']) -> Float[Array, '*r']:
    """Returns the normalised maps, in the type of the style."""
    axis = self.style.layout.channel_axis % x.ndim
    others = tuple(i for i in range(x.ndim) if i != axis)
    size = x.shape[axis : axis + 1]
    averages = {
      'mean': self.variable('batch_stats', 'mean', jnp.zeros, size, jnp.float32),
      'var': self.variable('batch_stats', 'var', jnp.ones, size, jnp.float32),
    }
    scale = self.param('scale', nn.initializers.ones, size, jnp.float32)
    bias = self.param('bias', nn.initializers.zeros, size, jnp.float32)
    axis_name = None if self.is_initializing() else self.style.axis_name
    running = {'norm': {field: variable.value for field, variable in averages.items()}}
    norms = batch_norm_lib.BatchNorms(None if self.train else running, axis_name)
    x = jnp.asarray(x, jnp.promote_types(self.style.dtype, jnp.float32))
    mean, factor = norms.get('norm', lambda: batch_norm_lib.moments(x, others))
    if self.train and not self.is_initializing():
      factors = {}
      if self.style.batch_norm == 'corrected':
        factors['norm'] = batch_norm_lib.count_factor(x, axis, axis_name)
      moved = batch_norm_lib.update_running(running, norms.batch, factors)['norm']
      for field, value in moved.items():
        averages[field].value = jnp.asarray(value)
    factor *= scale
    factor, shift = (jnp.expand_dims(a, others) for a in (factor, bias - mean * factor))
    return (x * factor + shift).astype(self.style.dtype)


class Relu(nn.Module):
  """ReLU; a module only so that it is counted."""

  @nn.compact
  def __call__(self, x: Float[Array, '*r']) -> Float[Array, '*r']:
    """Returns `max(x, 0)`."""
    return jax.nn.relu(x)


class Pool(nn.Module):
  """A 3x3 pool, padded by one; an average does not count the padding.

  Attributes:
    kind: 'max_pool_3x3' or 'avg_pool_3x3'.
    stride: 1 or 2.
  """

  kind: str
  stride: int = 1

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool = False) -> FeatureMap:
    """Returns the pooled maps.

    Args:
      x: feature maps in either layout.
      train: not used; all operations are called alike.
    """
    return _pooled(x, self.kind, self.stride)


class HalfMean(nn.Module):
  """The mean over each 2x2 pixels, in either layout; it halves the image."""

  @nn.compact
  def __call__(self, x: FeatureMap) -> FeatureMap:
    """Returns maps of half the side; `x` has an even one."""
    first, height, width, last = x.shape
    return x.reshape(first, height // 2, 2, width // 2, 2, last).mean((2, 4))


class GlobalMean(nn.Module):
  """The mean over all pixels of each image, in float32 or wider.

  Attributes:
    layout: the layout of the feature maps.
  """

  layout: type[Layout] = ChannelsLast

  @nn.compact
  def __call__(self, x: FeatureMap) -> Float[Array, 'B C']:
    """Returns one vector for each image."""
    return self.layout.global_mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)))


class Identity(nn.Module):
  """The operation skip_connect at stride 1."""

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool = False) -> FeatureMap:
    """Returns `x`.

    Args:
      x: feature maps.
      train: not used; all operations are called alike.
    """
    return x
