"""Limits of image files: pixels, bytes, and the memory of all that are decoded at the same time.

A small file may stand for a large image, and each of many threads may meet one at the same time.
"""

import contextlib
import io
import os
import threading
from collections.abc import Generator

from PIL import Image

_PER_PIXEL = 12
"""Bytes of memory for each pixel: the decoded image, and its parts in other channels or upright."""

_BUDGET = 2**30
"""Bytes for all images that are decoded at the same time; those of one with Pillow's most pixels.

An image that needs more by itself is decoded alone. Only a higher `data.max_pixels` lets it in.
"""

# Their decoders hold the whole image too, some with four bytes for each channel.
_TWICE = {'JPEG2000', 'WEBP', 'AVIF'}

_LONGEST_SIDE = 2**20  # pixels; scaling takes 16 bytes for each pixel of a side
_FILE_PER_PIXEL = 4  # bytes of a file for each pixel of the largest image
_METADATA = 2**24  # bytes of a file for everything else
_before: list[int | None] = []  # the limit before `set_most_pixels` set another one

# ---- one image -----------------------------------------------------------------------------------


def set_most_pixels(most: int | None) -> None:
  """Sets the number of pixels that an image may have, for the whole process and for Pillow.

  Args:
    most: None takes back the limit of an earlier call, so that no run has that of another one.
      Pillow's own is 89,478,485.
  """
  if most is not None:
    _before[:] = _before or [Image.MAX_IMAGE_PIXELS]
    Image.MAX_IMAGE_PIXELS = most
  elif _before:
    Image.MAX_IMAGE_PIXELS = _before.pop()


def most_pixels() -> int | None:
  """Returns the number of pixels that an image may have, or None if there is no limit."""
  return Image.MAX_IMAGE_PIXELS


def check_file(file: str | os.PathLike | io.BytesIO | io.BufferedReader) -> None:
  """Raises ValueError for a file with more bytes than the pixels of the largest image.

  Pillow reads files of some formats as a whole before it knows the size of the image.

  Args:
    file: path or binary file.
  """
  limit = most_pixels()
  if isinstance(file, (str, os.PathLike)):
    count = os.stat(file).st_size
  else:
    place = file.tell()
    count = file.seek(0, os.SEEK_END)
    file.seek(place)
  if limit and count > _FILE_PER_PIXEL * limit + _METADATA:
    raise ValueError(f'its {count} bytes are too many for {limit} pixels: see data.max_pixels')


def check_pixels(image: Image.Image) -> None:
  """Raises ValueError for an image with more pixels, or more memory, than the limit allows.

  Args:
    image: as Pillow has opened it.
  """
  if max(image.size) > _LONGEST_SIDE:
    raise ValueError(f'it has a side of more than {_LONGEST_SIDE} pixels')
  limit, pixels = most_pixels(), image.width * image.height
  if limit and pixels > limit:
    raise ValueError(too_large())
  if limit and needed(image) > _PER_PIXEL * limit:
    raise ValueError(
      f'its {pixels} pixels count twice, since {image.format} takes twice the memory, and {limit} '
      'are allowed: data.max_pixels can allow more'
    )


def too_large() -> str:
  """Returns the reason why an image is not read."""
  return f'it has more than {most_pixels()} pixels: data.max_pixels can allow more'


# ---- all images ----------------------------------------------------------------------------------


class Budget:
  """An amount that threads share; a thread waits until enough of it is free."""

  def __init__(self, most: int) -> None:
    """Takes the whole amount."""
    self._most = most
    self._taken = 0
    self._changed = threading.Condition()

  @contextlib.contextmanager
  def take(self, amount: int) -> Generator[None]:
    """Takes a part inside a `with` block; one that is larger than the whole waits for all of it.

    Args:
      amount: of the part.
    """
    with self._changed:
      self._changed.wait_for(lambda: not self._taken or self._taken + amount <= self._most)
      self._taken += amount
    try:
      yield
    finally:
      with self._changed:
        self._taken -= amount
        self._changed.notify_all()


_budget = Budget(_BUDGET)


def room(image: Image.Image) -> contextlib.AbstractContextManager[None]:
  """Returns a context in which an image may be decoded and converted.

  Args:
    image: as Pillow has opened it, after `draft`; it is not decoded yet.
  """
  return _budget.take(needed(image))


def needed(image: Image.Image) -> int:
  """Returns the bytes that an image takes until it is an array of its final size.

  Args:
    image: as Pillow has opened it.
  """
  times = 2 if image.format in _TWICE else 1
  return times * _PER_PIXEL * image.width * image.height
