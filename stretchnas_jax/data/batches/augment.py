"""Random crop, flip and cutout of a batch, on the device, as in DARTS (Liu et al. 2018).

Every draw is a function of the batch's key and of an example's position in the batch. So an example
becomes the same image however the batch is divided among devices.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Draw(NamedTuple):
  """What chance decides about one example."""

  offset: jax.Array  # int32 [2]: row and column of the crop in the padded image
  flip: jax.Array  # bool []
  center: jax.Array  # int32 [2]: row and column of the cutout's centre


def augment(key, images, positions, *, mean, std, crop_padding=4, flip=True, cutout=0):
  """Crops, flips, normalises and cuts out, each example by its own chance.

  Args:
    key: of the batch.
    images: uint8 `[B, H, W, C]`.
    positions: int32 `[B]`, each example's position in the whole batch.
    mean: `[C]` of the images scaled to 0..1.
    std: `[C]` likewise.
    crop_padding: black pixels added on each side, from which a crop of H x W is taken.
    flip: whether half of the examples are mirrored.
    cutout: side of the square that is set to the mean (0 after normalisation), its centre anywhere
      in the image; 0 for none. DeVries and Taylor 2017.

  Returns:
    float32 `[B, H, W, C]`.
  """
  height, width = images.shape[1:3]

  def one(image, position):
    chance = draw(key, position, height=height, width=width, crop_padding=crop_padding)
    mirrored = chance.flip if flip else False
    image = crop(image, chance.offset, mirrored, crop_padding)
    image = normalize(image, mean, std)
    return cut_out(image, chance.center, cutout) if cutout else image

  return jax.vmap(one)(images, positions)


def draw(key, position, *, height, width, crop_padding):
  """The `Draw` of the example at `position` of a batch."""
  offset_key, flip_key, center_key = jax.random.split(jax.random.fold_in(key, position), 3)
  return Draw(
    jax.random.randint(offset_key, (2,), 0, 2 * crop_padding + 1),
    jax.random.bernoulli(flip_key),
    jax.random.randint(center_key, (2,), 0, jnp.array([height, width])),
  )


def crop(image, offset, mirrored, padding):
  """Pads with black and crops back to `[H, W, C]`; the flip is in the order of the columns."""
  height, width, _ = image.shape
  padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
  rows, columns = jnp.arange(height), jnp.arange(width)
  columns = jnp.where(mirrored, columns[::-1], columns)
  return padded[offset[0] + rows][:, offset[1] + columns]


def cut_out(image, center, size):
  """Sets a square of `size` around `center` to 0; the border of the image clips it."""
  height, width, _ = image.shape
  first = center - size // 2
  inside = lambda index, start: (index >= start) & (index < start + size)
  rows, columns = inside(jnp.arange(height), first[0]), inside(jnp.arange(width), first[1])
  hole = rows[:, None, None] & columns[None, :, None]
  return jnp.where(hole, 0.0, image)


def cut_out_each(key, images, positions, size):
  """Sets a square of each image of `[B, H, W, C]` to 0; arguments as of `augment`."""
  height, width = images.shape[1:3]

  def one(image, position):
    chance = draw(key, position, height=height, width=width, crop_padding=0)
    return cut_out(image, chance.center, size)

  return jax.vmap(one)(images, positions)


def normalize(images, mean, std):
  """Scales uint8 images `[..., C]` to 0..1, subtracts `mean` `[C]` and divides by `std` `[C]`."""
  if images.dtype != jnp.uint8:
    raise ValueError(f'images are {images.dtype}; they must be uint8')
  return standardize(images.astype(jnp.float32) / 255, mean, std)


def standardize(images, mean, std):
  """Subtracts `mean` `[C]` from images `[..., C]` and divides by `std` `[C]`."""
  shape = (1,) * (images.ndim - 1) + (-1,)
  mean, std = (jnp.asarray(x, jnp.float32).reshape(shape) for x in (mean, std))
  return (images - mean) / std
