"""Image files of any kind as square RGB arrays."""

import concurrent.futures
import contextlib
import functools
import logging
import os
import stat

import numpy as np
from PIL import Image, ImageOps

# Pillow looks at what a file holds and not at its name; some of its other formats call programs.
FORMATS = ('AVIF', 'BMP', 'GIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TGA', 'TIFF', 'WEBP')
CHUNK = 1024  # files in flight, so that a broken one stops the reading soon


class BadImage(OSError, ValueError):
  """An image that cannot be read."""


def read_all(files, size, *, on_bad_image='error'):
  """Reads and resizes image files with a pool of threads.

  Args:
    files: N paths.
    size: side of the result; the whole image is scaled to it, nothing is cropped.
    on_bad_image: 'error', or 'skip' to leave unreadable files out with a warning.

  Returns:
    uint8 `[N, size, size, 3]`, and bool `[N]` that is False for skipped files, whose images are
    black.

  Raises:
    ValueError: names the first unreadable file.
  """
  images = np.zeros((len(files), size, size, 3), np.uint8)
  readable = np.ones(len(files), bool)

  def put(i):
    try:
      images[i] = read(files[i], size)
    except ValueError as error:
      if on_bad_image == 'error':
        raise BadImage(f"{error}; set data.on_bad_image to 'skip' to leave it out") from error
      logging.warning('skipped: %s', error)
      readable[i] = False

  with concurrent.futures.ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
    for start in range(0, len(files), CHUNK):
      list(pool.map(put, range(start, min(start + CHUNK, len(files)))))
  return images, readable


def read(file, size):
  """The first frame of an image file, upright, as uint8 `[size, size, 3]`; else ValueError."""
  with opened(file, file) as image:
    # A large JPEG is decoded at a fraction of its size, still twice as large as needed.
    image.draft(None, (2 * size, 2 * size))
    return square(image, size)


def square(image, size):
  """A Pillow image, upright, as uint8 `[size, size, 3]`."""
  image = to_rgb(ImageOps.exif_transpose(image))
  return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


@contextlib.contextmanager
def opened(file, name):
  """A Pillow image; whatever fails inside becomes a ValueError that calls the image by `name`."""
  try:
    if isinstance(file, (str, os.PathLike)) and not stat.S_ISREG(os.stat(file).st_mode):
      raise ValueError('it is no regular file')  # a pipe would be waited for
    with Image.open(file, formats=known_formats()) as image:
      limit = Image.MAX_IMAGE_PIXELS
      if limit and image.width * image.height > limit:
        raise ValueError(f'it has more than {limit} pixels')
      yield image
  except Exception as error:  # Pillow raises a dozen unrelated types for broken files
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise BadImage(f'{name} is not a readable image ({reason})') from error


@functools.cache
def known_formats():
  """Those of `FORMATS` that this Pillow can read."""
  Image.init()
  return tuple(name for name in FORMATS if name in Image.OPEN)


def to_rgb(image):
  """Eight bits a channel; what is transparent shows white."""
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


def resize(images, size):
  """Scales uint8 `[N, H, W, C]` with one or three channels to `[N, size, size, C]`."""
  if images.shape[1:3] == (size, size):
    return images
  out = np.empty((len(images), size, size, images.shape[-1]), np.uint8)
  for i, image in enumerate(images):
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    scaled = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    out[i] = scaled.reshape(out[i].shape)
  return out
