"""Two layouts of feature maps, and the parts of every cell that depend on them.

`ChannelsLast` keeps `[B, H, W, C]`. `BatchLast` keeps `[C, H, W, B]`, where a CPU finds one pixel
of many images side by side. A depthwise convolution is then a sum of weighted shifted copies, which
vectorises, and a 1x1 convolution is one matrix product without a transposition.
"""

import abc
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib
from stretchnas_jax.networks.forms.pixel_sums import spread

FeatureMap: TypeAlias = Float[Array, '_ _ _ _']
"""The feature maps of a batch, in either layout; rows and columns are always axes 1 and 2."""


def split_parities(x: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
  """Returns the pixels of even and of odd rows and columns, in either layout.

  An odd side gets a row of zeros, so that both halves have `ceil(H / 2)` rows.
  """
  padding = [(0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)]
  return x[:, ::2, ::2], jnp.pad(x, padding)[:, 1::2, 1::2]


def flat(x: Float[Array, '*r C H W B']) -> Float[Array, '*r C N']:
  """Returns batch-last maps with all N pixels of all images on one axis."""
  return x.reshape(*x.shape[:-3], -1)


class Layout(abc.ABC):
  """The order of a feature map's axes. The classes themselves are used, not objects of them."""

  channel_axis: int

  @staticmethod
  @abc.abstractmethod
  def enter(images: Float[Array, 'B H W C']) -> FeatureMap:
    """Returns channels-last maps in this layout."""

  @staticmethod
  @abc.abstractmethod
  def leave(x: FeatureMap) -> Float[Array, 'B H W C']:
    """Returns maps of this layout channels-last."""

  @staticmethod
  @abc.abstractmethod
  def project(x: FeatureMap, kernel: Float[AnyArray, 'C D']) -> FeatureMap:
    """Returns the 1x1 convolution of `x`, with D channels.

    Args:
      x: feature maps of C channels.
      kernel: one column for each output channel.
    """

  @staticmethod
  @abc.abstractmethod
  def halve(x: FeatureMap, kernel: Float[AnyArray, 'C D']) -> FeatureMap:
    """Returns the factorized reduction of `x`, `ceil(H / 2)` by `ceil(W / 2)` pixels.

    Args:
      x: feature maps of C channels.
      kernel: the first half of the D columns sees the even pixels, the rest the odd ones.
    """

  @staticmethod
  @abc.abstractmethod
  def normalize(x: FeatureMap, name: str, norms: batch_norm_lib.BatchNorms) -> FeatureMap:
    """Returns the batch norm of `x`, without scale and bias.

    Args:
      x: feature maps.
      name: the name of the batch norm.
      norms: the statistics.
    """

  @staticmethod
  @abc.abstractmethod
  def global_mean(x: FeatureMap) -> Float[Array, 'B C']:
    """Returns the mean over all pixels of each image."""

  @staticmethod
  @abc.abstractmethod
  def along_images(values: Float[Array, 'B']) -> Float[Array, '...']:
    """Returns one number for each image in a shape that multiplies whole maps."""


class ChannelsLast(Layout):
  """`[B, H, W, C]`."""

  channel_axis = -1

  @staticmethod
  def enter(images: Float[Array, 'B H W C']) -> Float[Array, 'B H W C']:
    """Returns the maps as they are."""
    return images

  @staticmethod
  def leave(x: Float[Array, 'B H W C']) -> Float[Array, 'B H W C']:
    """Returns the maps as they are."""
    return x

  @staticmethod
  def project(
    x: Float[Array, 'B H W C'], kernel: Float[AnyArray, 'C D']
  ) -> Float[Array, 'B H W D']:
    """Returns the 1x1 convolution of `x`.

    Args:
      x: feature maps.
      kernel: one column for each output channel.
    """
    return x @ jnp.asarray(kernel, x.dtype)

  @staticmethod
  def halve(
    x: Float[Array, 'B H W C'], kernel: Float[AnyArray, 'C *n D']
  ) -> Float[Array, 'B h w *n D']:
    """Returns the factorized reductions of `x`, all with one convolution.

    Two matrix products over halves of the pixels would do the same. XLA's compiler for GPUs does
    not always return from them: it ends the process (JAX 0.11).

    Args:
      x: feature maps.
      kernel: the first half of D sees the even pixels, the rest the odd ones; further axes before D
        hold several reductions.
    """
    is_even = np.arange(kernel.shape[-1]) < kernel.shape[-1] // 2
    nothing = jnp.zeros_like(kernel)
    taps = jnp.stack([kernel * is_even, nothing, nothing, kernel * ~is_even])
    taps = taps.reshape(2, 2, x.shape[-1], -1).astype(x.dtype)
    padding = [(0, size % 2) for size in x.shape[1:3]]
    y = lax.conv_general_dilated(
      x, taps, (2, 2), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    return y.reshape(*y.shape[:3], *kernel.shape[1:])

  @staticmethod
  def normalize(
    x: Float[Array, 'B H W C'], name: str, norms: batch_norm_lib.BatchNorms
  ) -> Float[Array, 'B H W C']:
    """Returns the batch norm of `x`.

    Args:
      x: feature maps.
      name: the name of the batch norm.
      norms: the statistics.
    """
    mean, scale = norms.get(name, lambda: batch_norm_lib.pixel_moments([x])[0])
    scale, shift = spread([scale, mean * scale], x.shape)
    return (x * scale - shift).astype(x.dtype)

  @staticmethod
  def global_mean(x: Float[Array, 'B H W C']) -> Float[Array, 'B C']:
    """Returns the mean over all pixels of each image."""
    return x.mean((1, 2))

  @staticmethod
  def along_images(values: Float[Array, 'B']) -> Float[Array, 'B 1 1 1']:
    """Returns the numbers along the first axis."""
    return values[:, None, None, None]


class BatchLast(Layout):
  """`[C, H, W, B]`."""

  channel_axis = 0

  @staticmethod
  def enter(images: Float[Array, 'B H W C']) -> Float[Array, 'C H W B']:
    """Returns the maps with batch and channels exchanged."""
    return images.transpose(3, 1, 2, 0)

  @staticmethod
  def leave(x: Float[Array, 'C H W B']) -> Float[Array, 'B H W C']:
    """Returns the maps with channels and batch exchanged."""
    return x.transpose(3, 1, 2, 0)

  @staticmethod
  def project(
    x: Float[Array, 'C H W B'], kernel: Float[AnyArray, 'C D']
  ) -> Float[Array, 'D H W B']:
    """Returns the 1x1 convolution of `x`, one matrix product.

    Args:
      x: feature maps.
      kernel: one column for each output channel.
    """
    y = jnp.asarray(kernel, x.dtype).T @ flat(x)
    return y.reshape(-1, *x.shape[1:])

  @staticmethod
  def halve(x: Float[Array, 'C H W B'], kernel: Float[AnyArray, 'C D']) -> Float[Array, 'D h w B']:
    """Returns the factorized reduction of `x`, two matrix products.

    Args:
      x: feature maps.
      kernel: the first half of D sees the even pixels, the rest the odd ones.
    """
    half = kernel.shape[-1] // 2
    even, odd = split_parities(x)
    return jnp.concatenate(
      [BatchLast.project(even, kernel[:, :half]), BatchLast.project(odd, kernel[:, half:])]
    )

  @staticmethod
  def normalize(
    x: Float[Array, 'C H W B'], name: str, norms: batch_norm_lib.BatchNorms
  ) -> Float[Array, 'C H W B']:
    """Returns the batch norm of `x`.

    Args:
      x: feature maps.
      name: the name of the batch norm.
      norms: the statistics.
    """
    mean, scale = norms.get(name, lambda: batch_norm_lib.moments(x, (1, 2, 3)))
    mean, scale = (m[:, None, None, None] for m in (mean, scale))
    return (x * scale - mean * scale).astype(x.dtype)

  @staticmethod
  def global_mean(x: Float[Array, 'C H W B']) -> Float[Array, 'B C']:
    """Returns the mean over all pixels of each image."""
    return x.mean((1, 2)).T

  @staticmethod
  def along_images(values: Float[Array, 'B']) -> Float[Array, 'B']:
    """Returns the numbers as they are: images lie along the last axis."""
    return values
