"""What stands before and after the cells of a network: stems, auxiliary head, classifier."""

import flax.linen as nn
import jax.numpy as jnp

from stretchnas_jax.networks import initializers
from stretchnas_jax.networks import operations as ops

STEMS = ('cifar', 'imagenet')


def needs_even(stem):
  """Whether C has to be even: the ImageNet stem begins with C / 2; the first cell halves to C."""
  return stem == 'imagenet'


class CifarStem(nn.Module):
  """A 3x3 convolution to three times the channels; both inputs of the first cell."""

  channels: int
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train=False):
    x = ops.Conv(3 * self.channels, (3, 3), dtype=self.dtype, name='conv')(x)
    x = ops.batch_norm(train, self.dtype, self.axis_name, name='norm')(x)
    return x, x


class ImageNetStem(nn.Module):
  """Three 3x3 convolutions of stride 2; the first cell gets images at 1/4 and 1/8 of their side."""

  channels: int
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train=False):
    def halve(x, channels, name):
      x = ops.Conv(channels, (3, 3), (2, 2), dtype=self.dtype, name=f'conv_{name}')(x)
      return ops.batch_norm(train, self.dtype, self.axis_name, name=f'norm_{name}')(x)

    x = halve(x, self.channels // 2, 0)
    s0 = halve(ops.Relu()(x), self.channels, 1)
    return s0, halve(ops.Relu()(s0), self.channels, 2)


class AuxiliaryHead(nn.Module):
  """The classifier on the second reduction's output that helps training along.

  The ImageNet one has no second batch norm, as in DARTS' released code.
  """

  num_classes: int
  stem: str
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train=False):
    stride = 3 if self.stem == 'cifar' else 2
    # No padding, so that every window has its full 25 pixels.
    x = nn.avg_pool(ops.Relu()(x), (5, 5), (stride, stride))
    x = ops.Conv(128, dtype=self.dtype, name='conv_0')(x)
    x = ops.Relu()(ops.batch_norm(train, self.dtype, self.axis_name, name='norm_0')(x))
    x = ops.Conv(768, (2, 2), dtype=self.dtype, name='conv_1')(x)
    if self.stem == 'cifar':
      x = ops.batch_norm(train, self.dtype, self.axis_name, name='norm_1')(x)
    x = ops.Relu()(x).reshape(x.shape[0], -1)
    return classify(x, self.num_classes)


def classify(features, num_classes):
  """A linear layer in float32, or in float64 where the features are."""
  init = initializers.uniform(features.shape[-1])
  dtype = jnp.promote_types(features.dtype, jnp.float32)
  dense = nn.Dense(num_classes, dtype=dtype, kernel_init=init, bias_init=init, name='classifier')
  return dense(features)
