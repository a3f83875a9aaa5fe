"""The macro network of NAS-Bench-201, around cells of any kind (Dong & Yang 2020).

A 3x3 convolution; three stages of N cells, of C, 2 C and 4 C channels; a residual block between two
stages, which halves the image; batch norm, ReLU, mean over all pixels, classifier.
"""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float

from stretchnas_jax.networks import stems_and_heads
from stretchnas_jax.networks.forms.layouts import FeatureMap
from stretchnas_jax.networks.layers import BatchNorm, Conv, GlobalMean, HalfMean, Relu, Style
from stretchnas_jax.networks.operations import ReluConvNorm

NUM_STAGES = 3

ApplyCell = Callable[[int, int, FeatureMap], FeatureMap]
"""`apply(place, channels, x) -> y`, the cell at a place, counted from 0."""


class ResidualBlock(nn.Module):
  """Two 3x3 convolutions, the first of stride 2, beside a mean over 2x2 pixels.

  Attributes:
    features: the output channels.
    style: type, parallel axis and layout.
  """

  features: int
  style: Style = Style()

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool = False) -> FeatureMap:
    """Returns maps of half the side.

    Args:
      x: feature maps of an even side.
      train: whether to normalise with the moments of the batch.
    """
    y = ReluConvNorm(self.features, self.style, 3, 2, name='conv_a')(x, train)
    y = ReluConvNorm(self.features, self.style, 3, name='conv_b')(y, train)
    shortcut = Conv(self.features, style=self.style, name='shortcut')(HalfMean()(x))
    return shortcut + y


def apply(
  images: Float[Array, 'B H W c'],
  channels: int,
  num_cells: int,
  num_classes: int,
  train: bool,
  style: Style,
  apply_cell: ApplyCell,
) -> Float[Array, 'B K']:
  """Returns the logits of the macro network, inside the module that calls this.

  Args:
    images: normalised images, in the type of the computation; sides are multiples of 4.
    channels: C of the first stage.
    num_cells: N, the cells of a stage.
    num_classes: K, the number of classes.
    train: whether to normalise with the moments of the batch.
    style: type, parallel axis and layout of the feature maps.
    apply_cell: computes a cell.

  Raises:
    ValueError: a side of the images is not a multiple of 4.
  """
  if any(side % 2 ** (NUM_STAGES - 1) for side in images.shape[1:3]):
    raise ValueError(
      f'images of {images.shape[1]}x{images.shape[2]} pixels cannot be halved twice; the network '
      'of NAS-Bench-201 takes sides that are multiples of 4'
    )
  images = style.layout.enter(images)
  x = stems_and_heads.cifar_stem(images, channels, train, style, ('stem', 'stem_norm'))
  for stage in range(NUM_STAGES):
    width = channels * 2**stage
    if stage:
      x = ResidualBlock(width, style, name=f'block_{stage}')(x, train)
    for place in range(stage * num_cells, (stage + 1) * num_cells):
      x = apply_cell(place, width, x)
  x = Relu()(BatchNorm(train, style, name='last_norm')(x))
  return stems_and_heads.classify(GlobalMean(style.layout)(x), num_classes)
