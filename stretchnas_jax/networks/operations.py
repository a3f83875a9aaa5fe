"""The operations on the edges of a cell (Liu et al. 2018), each a module `(x, train) -> y`.

Feature maps are in the layout of their style. A stride of 2 gives `ceil(H / 2)` rows.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from stretchnas_jax.networks.forms.layouts import FeatureMap, split_parities
from stretchnas_jax.networks.layers import BatchNorm, Conv, Identity, Pool, Relu, Style


class ReluConvNorm(nn.Module):
  """ReLU, convolution, batch norm; 1x1, it is how a cell of DARTS brings an input to its width.

  Attributes:
    features: the output channels.
    style: type, parallel axis and layout.
    size: of the kernel's side, 1 or 3.
    stride: 1 or 2.
  """

  features: int
  style: Style = Style()
  size: int = 1
  stride: int = 1

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool = False) -> FeatureMap:
    """Returns maps of `features` channels.

    Args:
      x: feature maps.
      train: whether to normalise with the moments of the batch.
    """
    sides, strides = (self.size, self.size), (self.stride, self.stride)
    x = Conv(self.features, sides, strides, style=self.style, name='conv')(Relu()(x))
    return BatchNorm(train, self.style, name='norm')(x)


class FactorizedReduce(nn.Module):
  """Two 1x1 convolutions, on the even and on the odd pixels, side by side: it halves the image.

  An odd side gets a row of zeros for the odd pixels, so that both halves are `ceil(H / 2)`.

  Attributes:
    features: the output channels.
    style: type, parallel axis and layout.
  """

  features: int
  style: Style = Style()

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool = False) -> FeatureMap:
    """Returns maps of half the side and `features` channels.

    Args:
      x: feature maps.
      train: whether to normalise with the moments of the batch.
    """
    even, odd = split_parities(Relu()(x))
    half = self.features // 2
    even = Conv(half, style=self.style, name='even')(even)
    odd = Conv(self.features - half, style=self.style, name='odd')(odd)
    x = jnp.concatenate([even, odd], self.style.layout.channel_axis)
    return BatchNorm(train, self.style, name='norm')(x)


class Separable(nn.Module):
  """ReLU, depthwise convolution, 1x1 convolution, batch norm; DARTS' dil_conv with dilation 2.

  Attributes:
    features: the channels, of input and output.
    size: the side of the depthwise kernel.
    stride: 1 or 2.
    dilation: the distance of the depthwise kernel's pixels.
    style: type, parallel axis and layout.
  """

  features: int
  size: int
  stride: int = 1
  dilation: int = 1
  style: Style = Style()

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool = False) -> FeatureMap:
    """Returns the maps after all four layers.

    Args:
      x: feature maps.
      train: whether to normalise with the moments of the batch.
    """
    depthwise = Conv(
      self.features,
      (self.size, self.size),
      (self.stride, self.stride),
      self.dilation,
      depthwise=True,
      style=self.style,
      name='depthwise',
    )
    x = depthwise(Relu()(x))
    x = Conv(self.features, style=self.style, name='pointwise')(x)
    return BatchNorm(train, self.style, name='norm')(x)


class SepConv(nn.Module):
  """Two `Separable` in a row; the first has the stride.

  Attributes:
    features: the channels, of input and output.
    size: the side of the depthwise kernels.
    stride: 1 or 2.
    style: type, parallel axis and layout.
  """

  features: int
  size: int
  stride: int = 1
  style: Style = Style()

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool = False) -> FeatureMap:
    """Returns the maps after both.

    Args:
      x: feature maps.
      train: whether to normalise with the moments of the batch.
    """
    first = Separable(self.features, self.size, self.stride, style=self.style, name='first')
    second = Separable(self.features, self.size, style=self.style, name='second')
    return second(first(x, train), train)


class RowColumnConv(nn.Module):
  """ReLU, 1x7 convolution, 7x1 convolution, batch norm (AmoebaNet).

  Attributes:
    features: the channels, of input and output.
    stride: 1 or 2.
    style: type, parallel axis and layout.
  """

  features: int
  stride: int = 1
  style: Style = Style()

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool = False) -> FeatureMap:
    """Returns the maps after all layers.

    Args:
      x: feature maps.
      train: whether to normalise with the moments of the batch.
    """
    row = Conv(self.features, (1, 7), (1, self.stride), style=self.style, name='row')
    column = Conv(self.features, (7, 1), (self.stride, 1), style=self.style, name='column')
    return BatchNorm(train, self.style, name='norm')(column(row(Relu()(x))))


def _skip(channels: int, stride: int, style: Style) -> nn.Module:
  return Identity() if stride == 1 else FactorizedReduce(channels, style)


OPERATIONS: dict[str, Callable[[int, int, Style], nn.Module]] = {
  'max_pool_3x3': lambda channels, stride, style: Pool('max_pool_3x3', stride),
  'avg_pool_3x3': lambda channels, stride, style: Pool('avg_pool_3x3', stride),
  'skip_connect': _skip,
  'sep_conv_3x3': lambda channels, stride, style: SepConv(channels, 3, stride, style),
  'sep_conv_5x5': lambda channels, stride, style: SepConv(channels, 5, stride, style),
  'sep_conv_7x7': lambda channels, stride, style: SepConv(channels, 7, stride, style),
  'dil_conv_3x3': lambda channels, stride, style: Separable(channels, 3, stride, 2, style),
  'dil_conv_5x5': lambda channels, stride, style: Separable(channels, 5, stride, 2, style),
  'conv_7x1_1x7': lambda channels, stride, style: RowColumnConv(channels, stride, style),
}
"""For each name a function `(channels, stride, style) -> module`."""
