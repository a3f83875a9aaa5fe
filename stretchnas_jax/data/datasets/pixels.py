"""Facts about the pixels of a data set: whether they are grey, and how many levels they use."""

import contextlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from stretchnas_jax.data.datasets import decoding, images
from stretchnas_jax.data.datasets.encoded_images import EncodedImages

_Result = TypeVar('_Result')

_BATCH = 256  # images of a stream that are looked at together
_LOOKED_AT = 64  # images of a stream whose levels are looked at
_HALF = 2**15  # images of 16 bits that stay below this number leave half of their levels unused


class Levels:
  """Notes the largest value in images of 16 bits, where no range is stated."""

  def __init__(self, value_range: images.Range | None) -> None:
    """Has seen no image yet.

    Args:
      value_range: the range that is stated; None where the full 16 bits are assumed.
    """
    self._stated = value_range is not None
    self._highest: dict[str, int] = {}

  def seen(self, name: str, image: Image.Image, read: Callable[[], _Result]) -> _Result:
    """Reads an image, and notes its largest value if it has 16 bits.

    Args:
      name: of the image.
      image: as Pillow has opened it, not decoded yet.
      read: decodes the image.
    """
    is_deep = not self._stated and images.has_16_bits(image)
    result = read()
    if is_deep:
      self._highest[name] = int(images.extremes(image)[1])
    return result

  def check(self) -> None:
    """Raises ValueError where images of 16 bits use less than half of their range."""
    highest = max(self._highest.values(), default=_HALF)
    if highest < _HALF:
      name, bits = min(self._highest), max(highest.bit_length(), 1)
      raise ValueError(
        f'{name} and the other images of 16 bits have no value above {highest}, so that most of '
        f'their levels would be lost: set data.range to the values of black and white, for example '
        f'0,{2**bits - 1}, or to 0,65535'
      )


def is_grey(pictures: UInt8[np.ndarray, '*N H W 3']) -> bool:
  """Tells whether all three channels are equal.

  Args:
    pictures: one image or several.
  """
  red, green, blue = (pictures[..., channel] for channel in range(3))
  return np.array_equal(red, green) and np.array_equal(red, blue)


def check_levels(encoded: EncodedImages, value_range: images.Range | None) -> None:
  """Raises ValueError where images of 16 bits use less than half of their range.

  It looks at 64 images, as a stream has too many to look at all of them.

  Args:
    encoded: the images. One that cannot be read is passed over here.
    value_range: the range that is stated, if any.
  """
  levels, count = Levels(value_range), len(encoded.labels)
  for i in range(0, count, max(1, count // _LOOKED_AT)):
    with contextlib.suppress(ValueError), images.opened(encoded.open(i), encoded.name(i)) as image:
      if images.has_16_bits(image):
        levels.seen(encoded.name(i), image, image.load)
  levels.check()


def all_grey(
  encoded: EncodedImages,
  size: images.Size,
  value_range: images.Range | None = None,
  most: int | None = None,
) -> bool:
  """Tells whether images are grey; stops soon after the first coloured one.

  Args:
    encoded: the images. One that cannot be read is passed over here.
    size: the images are scaled to it as a whole, as in memory, so that both give the same answer.
    value_range: the range that is stated, if any.
    most: so many images are looked at; None for all.
  """

  def read(place: int, file: images.File, name: str) -> UInt8[np.ndarray, 'H W 3']:
    """Reads an image as a whole.

    Args:
      place: of the image; not used.
      file: path or binary file.
      name: of the image.
    """
    del place
    try:
      with images.opened(file, name) as image:
        return images.whole(image, size, value_range)
    except ValueError:
      return np.zeros((*images.height_and_width(size), 3), np.uint8)  # which is grey

  count = len(encoded.labels) if most is None else min(most, len(encoded.labels))
  starts = range(0, count, _BATCH)
  with contextlib.closing(decoding.Decoder(encoded)) as decoder:
    works = (decoder.start(np.arange(i, min(i + _BATCH, count)), read, size) for i in starts)
    return all(is_grey(work.result()[0]) for work in works)
