"""Crops of image files, on the host: a random crop for training, the centre for evaluation."""

import math
import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, UInt8
from PIL import Image, ImageOps

from stretchnas_jax.data.datasets import image_limits, splits
from stretchnas_jax.data.datasets import images as images_lib

_NUM_TRIES = 10  # boxes that are drawn before the centre is taken
NUM_DRAWS = 4 * _NUM_TRIES + 1
"""Random numbers of one example: four for each box, and one for the flip."""
_LONGEST = 16  # times as long as the goal, a longer image is cut before it is scaled
_DRAFTED = {'JPEG', 'MPO'}  # formats that can be decoded at a fraction of their size
_ORIENTATION = 0x0112  # tag of EXIF
_ROTATED = {5, 6, 7, 8}  # orientations that exchange width and height


class Box(NamedTuple):
  """A rectangle of pixels."""

  left: int
  top: int
  width: int
  height: int


def random_numbers(
  batch_size: int, *, seed: int, stream: str, epoch: int, step: int
) -> Float64[np.ndarray, 'batch_size D']:
  """Draws the random numbers of one batch, which depend on the arguments alone.

  Args:
    batch_size: B, of the global batch.
    seed: of the run.
    stream: a name; streams of different names are independent of one another.
    epoch: counted from 0.
    step: counted from 0 in each epoch.

  Returns:
    `NUM_DRAWS` numbers for each example, uniform from 0 to below 1.
  """
  bits = splits.random_bits(batch_size * NUM_DRAWS, seed, f'{stream} crops', epoch, step)
  return (bits >> np.uint64(11)).reshape(batch_size, NUM_DRAWS) * 2.0**-53


def random_box(
  draws: Float[np.ndarray, 'D'],
  width: int,
  height: int,
  *,
  scale: tuple[float, float],
  ratio: tuple[float, float],
) -> Box:
  """Chooses the box of a random resized crop (Szegedy et al. 2015), as torchvision does.

  Area and ratio are drawn until a box fits into the image, at most ten times. After that the
  largest centred box with an allowed ratio is chosen.

  Args:
    draws: random numbers of the example, see `random_numbers`.
    width: of the image, in pixels.
    height: of the image, in pixels.
    scale: least and greatest area of the box, relative to the image.
    ratio: least and greatest width of the box relative to its height; drawn on a log scale.
  """
  low, high = np.log(ratio)
  for area_draw, ratio_draw, left_draw, top_draw in draws[: 4 * _NUM_TRIES].reshape(-1, 4):
    area = width * height * (scale[0] + area_draw * (scale[1] - scale[0]))
    aspect = np.exp(low + ratio_draw * (high - low))
    w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
    if 0 < w <= width and 0 < h <= height:
      return Box(int(left_draw * (width - w + 1)), int(top_draw * (height - h + 1)), w, h)
  w = min(width, round(height * ratio[1]))
  h = min(height, round(width / ratio[0]))
  return Box((width - w) // 2, (height - h) // 2, w, h)


def read_random(
  file: images_lib.File,
  draws: Float[np.ndarray, 'D'],
  size: images_lib.Size,
  *,
  name: str,
  scale: tuple[float, float],
  ratio: tuple[float, float],
  flip: bool,
  value_range: images_lib.Range | None = None,
) -> UInt8[np.ndarray, 'H W 3']:
  """Reads a random crop of an image, scaled and perhaps mirrored.

  Args:
    file: path or binary file.
    draws: random numbers of the example, see `random_numbers`.
    size: of the result.
    name: of the image, for messages.
    scale: as for `random_box`.
    ratio: as for `random_box`, relative to the width of the result over its height. So a crop is
      distorted as little where the result is not square.
    flip: mirrors half of all images.
    value_range: see `images.to_rgb`.

  Raises:
    ValueError: names the image, which cannot be read.
  """
  goal_height, goal_width = images_lib.height_and_width(size)
  aspect = goal_width / goal_height
  with images_lib.opened(file, name) as image:
    images_lib.check_color_range(image, value_range)
    ratio = ratio[0] * aspect, ratio[1] * aspect
    box, factor = None, 1
    if image.format in _DRAFTED:  # only their box must be known before they are decoded
      rotated = image.getexif().get(_ORIENTATION) in _ROTATED
      width, height = image.size[::-1] if rotated else image.size
      box = random_box(draws, width, height, scale=scale, ratio=ratio)
      factor = draft(image, min(box.width // (2 * goal_width), box.height // (2 * goal_height)))
    with image_limits.room(image):
      image = _upright(image, value_range)
      box = box or random_box(draws, image.width, image.height, scale=scale, ratio=ratio)
      # The corners are exact fractions: a pixel of the smaller image is a block of the large one.
      left, right = box.left / factor, (box.left + box.width) / factor
      top, bottom = box.top / factor, (box.top + box.height) / factor
      image = image.resize(
        (goal_width, goal_height), Image.Resampling.BILINEAR, box=(left, top, right, bottom)
      )
    pixels = np.asarray(image)
  return pixels[:, ::-1] if flip and draws[-1] < 0.5 else pixels


def draft(image: Image.Image, most: int) -> int:
  """Lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, which is much faster.

  Args:
    image: a Pillow image that is not decoded yet.
    most: the largest factor that leaves enough pixels. The caller leaves twice the final side, so
      that the scaling afterwards decides how the image looks.

  Returns:
    The factor by which the image shrinks: 1, 2, 4 or 8.
  """
  factor = next((f for f in (8, 4, 2) if f <= most), 1)
  if factor == 1:
    return 1
  width = image.width
  done = image.draft(None, (width // factor, image.height // factor))
  return round(width / done[1][2]) if done else 1


def read_center(
  file: images_lib.File,
  size: images_lib.Size,
  *,
  name: str | os.PathLike,
  value_range: images_lib.Range | None = None,
) -> UInt8[np.ndarray, 'H W 3']:
  """Reads the centre of an image, see `center`.

  Args:
    file: path or binary file.
    size: of the result.
    name: of the image, for messages.
    value_range: see `images.to_rgb`.

  Raises:
    ValueError: names the image, which cannot be read.
  """
  with images_lib.opened(file, name) as image:
    images_lib.check_color_range(image, value_range)
    with image_limits.room(image):
      return center(image, size, value_range)


def center(
  image: Image.Image, size: images_lib.Size, value_range: images_lib.Range | None = None
) -> UInt8[np.ndarray, 'H W 3']:
  """Scales an image so that it just covers 256 / 224 x `size`, and cuts out the centre.

  Args:
    image: a Pillow image, which this may turn upright in place.
    size: of the result.
    value_range: see `images.to_rgb`.
  """
  goal_height, goal_width = images_lib.height_and_width(size)
  height, width = round(goal_height * 256 / 224), round(goal_width * 256 / 224)
  image = _middle(_upright(image, value_range), width / height)
  if image.width * height >= image.height * width:  # wider than the goal
    width = height * image.width // image.height
  else:
    height = width * image.height // image.width
  image = image.resize((width, height), Image.Resampling.BILINEAR)
  left, top = round((width - goal_width) / 2), round((height - goal_height) / 2)
  return np.asarray(image.crop((left, top, left + goal_width, top + goal_height)))


def _middle(image: Image.Image, aspect: float) -> Image.Image:
  """Returns the middle of a very long image, which would be huge where its shorter side is scaled.

  Args:
    image: any image; one that is not very long is returned itself.
    aspect: width over height of the goal.
  """
  width = min(image.width, math.ceil(_LONGEST * aspect * image.height))
  height = min(image.height, math.ceil(_LONGEST / aspect * image.width))
  if (width, height) == image.size:
    return image
  left, top = (image.width - width) // 2, (image.height - height) // 2
  return image.crop((left, top, left + width, top + height))


def _upright(image: Image.Image, value_range: images_lib.Range | None) -> Image.Image:
  """Decodes an image, turns it upright in place, and converts it to three channels of 8 bits."""
  ImageOps.exif_transpose(image, in_place=True)
  return images_lib.to_rgb(image, value_range)
