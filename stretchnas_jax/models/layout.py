"""Two layouts of a feature map, and what every supernet cell does in either.

`Plain` keeps `[B, H, W, C]`. `Tiled` keeps `[C, t, t, T, U, B]`: an image is cut into T x U tiles
of t x t pixels, and row `t_index + t * T_index` of the image is row `t_index` of tile `T_index`.
There a depthwise convolution is one matrix product a channel, which a CPU does much faster
than a grouped convolution. Tiled takes square images whose sides stay even.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from stretchnas_jax.models import norms as norms_lib


def window_counts(length, stride):
  """How many of the three positions of a pooling window lie inside the image, for each output."""
  at = np.arange(0, length, stride)
  return 3.0 - (at == 0) - (at == length - 1)


def channel_rows(x):
  """`[C, ...] -> [C, N]`."""
  return x.reshape(x.shape[0], -1)


class Plain(NamedTuple):
  """`[B, H, W, C]`; takes every size."""

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
    """The even and the odd positions; an odd side gets a row of zeros, so that both are equal."""
    height, width = x.shape[1:3]
    shifted = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    return x[:, ::2, ::2], shifted[:, 1::2, 1::2]

  @staticmethod
  def normalize(x, name, norms):
    mean, scale = norms((name,), lambda: [m[None] for m in norms_lib.moments(x, (0, 1, 2))])
    return (x * scale[0] - mean[0] * scale[0]).astype(x.dtype)

  @staticmethod
  def global_mean(x):
    return x.mean((1, 2))


class Tiled(NamedTuple):
  """`[C, t, t, T, U, B]`."""

  channel_axis = 0

  @staticmethod
  def enter(images):
    batch, height, width, channels = images.shape
    t = next(t for t in (4, 2) if height % t == 0)
    tiles = images.reshape(batch, height // t, t, width // t, t, channels)
    return tiles.transpose(5, 2, 4, 1, 3, 0)

  @staticmethod
  def leave(x):
    channels, t, _, rows, columns, batch = x.shape
    return x.transpose(5, 3, 1, 4, 2, 0).reshape(batch, rows * t, columns * t, channels)

  @staticmethod
  def project(x, kernel):
    kernel = kernel.astype(x.dtype)
    return (kernel.T @ channel_rows(x)).reshape((-1,) + x.shape[1:])

  @staticmethod
  def halves(x):
    return retile(x[:, ::2, ::2]), retile(x[:, 1::2, 1::2])

  @staticmethod
  def normalize(x, name, norms):
    flat = channel_rows(x)
    mean, scale = norms((name,), lambda: [m[None] for m in norms_lib.moments(flat, 1)])
    mean, scale = mean[0][:, None], scale[0][:, None]
    return (flat * scale - mean * scale).astype(x.dtype).reshape(x.shape)

  @staticmethod
  def global_mean(x):
    return x.mean((1, 2, 3, 4)).T


def fits_tiles(height, width, reductions):
  """Whether square images keep even sides through so many halvings."""
  return height == width and height % 2 ** (reductions + 1) == 0


# What follows is for tiles alone. Axes are counted from the back: any may stand before them.


def halo(x, width, axis, tiles, fill=0.0):
  """Widens `axis`, the offsets within a tile, by `width` rows of its neighbours along `tiles`."""
  t, before, after = x.shape[axis], [], []

  def shift(part, distance):
    config = [(0, 0, 0)] * x.ndim
    config[tiles] = (distance, -distance, 0)
    return lax.pad(part, jnp.array(fill, x.dtype), config)

  for distance in range(1, -(-width // t) + 1):
    rows = min(t, width - t * (distance - 1))
    before.insert(0, shift(lax.slice_in_dim(x, t - rows, t, axis=axis), distance))
    after.append(shift(lax.slice_in_dim(x, 0, rows, axis=axis), -distance))
  return lax.concatenate(before + [x] + after, x.ndim + axis)


def halos(x, width, between=0):
  """A halo on all four sides; `between` counts the axes between the offsets and the tiles."""
  x = halo(x, width, -5 - between, -3)
  return halo(x, width, -4 - between, -2)


def retile(x):
  """Tiles of t/2, as a halved image has them, back to tiles of t where their number is even."""
  *lead, t, _, rows, columns, batch = x.shape
  if rows % 2 or columns % 2:
    return x
  k = len(lead)
  x = x.reshape(*lead, t, t, rows // 2, 2, columns // 2, 2, batch)
  x = x.transpose(*range(k), k + 3, k, k + 5, k + 1, k + 2, k + 4, k + 6)
  return x.reshape(*lead, 2 * t, 2 * t, rows // 2, columns // 2, batch)


@functools.lru_cache
def kernel_matrix(size, t, stride=1):
  """0/1 array `[size, size, inputs, outputs]`: a kernel as a matrix over a tile with its halo.

  Inputs are the `(t + size - 1) ** 2` pixels of the tile with halo, outputs the
  `(t / stride) ** 2` results.
  """
  one = np.zeros((size, t + size - 1, t // stride))
  for offset, out in np.ndindex(size, t // stride):
    one[offset, out * stride + offset, out] = 1
  both = np.einsum('hia,wjb->hwijab', one, one)
  return both.reshape(size, size, (t + size - 1) ** 2, -1)
