"""Colour jitter of a batch, on the device: brightness, contrast, saturation and hue.

torchvision's ColorJitter makes the same four changes. They act on colours from 0 to 1, which are
clipped after each change. Each image has its own order of the changes. As in `augment`, the random
choices depend on the key of the batch and on the position of the example.

On the host this would take about as long as decoding. On an accelerator it costs almost nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int, Int32, PRNGKeyArray, UInt8

from stretchnas_jax.cells.arrays import AnyArray

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: perceived brightness of red, green and blue


class Strengths(NamedTuple):
  """How far each property may change; DARTS has these defaults for ImageNet."""

  brightness: float = 0.4
  """A factor is drawn from 1 - brightness to 1 + brightness."""
  contrast: float = 0.4
  saturation: float = 0.4
  hue: float = 0.2
  """A shift is drawn from -hue to hue, in turns; at most half a turn."""


class Choices(NamedTuple):
  """The random choices for one example."""

  order: Int32[AnyArray, '4']
  """A permutation of the four changes."""
  amounts: Float32[AnyArray, '4']
  """The three factors, and the shift of the hue in turns."""


def color_jitter(
  key: PRNGKeyArray,
  images: UInt8[AnyArray, 'B H W 3'],
  positions: Int[AnyArray, 'B'],
  strengths: Strengths,
) -> Float32[AnyArray, 'B H W 3']:
  """Changes the colours of each example by its own random choices.

  Args:
    key: of the batch.
    images: the images.
    positions: the position of each example in the global batch.
    strengths: how far colours change.

  Returns:
    Images from 0 to 1.
  """

  def jitter_one(
    image: UInt8[AnyArray, 'H W 3'], position: Int[AnyArray, '']
  ) -> Float32[AnyArray, 'H W 3']:
    """Changes the colours of the example at a position of the global batch.

    Args:
      image: of the example.
      position: of the example.
    """
    return _adjust(image.astype(jnp.float32) / 255, choices(key, position, strengths))

  return jax.vmap(jitter_one)(images, positions)


def choices(key: PRNGKeyArray, position: Int[AnyArray, ''], strengths: Strengths) -> Choices:
  """Draws the choices for one example.

  Args:
    key: of the batch.
    position: of the example in the global batch.
    strengths: how far colours change.
  """
  order_key, amount_key = jax.random.split(jax.random.fold_in(key, position))
  *factors, hue = strengths
  low = jnp.array([max(0.0, 1.0 - s) for s in factors] + [-hue], jnp.float32)
  high = jnp.array([1.0 + s for s in factors] + [hue], jnp.float32)
  amounts = low + (high - low) * jax.random.uniform(amount_key, (4,))
  return Choices(jax.random.permutation(order_key, 4), amounts)


def _adjust(image: Float[AnyArray, 'H W 3'], chosen: Choices) -> Float[AnyArray, 'H W 3']:
  """Applies the four changes to an image in the chosen order."""
  changes = change_brightness, change_contrast, change_saturation, _change_hue

  def step(i: Int[AnyArray, ''], image: Float[AnyArray, 'H W 3']) -> Float[AnyArray, 'H W 3']:
    """Applies change number `i` of the order.

    Args:
      i: from 0 to 3.
      image: after the earlier changes.
    """
    which = chosen.order[i]
    return jax.lax.switch(which, changes, image, chosen.amounts[which])

  return jax.lax.fori_loop(0, 4, step, image)


def change_brightness(
  image: Float[AnyArray, 'H W 3'], factor: Float[AnyArray, ''] | float
) -> Float[AnyArray, 'H W 3']:
  """Multiplies all colours by a factor.

  Args:
    image: colours from 0 to 1.
    factor: 1 changes nothing.
  """
  return jnp.clip(image * factor, 0, 1)


def change_contrast(
  image: Float[AnyArray, 'H W 3'], factor: Float[AnyArray, ''] | float
) -> Float[AnyArray, 'H W 3']:
  """Moves all colours away from the mean brightness of the image, or towards it.

  Args:
    image: colours from 0 to 1.
    factor: 1 changes nothing, and 0 gives the mean brightness.
  """
  return _blend(image, _luma(image).mean(), factor)


def change_saturation(
  image: Float[AnyArray, 'H W 3'], factor: Float[AnyArray, ''] | float
) -> Float[AnyArray, 'H W 3']:
  """Moves each colour away from the grey of the same brightness, or towards it.

  Args:
    image: colours from 0 to 1.
    factor: 1 changes nothing, and 0 gives grey.
  """
  return _blend(image, _luma(image)[..., None], factor)


def _blend(
  image: Float[AnyArray, 'H W 3'],
  other: Float[AnyArray, '*any'],
  factor: Float[AnyArray, ''] | float,
) -> Float[AnyArray, 'H W 3']:
  """Interpolates from `other` (factor 0) to the image (factor 1), or beyond it."""
  return jnp.clip(other + factor * (image - other), 0, 1)


def _luma(image: Float[AnyArray, 'H W 3']) -> Float[AnyArray, 'H W']:
  """Returns the perceived brightness of each pixel."""
  return (image * jnp.array(_LUMA, image.dtype)).sum(axis=-1)


def _change_hue(
  image: Float[AnyArray, 'H W 3'], turns: Float[AnyArray, '']
) -> Float[AnyArray, 'H W 3']:
  """Turns the colours around the axis of greys in the HSV hexcone (Smith 1978).

  Args:
    image: colours from 0 to 1.
    turns: 1 is a whole turn.
  """
  red, green, blue = (image[..., channel] for channel in range(3))
  value, least = image.max(axis=-1), image.min(axis=-1)
  chroma = value - least
  divisor = jnp.where(chroma > 0, chroma, 1.0)  # greys have no hue
  hue = jnp.where(
    value == red,
    (green - blue) / divisor,
    jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
  )  # in sixths of a turn
  hue = hue + 6 * turns
  channels = []
  for offset in 5, 3, 1:
    distance = (offset + hue) % 6
    channels.append(value - chroma * jnp.clip(jnp.minimum(distance, 4 - distance), 0, 1))
  return jnp.stack(channels, axis=-1)
