"""The operations on the edges of a cell (Liu et al. 2018), in either layout of feature maps.

Every layer that costs something is a module of its own (`Conv`, `Relu`, `Pool`, batch norm), so
that `sizes` counts by watching them at work. Stride 2 gives `ceil(H / 2)` rows. Feature maps are
`[B, H, W, C]`, or in another layout of `layout` where a module is told so; parameters are the same.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stretchnas_jax.networks import initializers
from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib
from stretchnas_jax.networks.forms import layouts, pooling, shifted_copies


def check_size(name, value, even=False):
  """ValueError unless `value` is a positive whole number, even where asked for."""
  whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
  if not whole or value < 1 or (even and value % 2):
    raise ValueError(f'{name} is {value!r}; it must be a positive {"even " * even}whole number')


@functools.cache
def on_cpu():
  return jax.default_backend() == 'cpu'


# What layers compute is jitted by itself only so that equal layers are traced once.


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def convolve(x, kernel, strides, padding, dilation=1, groups=1):
  """A convolution, kernel HWIO; `padding` is `((top, bottom), (left, right))`."""
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
def convolve_planes(x, kernel, strides, padding, dilation=1, groups=1):
  """As `convolve`, over planes `[C, H, W, B]`.

  For separable convolutions on a CPU: with sums of shifted copies in both layouts, a stage and its
  gradients took two to five times as long over `[B, H, W, C]` (C 36 to 144, batch 8, two cores).
  """
  if groups > 1:
    kernels = kernel[:, :, 0].transpose(2, 0, 1)
    return shifted_copies.depthwise((kernels,), (x,), 1.0, strides[0], (dilation,))[0]
  if kernel.shape[:2] == (1, 1):
    return layouts.Planes.project(x, kernel[0, 0])
  x = convolve(layouts.Planes.leave(x), kernel, strides, padding, dilation)
  return layouts.Planes.enter(x)


CONVOLUTIONS = {layouts.Plain: convolve, layouts.Planes: convolve_planes}
pooled = jax.jit(pooling.pooled, static_argnums=(1, 2))


class Conv(nn.Module):
  """A convolution without bias, padded so that an odd size at stride 1 keeps the image's.

  Attributes:
    features: output channels; of a depthwise convolution as many as it gets.
    size: of the kernel, `(height, width)`.
    strides: down and across.
    dilation: distance of the kernel's pixels.
    depthwise: whether every channel has a kernel of its own.
    dtype: of the computation; the kernel is float32.
    layout: of the feature maps.
  """

  features: int
  size: tuple[int, int] = (1, 1)
  strides: tuple[int, int] = (1, 1)
  dilation: int = 1
  depthwise: bool = False
  dtype: jnp.dtype = jnp.float32
  layout: type = layouts.Plain

  @nn.compact
  def __call__(self, x):
    inputs = 1 if self.depthwise else x.shape[self.layout.channel_axis]
    shape = (*self.size, inputs, self.features)
    kernel = self.param('kernel', initializers.uniform(inputs * self.size[0] * self.size[1]), shape)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    padding = tuple((self.dilation * (size - 1) // 2,) * 2 for size in self.size)
    groups = self.features if self.depthwise else 1
    return CONVOLUTIONS[self.layout](x, kernel, self.strides, padding, self.dilation, groups)


def batch_norm(train, dtype=jnp.float32, axis_name=None, layout=layouts.Plain, name=None):
  """Batch norm with scale and bias, PyTorch's defaults; scale, bias and moments are float32."""
  return nn.BatchNorm(
    not train,
    axis=layout.channel_axis,
    momentum=batch_norm_lib.MOMENTUM,
    epsilon=batch_norm_lib.EPSILON,
    dtype=dtype,
    axis_name=axis_name,
    name=name,
  )


class Relu(nn.Module):
  """A module only so that it is counted."""

  @nn.compact
  def __call__(self, x):
    return jax.nn.relu(x)


class Pool(nn.Module):
  """A 3x3 pool, padded by one; an average does not count the padding."""

  kind: str  # max_pool_3x3 or avg_pool_3x3
  stride: int = 1

  @nn.compact
  def __call__(self, x, train=False):
    return pooled(x, self.kind, self.stride)


class GlobalMean(nn.Module):
  """`[B, H, W, C] -> [B, C]`, float32."""

  layout: type = layouts.Plain

  @nn.compact
  def __call__(self, x):
    return self.layout.global_mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)))


class Identity(nn.Module):
  """skip_connect at stride 1."""

  @nn.compact
  def __call__(self, x, train=False):
    return x


class ReluConvNorm(nn.Module):
  """ReLU, 1x1 convolution, batch norm: how a cell brings an input to its width."""

  features: int
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None
  layout: type = layouts.Plain

  @nn.compact
  def __call__(self, x, train=False):
    x = Conv(self.features, dtype=self.dtype, layout=self.layout, name='conv')(Relu()(x))
    return batch_norm(train, self.dtype, self.axis_name, self.layout, 'norm')(x)


class FactorizedReduce(nn.Module):
  """Halves the image: two 1x1 convolutions, on the even and on the odd pixels, side by side.

  An odd side gets a row of zeros for the odd pixels, so that both halves are `ceil(H / 2)`.
  """

  features: int
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None
  layout: type = layouts.Plain

  @nn.compact
  def __call__(self, x, train=False):
    numeric = {'dtype': self.dtype, 'layout': self.layout}
    even, odd = self.layout.halves(Relu()(x))
    half = self.features // 2
    even = Conv(half, **numeric, name='even')(even)
    odd = Conv(self.features - half, **numeric, name='odd')(odd)
    x = jnp.concatenate([even, odd], self.layout.channel_axis)
    return batch_norm(train, self.dtype, self.axis_name, self.layout, 'norm')(x)


class Separable(nn.Module):
  """ReLU, depthwise convolution, 1x1 convolution, batch norm; DARTS' dil_conv with dilation 2."""

  features: int
  size: int
  stride: int = 1
  dilation: int = 1
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None
  layout: type = layouts.Plain

  @nn.compact
  def __call__(self, x, train=False):
    size, strides = (self.size,) * 2, (self.stride,) * 2
    numeric = {'dtype': self.dtype, 'layout': self.layout}
    depthwise = Conv(self.features, size, strides, self.dilation, True, **numeric, name='depthwise')
    x = depthwise(Relu()(x))
    x = Conv(self.features, **numeric, name='pointwise')(x)
    return batch_norm(train, self.dtype, self.axis_name, self.layout, 'norm')(x)


class SepConv(nn.Module):
  """Two `Separable` in a row; the first has the stride."""

  features: int
  size: int
  stride: int = 1
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None
  layout: type = layouts.Plain

  @nn.compact
  def __call__(self, x, train=False):
    numeric = {'dtype': self.dtype, 'axis_name': self.axis_name, 'layout': self.layout}
    x = Separable(self.features, self.size, self.stride, **numeric, name='first')(x, train)
    return Separable(self.features, self.size, **numeric, name='second')(x, train)


class RowColumnConv(nn.Module):
  """ReLU, 1x7 convolution, 7x1 convolution, batch norm (AmoebaNet)."""

  features: int
  stride: int = 1
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None
  layout: type = layouts.Plain

  @nn.compact
  def __call__(self, x, train=False):
    numeric = {'dtype': self.dtype, 'layout': self.layout}
    x = Conv(self.features, (1, 7), (1, self.stride), **numeric, name='row')(Relu()(x))
    x = Conv(self.features, (7, 1), (self.stride, 1), **numeric, name='column')(x)
    return batch_norm(train, self.dtype, self.axis_name, self.layout, 'norm')(x)


def skip(channels, stride, **numeric):
  return Identity() if stride == 1 else FactorizedReduce(channels, **numeric)


# Name -> function (channels, stride, dtype=, axis_name=) -> module, called as module(x, train).
OPERATIONS = {
  'max_pool_3x3': lambda channels, stride, **_: Pool('max_pool_3x3', stride),
  'avg_pool_3x3': lambda channels, stride, **_: Pool('avg_pool_3x3', stride),
  'skip_connect': skip,
  'sep_conv_3x3': lambda channels, stride, **n: SepConv(channels, 3, stride, **n),
  'sep_conv_5x5': lambda channels, stride, **n: SepConv(channels, 5, stride, **n),
  'sep_conv_7x7': lambda channels, stride, **n: SepConv(channels, 7, stride, **n),
  'dil_conv_3x3': lambda channels, stride, **n: Separable(channels, 3, stride, 2, **n),
  'dil_conv_5x5': lambda channels, stride, **n: Separable(channels, 5, stride, 2, **n),
  'conv_7x1_1x7': lambda channels, stride, **n: RowColumnConv(channels, stride, **n),
}
