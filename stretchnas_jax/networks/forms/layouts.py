"""Two layouts of a feature map, and what every cell does in either.

`Plain` keeps `[B, H, W, C]`. `Planes` keeps `[C, H, W, B]`: the batch stands last, where a CPU
finds one pixel of many images side by side, so that a depthwise convolution is a sum of weighted
shifted copies that vectorises, and a 1x1 convolution is one matrix product without a transposition.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib


def halves(x, rows, columns):
  """The even and the odd positions; an odd side gets a row of zeros, so that both are equal."""
  cut = lambda x, start: x[
    tuple(slice(start, None, 2) if a in (rows, columns) else slice(None) for a in range(x.ndim))
  ]
  padding = [(0, x.shape[a] % 2 if a in (rows, columns) else 0) for a in range(x.ndim)]
  return cut(x, 0), cut(jnp.pad(x, padding), 1)


def flat(x):
  """`[..., C, H, W, B] -> [..., C, N]`: all positions of all images in one row."""
  return x.reshape(*x.shape[:-3], -1)


class Plain(NamedTuple):
  """`[B, H, W, C]`."""

  channel_axis = -1

  @staticmethod
  def enter(images):
    return images

  @staticmethod
  def leave(x):
    return x

  @staticmethod
  def project(x, kernel):
    """A 1x1 convolution, kernel `[C, D]`."""
    return x @ kernel.astype(x.dtype)

  @staticmethod
  def halves(x):
    return halves(x, 1, 2)

  @staticmethod
  def halve(x, kernel):
    """A factorized reduction, `[B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), ..., D]`.

    One convolution. From two matrix products over halves of the pixels XLA's compiler for GPUs does
    not always come back: it ends the process (JAX 0.11).

    Args:
      x: the map.
      kernel: `[C, ..., D]`; the first half of D sees the even positions, the rest the odd ones.
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
  def normalize(x, name, norms):
    mean, scale = norms(name, lambda: batch_norm_lib.pixel_moments(x))
    scale, shift = batch_norm_lib.spread([scale, mean * scale], x.shape)
    return (x * scale - shift).astype(x.dtype)

  @staticmethod
  def global_mean(x):
    return x.mean((1, 2))

  @staticmethod
  def along_images(values):
    """`[B]`, so that it multiplies whole images."""
    return values[:, None, None, None]


class Planes(NamedTuple):
  """`[C, H, W, B]`."""

  channel_axis = 0

  @staticmethod
  def enter(images):
    return images.transpose(3, 1, 2, 0)

  @staticmethod
  def leave(x):
    return x.transpose(3, 1, 2, 0)

  @staticmethod
  def project(x, kernel):
    y = kernel.astype(x.dtype).T @ flat(x)
    return y.reshape(-1, *x.shape[1:])

  @staticmethod
  def halves(x):
    return halves(x, 1, 2)

  @staticmethod
  def halve(x, kernel):
    """As `Plain.halve`, kernel `[C, D]`."""
    half = kernel.shape[-1] // 2
    parts = zip(Planes.halves(x), (kernel[:, :half], kernel[:, half:]))
    return jnp.concatenate([Planes.project(*part) for part in parts])

  @staticmethod
  def normalize(x, name, norms):
    mean, scale = norms(name, lambda: batch_norm_lib.moments(x, (1, 2, 3)))
    mean, scale = (m[:, None, None, None] for m in (mean, scale))
    return (x * scale - mean * scale).astype(x.dtype)

  @staticmethod
  def global_mean(x):
    return x.mean((1, 2)).T

  @staticmethod
  def along_images(values):
    return values
