"""Reads image files of any kind as RGB arrays of one size."""

import contextlib
import functools
import io
import os
import stat
from collections.abc import Generator, Sequence

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

from stretchnas_jax.data.datasets import image_limits
from stretchnas_jax.machine.faults import Fault

File = str | os.PathLike[str] | io.BytesIO | io.BufferedReader
"""An image file: a path or an open binary file."""
Size = int | Sequence[int]
"""The side of a square in pixels, or height and width."""
Range = Sequence[int | float]
"""The two values that mean black and white."""

_SIXTEEN_BITS = (0, 65535)
_STRIP = 2**21  # pixels that are converted at once
# Pillow looks at the content of a file, not at its name. Some of its other formats run programs.
_FORMATS = ('AVIF', 'BMP', 'GIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TGA', 'TIFF', 'WEBP')


class BadImage(Fault):
  """An image that cannot be read."""


def height_and_width(size: Size) -> tuple[int, int]:
  """Returns height and width of a size.

  Args:
    size: the side of a square, or height and width.
  """
  if isinstance(size, Sequence):
    height, width = size
    return height, width
  return size, size


def read(
  file: str | os.PathLike, size: Size, value_range: Range | None = None
) -> UInt8[np.ndarray, 'H W 3']:
  """Reads the first frame of an image file, upright and scaled as a whole.

  Args:
    file: path of the file.
    size: of the result.
    value_range: see `to_rgb`.

  Raises:
    ValueError: names the file, which cannot be read.
  """
  with opened(file, file) as image:
    return whole(image, size, value_range)


def whole(
  image: Image.Image, size: Size, value_range: Range | None = None
) -> UInt8[np.ndarray, 'H W 3']:
  """Decodes an image file, turns it upright and scales it as a whole.

  Args:
    image: a Pillow image that is not decoded yet.
    size: of the result.
    value_range: see `to_rgb`.
  """
  check_color_range(image, value_range)
  height, width = height_and_width(size)
  side = max(height, width)  # the image may still lie on its side
  # Decodes a large JPEG at a fraction of its size that is still twice as large as needed.
  image.draft(None, (2 * side, 2 * side))
  with image_limits.room(image):
    ImageOps.exif_transpose(image, in_place=True)
    return _scaled(image, size, value_range)


def scaled(
  image: Image.Image, size: Size, value_range: Range | None = None
) -> UInt8[np.ndarray, 'H W 3']:
  """Turns a Pillow image upright and scales it as a whole.

  Args:
    image: the image.
    size: of the result.
    value_range: see `to_rgb`.
  """
  return _scaled(ImageOps.exif_transpose(image), size, value_range)


def _scaled(
  image: Image.Image, size: Size, value_range: Range | None
) -> UInt8[np.ndarray, 'H W 3']:
  """Scales an upright image as a whole."""
  height, width = height_and_width(size)
  image = to_rgb(image, value_range)
  return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


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
    image_limits.check_file(file)
    with Image.open(file, formats=_known_formats()) as image:
      image_limits.check_pixels(image)
      yield image
  except MemoryError as error:  # a damaged file may ask for gigabytes at once
    raise BadImage(f'{name} is not a readable image (it takes too much memory)') from error
  except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
    raise BadImage(f'{name} is not a readable image ({image_limits.too_large()})') from error
  except Exception as error:  # Pillow raises a dozen unrelated types for broken files
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise BadImage(f'{name} is not a readable image ({reason})') from error


@functools.cache
def _known_formats() -> tuple[str, ...]:
  """Returns the formats among `_FORMATS` that the installed Pillow can read."""
  Image.init()
  return tuple(name for name in _FORMATS if name in Image.OPEN)


def to_rgb(image: Image.Image, value_range: Range | None = None) -> Image.Image:
  """Returns an image with three channels of eight bits; transparent pixels become white.

  Args:
    image: the image, which is returned itself if it is RGB.
    value_range: the values that become black and white in an image of more than 8 bits. None takes
      0 and 65535 for 16 bits, and refuses floating-point numbers and integers of more bits.

  Raises:
    ValueError: the range of the pixels is unknown, or they are outside of it.
  """
  if image.mode == 'RGB' and not image.has_transparency_data:
    return image
  width, height = image.size
  rows = max(1, _STRIP // max(1, width))
  if height <= rows:
    return _converted(image, value_range)
  # The steps of a conversion would hold several copies of a large image.
  result = Image.new('RGB', image.size)
  for top in range(0, height, rows):
    strip = image.crop((0, top, width, min(top + rows, height)))
    result.paste(_converted(strip, value_range), (0, top))
  return result


def _converted(image: Image.Image, value_range: Range | None) -> Image.Image:
  """Returns an image as `to_rgb` does, whose copies it holds all at once."""
  if image.mode == 'F' or image.mode.startswith('I'):
    if value_range is None and image.mode == 'F':
      raise ValueError(
        'its pixels are floating-point numbers: set data.range to the values of black and white, '
        'for example 0,1'
      )
    pixels = np.asarray(image)
    if value_range is None and (pixels.min() < 0 or pixels.max() > 65535):
      raise ValueError('its pixels have more than 16 bits: set data.range to their range')
    # Pillow would clip 16 bits at 255 instead of scaling them.
    return Image.fromarray(to_bytes(pixels, value_range or _SIXTEEN_BITS)).convert('RGB')
  if image.has_transparency_data:
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image.convert('RGBA'))
  return image.convert('RGB')


def to_bytes(
  pixels: Shaped[np.ndarray, '*shape'], value_range: Range
) -> UInt8[np.ndarray, '*shape']:
  """Returns numbers as the nearest bytes, where the ends of a range become 0 and 255.

  Args:
    pixels: numbers of any type.
    value_range: the values of black and white.

  Raises:
    ValueError: a number is not finite, or is outside of the range.
  """
  low, high = value_range
  least, greatest = pixels.min(), pixels.max()
  if not (np.isfinite(least) and np.isfinite(greatest)):  # NaN spreads to both
    raise ValueError('its pixels have NaN or infinite numbers')
  if least < low or greatest > high:
    raise ValueError(
      f'its pixels are from {least:g} to {greatest:g}, outside of data.range {low:g},{high:g}'
    )
  precise = np.result_type(pixels.dtype, np.float32)  # so that float32 is not copied to float64
  return np.rint(np.multiply(pixels - precise.type(low), 255 / (high - low), dtype=precise)).astype(
    np.uint8
  )


def has_16_bits(image: Image.Image) -> bool:
  """Tells whether an image that is not decoded yet has 16 bits in each channel.

  Args:
    image: as Pillow has opened it.
  """
  return image.mode.startswith('I') or _has_deep_colors(image)


def extremes(image: Image.Image) -> tuple[float, float]:
  """Returns the least and the greatest value of an image of more than 8 bits.

  Args:
    image: grey, or with several channels, of which Pillow keeps the upper 8 bits of 16.
  """
  pixels = np.asarray(image)
  least, greatest = float(pixels.min()), float(pixels.max())
  is_deep = image.mode == 'F' or image.mode.startswith('I')
  return (least, greatest) if is_deep else (257 * least, 257 * greatest)


def check_color_range(image: Image.Image, value_range: Range | None) -> None:
  """Raises ValueError for a coloured image of 16 bits with another range than the full one.

  Pillow keeps the upper 8 bits of such images.

  Args:
    image: as Pillow has opened it, not decoded yet.
    value_range: the range that is stated, if any.
  """
  if value_range is not None and tuple(value_range) != _SIXTEEN_BITS and _has_deep_colors(image):
    raise ValueError(
      'it is coloured and has 16 bits, of which the upper 8 are read: save it with 8 bits, or set '
      'data.range to 0,65535'
    )


def _has_deep_colors(image: Image.Image) -> bool:
  """Tells whether an image that is not decoded yet has several channels of 16 bits."""
  # The last part of a tile names how its pixels are stored, for example 'RGB;16B'.
  tiles = getattr(image, 'tile', None) or []
  stored = tiles[0][3] if tiles else None
  stored = stored[0] if isinstance(stored, tuple) and stored else stored
  if not isinstance(stored, str) or stored == 'BGR;16':  # 16 bits for all three channels together
    return False
  return ';16' in stored and not image.mode.startswith('I')


def resize(images: UInt8[np.ndarray, 'N H W C'], size: Size) -> UInt8[np.ndarray, 'N S T C']:
  """Scales images to one size.

  Args:
    images: N images with one or three channels.
    size: of the result.

  Returns:
    The scaled images; the argument itself if its images already have this size.
  """
  height, width = height_and_width(size)
  if images.shape[1:3] == (height, width):
    return images
  out = np.empty((len(images), height, width, images.shape[-1]), np.uint8)
  for i, image in enumerate(images):
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    out[i] = resized.reshape(out[i].shape)
  return out
