"""The parts of a network before and after its cells: stems, auxiliary head, classifier."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from stretchnas_jax.networks import initializers
from stretchnas_jax.networks.forms.layouts import FeatureMap
from stretchnas_jax.networks.layers import BatchNorm, Conv, Relu, Style

STEMS = ('cifar', 'imagenet')


def needs_even(stem: str) -> bool:
  """Returns whether C has to be even: the ImageNet stem begins with C / 2 channels."""
  return stem == 'imagenet'


def cifar_stem(
  images: FeatureMap,
  features: int,
  train: bool,
  style: Style,
  names: tuple[str, str],
) -> FeatureMap:
  """Returns a 3x3 convolution and batch norm of images, inside the module that calls this.

  Args:
    images: normalised images, in the layout of the style.
    features: the output channels.
    train: whether to normalise with the moments of the batch.
    style: type, parallel axis and layout.
    names: the names of both layers in the module.
  """
  x = Conv(features, (3, 3), style=style, name=names[0])(images)
  return BatchNorm(train, style, name=names[1])(x)


class CifarStem(nn.Module):
  """A 3x3 convolution to three times the channels; both inputs of the first cell.

  Attributes:
    channels: C of the first cell.
    style: type, parallel axis and layout.
  """

  channels: int
  style: Style = Style()

  @nn.compact
  def __call__(self, images: FeatureMap, train: bool = False) -> tuple[FeatureMap, FeatureMap]:
    """Returns the same maps twice.

    Args:
      images: normalised images, in the layout of the style.
      train: whether to normalise with the moments of the batch.
    """
    x = cifar_stem(images, 3 * self.channels, train, self.style, ('conv', 'norm'))
    return x, x


class ImageNetStem(nn.Module):
  """Three 3x3 convolutions of stride 2; the first cell gets images at 1/4 and 1/8 of their side.

  Attributes:
    channels: the channels of both outputs, even.
    style: type, parallel axis and layout.
  """

  channels: int
  style: Style = Style()

  @nn.compact
  def __call__(self, images: FeatureMap, train: bool = False) -> tuple[FeatureMap, FeatureMap]:
    """Returns the maps after the second and after the third convolution.

    Args:
      images: normalised images, in the layout of the style.
      train: whether to normalise with the moments of the batch.
    """

    def halve(x: FeatureMap, channels: int, index: int) -> FeatureMap:
      x = Conv(channels, (3, 3), (2, 2), style=self.style, name=f'conv_{index}')(x)
      return BatchNorm(train, self.style, name=f'norm_{index}')(x)

    x = halve(images, self.channels // 2, 0)
    s0 = halve(Relu()(x), self.channels, 1)
    return s0, halve(Relu()(s0), self.channels, 2)


class AuxiliaryHead(nn.Module):
  """A second classifier, on the output of the second reduction cell, that helps training along.

  The ImageNet head has no second batch norm, as in DARTS' released code.

  Attributes:
    num_classes: the number of classes.
    stem: 'cifar' or 'imagenet'; the stem of the network.
    style: type and parallel axis.
  """

  num_classes: int
  stem: str
  style: Style = Style()

  @nn.compact
  def __call__(self, x: Float[Array, 'B H W C'], train: bool = False) -> Float[Array, 'B K']:
    """Returns logits.

    Args:
      x: feature maps whose size `check_auxiliary` allows.
      train: whether to normalise with the moments of the batch.
    """
    stride = _pool_stride(self.stem)
    # No padding, so that every window has its full 25 pixels.
    x = nn.avg_pool(Relu()(x), (5, 5), (stride, stride))
    x = Conv(128, style=self.style, name='conv_0')(x)
    x = Relu()(BatchNorm(train, self.style, name='norm_0')(x))
    x = Conv(768, (2, 2), style=self.style, name='conv_1')(x)
    if self.stem == 'cifar':
      x = BatchNorm(train, self.style, name='norm_1')(x)
    x = Relu()(x).reshape(x.shape[0], -1)
    return classify(x, self.num_classes)


def _pool_stride(stem: str) -> int:
  """The stride of the auxiliary head's pool."""
  return 3 if stem == 'cifar' else 2


def check_auxiliary(stem: str, images: tuple[int, ...], features: tuple[int, ...]) -> None:
  """Raises ValueError unless the head's pool leaves the 2x2 pixels of its last convolution.

  Args:
    stem: the stem of the network.
    images: the shape of the network's input, `(B, H, W, C)`.
    features: the shape of the head's input, `(B, H, W, C)`.
  """
  stride, usual = _pool_stride(stem), 32 if stem == 'cifar' else 224
  if any((side - 5) // stride + 1 != 2 for side in features[1:3]):
    raise ValueError(
      f'images of {images[1]}x{images[2]} reach the auxiliary head as '
      f'{features[1]}x{features[2]} pixels; it takes {5 + stride} to {4 + 2 * stride} a side, '
      f'as {usual}x{usual} images give with 2 layers or more; use auxiliary=False'
    )


def classify(features: Float[Array, 'B F'], num_classes: int) -> Float[Array, 'B K']:
  """Returns a linear layer in float32, or in float64 where the features are float64.

  Args:
    features: one vector for each image.
    num_classes: K, the number of logits.
  """
  init = initializers.uniform(features.shape[-1])
  dtype = jnp.promote_types(features.dtype, jnp.float32)
  dense = nn.Dense(num_classes, dtype=dtype, kernel_init=init, bias_init=init, name='classifier')
  return dense(features)
