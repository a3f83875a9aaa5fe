"""Crops of image files, on the host: a random one to learn from, the centre to be measured on."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from stretchnas_jax.data.datasets import images as images_lib
from stretchnas_jax.data.datasets import splits

TRIES = 10  # boxes that are drawn before the centre is taken
NUM_DRAWS = 4 * TRIES + 1  # numbers that decide about one example: four a box, one for the flip
ROTATED = {5, 6, 7, 8}  # values of EXIF's orientation that exchange width and height
ORIENTATION = 0x0112


class Box(NamedTuple):
  """A rectangle of pixels."""

  left: int
  top: int
  width: int
  height: int


def draw(batch_size, *, seed, stream, epoch, step):
  """What chance decides about the examples of one batch, a function of the arguments alone.

  Args:
    batch_size: B, over all processes.
    seed: of the run.
    stream: a name; streams of different names are independent of one another.
    epoch: from 0.
    step: from 0 in each epoch.

  Returns:
    float64 `[B, NUM_DRAWS]`, evenly distributed from 0 to below 1.
  """
  bits = splits.random_bits(batch_size * NUM_DRAWS, seed, f'{stream} crops', epoch, step)
  return (bits >> np.uint64(11)).reshape(batch_size, NUM_DRAWS) * 2.0**-53


def random_box(draws, width, height, *, scale, ratio):
  """The box of a random resized crop (Szegedy et al. 2015), drawn as torchvision draws it.

  Area and ratio are drawn until a box fits into the image; after ten of them that do not, the
  largest box in the centre is taken whose ratio is allowed.

  Args:
    draws: `[NUM_DRAWS]`, see `draw`.
    width: of the image, in pixels.
    height: likewise.
    scale: least and greatest area of the box, relative to the image's.
    ratio: least and greatest width of the box relative to its height; drawn on a log scale.
  """
  low, high = np.log(ratio)
  for share, shape, across, down in draws[: 4 * TRIES].reshape(TRIES, 4):
    area = width * height * (scale[0] + share * (scale[1] - scale[0]))
    aspect = np.exp(low + shape * (high - low))
    w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
    if 0 < w <= width and 0 < h <= height:
      return Box(int(across * (width - w + 1)), int(down * (height - h + 1)), w, h)
  w = min(width, round(height * ratio[1]))
  h = min(height, round(width / ratio[0]))
  return Box((width - w) // 2, (height - h) // 2, w, h)


def read_random(file, draws, size, *, name, scale, ratio, flip):
  """A random part of an image, scaled and in half of all cases mirrored.

  Args:
    file: path or binary file object.
    draws: `[NUM_DRAWS]`, see `draw`.
    size: S.
    name: of the image, for a person who is to find it.
    scale: see `random_box`.
    ratio: likewise.
    flip: whether an image may be mirrored.

  Returns:
    uint8 `[S, S, 3]`.

  Raises:
    ValueError: names the image, which cannot be read.
  """
  with images_lib.opened(file, name) as image:
    rotated = image.getexif().get(ORIENTATION) in ROTATED
    width, height = image.size[::-1] if rotated else image.size
    box = random_box(draws, width, height, scale=scale, ratio=ratio)
    shrunk = draft(image, min(box.width, box.height) // (2 * size))
    corners = box.left, box.top, box.left + box.width, box.top + box.height
    image = upright(image)
    # The corners are exact fractions: a pixel of the smaller image is a block of the large one.
    image = image.resize((size, size), Image.Resampling.BILINEAR, box=[x / shrunk for x in corners])
    pixels = np.asarray(image)
  return pixels[:, ::-1] if flip and draws[-1] < 0.5 else pixels


def draft(image, most):
  """Lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, at most 1 / `most`; returns 2, 4 or 8.

  What is left is at least twice as large as the result, so that the scaling which follows decides
  what is seen; a large photograph takes a fraction of the time.
  """
  factor = next((f for f in (8, 4, 2) if f <= most), 1)
  if factor == 1:
    return 1
  width = image.width
  done = image.draft(None, (width // factor, image.height // factor))
  return round(width / done[1][2]) if done else 1


def read_center(file, size, *, name):
  """The centre of an image: its shorter side scaled to 256 / 224 x `size`, then `size` cut out.

  Args:
    file: path or binary file object.
    size: S.
    name: of the image, for a person who is to find it.

  Returns:
    uint8 `[S, S, 3]`.

  Raises:
    ValueError: names the image, which cannot be read.
  """
  with images_lib.opened(file, name) as image:
    return center(image, size)


def center(image, size):
  """As `read_center`, of a Pillow image, which it may turn upright in place."""
  image = upright(image)
  shorter = min(image.size)
  scaled = [round(size * 256 / 224) * side // shorter for side in image.size]
  image = image.resize(scaled, Image.Resampling.BILINEAR)
  left, top = (round((side - size) / 2) for side in image.size)
  return np.asarray(image.crop((left, top, left + size, top + size)))


def upright(image):
  """Decodes, turns as EXIF says, and makes three channels of eight bits."""
  ImageOps.exif_transpose(image, in_place=True)
  return images_lib.to_rgb(image)
