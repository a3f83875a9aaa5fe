"""Reads image files of any kind as square RGB arrays."""

import contextlib
import functools
import io
import os
import stat
from collections.abc import Generator

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

File = str | os.PathLike[str] | io.BytesIO | io.BufferedReader
"""An image file: a path or an open binary file."""

# Pillow looks at the content of a file, not at its name. Some of its other formats run programs.
_FORMATS = ('AVIF', 'BMP', 'GIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TGA', 'TIFF', 'WEBP')


class BadImage(OSError, ValueError):
  """An image that cannot be read."""


def read(file: str | os.PathLike, size: int) -> UInt8[np.ndarray, 'S S 3']:
  """Reads the first frame of an image file, upright and scaled as a whole.

  Args:
    file: path of the file.
    size: S, side of the result.

  Raises:
    ValueError: names the file, which cannot be read.
  """
  with opened(file, file) as image:
    return whole(image, size)


def whole(image: Image.Image, size: int) -> UInt8[np.ndarray, 'S S 3']:
  """Decodes an image file, turns it upright and scales it as a whole.

  Args:
    image: a Pillow image that is not decoded yet.
    size: S, side of the result.
  """
  # Decodes a large JPEG at a fraction of its size that is still twice as large as needed.
  image.draft(None, (2 * size, 2 * size))
  return square(image, size)


def square(image: Image.Image, size: int) -> UInt8[np.ndarray, 'S S 3']:
  """Turns a Pillow image upright and scales it as a whole.

  Args:
    image: the image.
    size: S, side of the result.
  """
  image = to_rgb(ImageOps.exif_transpose(image))
  return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


@contextlib.contextmanager
def opened(file: File, name: str | os.PathLike) -> Generator[Image.Image]:
  """Opens an image; every failure inside becomes a `BadImage`.

  Args:
    file: path or binary file.
    name: of the image, for the message.

  Yields:
    A Pillow image.

  Raises:
    BadImage: names the image and says why it cannot be read.
  """
  try:
    # Reading from a pipe would wait for ever.
    if isinstance(file, (str, os.PathLike)) and not stat.S_ISREG(os.stat(file).st_mode):
      raise ValueError('it is not a regular file')
    with Image.open(file, formats=_known_formats()) as image:
      limit = Image.MAX_IMAGE_PIXELS
      if limit and image.width * image.height > limit:
        raise ValueError(f'it has more than {limit} pixels')
      yield image
  except Exception as error:  # Pillow raises a dozen unrelated types for broken files
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise BadImage(f'{name} is not a readable image ({reason})') from error


@functools.cache
def _known_formats() -> tuple[str, ...]:
  """Returns the formats among `_FORMATS` that the installed Pillow can read."""
  Image.init()
  return tuple(name for name in _FORMATS if name in Image.OPEN)


def to_rgb(image: Image.Image) -> Image.Image:
  """Returns an image with three channels of eight bits; transparent pixels become white.

  Raises:
    ValueError: the range of the pixels is unknown.
  """
  if image.mode.startswith('I'):
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
      raise ValueError('its pixels have more than 16 bits')
    # Pillow would clip 16 bits at 255 instead of scaling them.
    return Image.fromarray((pixels / 257).round().astype(np.uint8)).convert('RGB')
  if image.mode == 'F':
    raise ValueError('its pixels are floating-point numbers of unknown range')
  if image.has_transparency_data:
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image.convert('RGBA'))
  return image.convert('RGB')


def resize(images: UInt8[np.ndarray, 'N H W C'], size: int) -> UInt8[np.ndarray, 'N S S C']:
  """Scales images to squares.

  Args:
    images: N images with one or three channels.
    size: S, side of the result.

  Returns:
    The scaled images; the argument itself if its images already have this size.
  """
  if images.shape[1:3] == (size, size):
    return images
  out = np.empty((len(images), size, size, images.shape[-1]), np.uint8)
  for i, image in enumerate(images):
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    scaled = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    out[i] = scaled.reshape(out[i].shape)
  return out
