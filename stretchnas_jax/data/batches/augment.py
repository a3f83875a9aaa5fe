"""Random crop, flip and cutout of a batch, on the device, as in DARTS (Liu et al. 2018).

Each example has its own random choices. They depend on the key of the batch, and on the position of
the example in the global batch. So the number of devices does not change the images.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Int, Int32, PRNGKeyArray, Shaped, UInt8

from stretchnas_jax.cells.arrays import AnyArray

ChannelValues = Float[AnyArray, 'C'] | Sequence[SupportsFloat]
"""One number for each channel."""


class Choices(NamedTuple):
  """The random choices for one example."""

  offset: Int32[AnyArray, '2']
  """Row and column of the crop in the padded image."""
  flip: Bool[AnyArray, '']
  center: Int32[AnyArray, '2']
  """Row and column of the centre of the cutout."""


def augment(
  key: PRNGKeyArray,
  images: UInt8[AnyArray, 'B H W C'],
  positions: Int[AnyArray, 'B'],
  *,
  mean: ChannelValues,
  std: ChannelValues,
  crop_padding: int = 4,
  flip: bool = True,
  cutout: int = 0,
) -> Float32[AnyArray, 'B H W C']:
  """Crops, flips, normalises and cuts out each example by its own random choices.

  Args:
    key: of the batch.
    images: the images.
    positions: the position of each example in the global batch.
    mean: of each channel, for images scaled to 0..1.
    std: of each channel, for images scaled to 0..1.
    crop_padding: width of a black border. A crop of H x W is taken from the padded image.
    flip: mirrors half of the examples.
    cutout: side of a square that is set to the mean, which is 0 after normalisation; 0 for none.
      Its centre is any pixel of the image (DeVries and Taylor 2017).
  """
  height, width = images.shape[1:3]
  choose = functools.partial(choices, height=height, width=width, crop_padding=crop_padding)

  def augment_one(
    image: UInt8[AnyArray, 'H W C'], position: Int[AnyArray, '']
  ) -> Float32[AnyArray, 'H W C']:
    """Augments the example at a position of the global batch.

    Args:
      image: of the example.
      position: of the example.
    """
    chosen = choose(key, position)
    mirrored = chosen.flip if flip else False
    image = normalize(_crop(image, chosen.offset, mirrored, crop_padding), mean, std)
    return _cut_out(image, chosen.center, cutout) if cutout else image

  return jax.vmap(augment_one)(images, positions)


def choices(
  key: PRNGKeyArray,
  position: Int[AnyArray, ''],
  *,
  height: int,
  width: int,
  crop_padding: int,
) -> Choices:
  """Draws the choices for one example.

  Args:
    key: of the batch.
    position: of the example in the global batch.
    height: of the images.
    width: of the images.
    crop_padding: width of the border.
  """
  offset_key, flip_key, center_key = jax.random.split(jax.random.fold_in(key, position), 3)
  return Choices(
    offset=jax.random.randint(offset_key, (2,), 0, 2 * crop_padding + 1),
    flip=jax.random.bernoulli(flip_key),
    center=jax.random.randint(center_key, (2,), 0, jnp.array([height, width])),
  )


def _crop(
  image: Shaped[AnyArray, 'H W C'],
  offset: Int[AnyArray, '2'],
  mirrored: Bool[AnyArray, ''] | bool,
  padding: int,
) -> Shaped[AnyArray, 'H W C']:
  """Pads an image with black, and crops it back to its size.

  Args:
    image: the image.
    offset: row and column of the crop in the padded image.
    mirrored: takes the columns of the padded image from right to left.
    padding: width of the border.
  """
  height, width, _ = image.shape
  padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
  rows, columns = jnp.arange(height), jnp.arange(width)
  columns = jnp.where(mirrored, columns[::-1], columns)
  return padded[offset[0] + rows][:, offset[1] + columns]


def _cut_out(
  image: Float[AnyArray, 'H W C'], center: Int[AnyArray, '2'], size: int
) -> Float[AnyArray, 'H W C']:
  """Sets a square to 0; the border of the image clips it.

  Args:
    image: the image.
    center: row and column of the centre of the square.
    size: side of the square.
  """
  height, width, _ = image.shape
  top, left = center - size // 2
  rows, columns = jnp.arange(height), jnp.arange(width)
  in_rows = (rows >= top) & (rows < top + size)
  in_columns = (columns >= left) & (columns < left + size)
  return jnp.where(in_rows[:, None, None] & in_columns[None, :, None], 0.0, image)


def cut_out_each(
  key: PRNGKeyArray,
  images: Float[AnyArray, 'B H W C'],
  positions: Int[AnyArray, 'B'],
  size: int,
) -> Float[AnyArray, 'B H W C']:
  """Sets a random square of each image to 0.

  Args:
    key: of the batch.
    images: the images, normalised.
    positions: the position of each example in the global batch.
    size: side of the square.
  """
  height, width = images.shape[1:3]

  def cut_out_one(
    image: Float[AnyArray, 'H W C'], position: Int[AnyArray, '']
  ) -> Float[AnyArray, 'H W C']:
    """Cuts out a square of the example at a position of the global batch.

    Args:
      image: of the example.
      position: of the example.
    """
    chosen = choices(key, position, height=height, width=width, crop_padding=0)
    return _cut_out(image, chosen.center, size)

  return jax.vmap(cut_out_one)(images, positions)


def normalize(
  images: Shaped[AnyArray, '*B H W C'], mean: ChannelValues, std: ChannelValues
) -> Float32[AnyArray, '*B H W C']:
  """Subtracts the mean from each channel and divides by the standard deviation.

  Args:
    images: uint8, which are first scaled to 0..1, or floating-point from 0 to 1.
    mean: of each channel, for images scaled to 0..1.
    std: of each channel, for images scaled to 0..1.

  Raises:
    ValueError: the images have another type.
  """
  if images.dtype == jnp.uint8:
    scaled = images.astype(jnp.float32) / 255
  elif jnp.issubdtype(images.dtype, jnp.floating):
    scaled = images.astype(jnp.float32)
  else:
    raise ValueError(f'images are {images.dtype}; they must be uint8, or floating-point 0 to 1')
  return (scaled - _per_channel(mean, images.ndim)) / _per_channel(std, images.ndim)


def _per_channel(values: ChannelValues, ndim: int) -> Float32[AnyArray, '*ones C']:
  """Returns one number for each channel as an array with `ndim` axes; C is the last axis."""
  return jnp.asarray(values, jnp.float32).reshape((1,) * (ndim - 1) + (-1,))
