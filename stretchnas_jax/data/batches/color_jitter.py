"""Colour jitter of a batch, on the device: brightness, contrast, saturation and hue.

The four changes are those of torchvision's ColorJitter, on colours from 0 to 1 that are clipped
after each change, in an order of its own for every image. As in `augment`, a draw is a function of
the batch's key and of an example's position in the batch. An accelerator does this for nothing; on
the host it would take about as long as the decoding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: how bright red, green and blue are seen


class Strengths(NamedTuple):
  """How far each property may change; DARTS' values for ImageNet are the defaults."""

  brightness: float = 0.4  # the factor is drawn from 1 - 0.4 to 1 + 0.4
  contrast: float = 0.4
  saturation: float = 0.4
  hue: float = 0.2  # the shift is drawn from -0.2 to 0.2 turns, at most half a turn


class Draw(NamedTuple):
  """What chance decides about one example."""

  order: jax.Array  # int32 [4], a permutation of the four changes
  amounts: jax.Array  # float32 [4]: three factors, and the shift of the hue in turns


def color_jitter(key, images, positions, strengths):
  """Changes the colours of each example by its own chance.

  Args:
    key: of the batch.
    images: uint8 `[B, H, W, 3]`.
    positions: int32 `[B]`, each example's position in the whole batch.
    strengths: a `Strengths`.

  Returns:
    float32 `[B, H, W, 3]`, from 0 to 1.
  """
  one = lambda image, position: adjust(
    image.astype(jnp.float32) / 255, draw(key, position, strengths)
  )
  return jax.vmap(one)(images, positions)


def draw(key, position, strengths):
  """The `Draw` of the example at `position` of a batch."""
  order_key, amount_key = jax.random.split(jax.random.fold_in(key, position))
  *factors, hue = strengths
  low = jnp.array([max(0.0, 1.0 - s) for s in factors] + [-hue], jnp.float32)
  high = jnp.array([1.0 + s for s in factors] + [hue], jnp.float32)
  amounts = low + (high - low) * jax.random.uniform(amount_key, (4,))
  return Draw(jax.random.permutation(order_key, 4), amounts)


def adjust(image, chance):
  """Applies the four changes to `[H, W, 3]` in the order of the draw."""
  changes = change_brightness, change_contrast, change_saturation, change_hue

  def step(i, image):
    which = chance.order[i]
    return jax.lax.switch(which, changes, image, chance.amounts[which])

  return jax.lax.fori_loop(0, 4, step, image)


def change_brightness(image, factor):
  return jnp.clip(image * factor, 0, 1)


def change_contrast(image, factor):
  """Moves all colours away from, or towards, the mean brightness of the image."""
  return blend(image, luma(image).mean(), factor)


def change_saturation(image, factor):
  """Moves each colour away from, or towards, the grey of the same brightness."""
  return blend(image, luma(image)[..., None], factor)


def blend(image, other, factor):
  return jnp.clip(other + factor * (image - other), 0, 1)


def luma(image):
  return (image * jnp.array(LUMA, image.dtype)).sum(axis=-1)


def change_hue(image, turns):
  """Turns the colours about the axis of greys of the HSV hexcone (Smith 1978)."""
  red, green, blue = (image[..., c] for c in range(3))
  value, least = image.max(axis=-1), image.min(axis=-1)
  chroma = value - least
  over = jnp.where(chroma > 0, chroma, 1.0)
  sixths = jnp.where(
    value == red,
    (green - blue) / over,
    jnp.where(value == green, 2 + (blue - red) / over, 4 + (red - green) / over),
  )
  sixths = sixths + 6 * turns
  channels = []
  for offset in 5, 3, 1:
    place = (offset + sixths) % 6
    channels.append(value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1))
  return jnp.stack(channels, axis=-1)
