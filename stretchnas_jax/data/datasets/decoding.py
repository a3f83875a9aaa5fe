"""Decodes many images at once, in threads.

Pillow releases the interpreter lock while it decodes and scales. So threads run side by side, and
need neither the start-up nor the copies of separate processes.
"""

import concurrent.futures
import functools
import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8

from stretchnas_jax.data.datasets import images as images_lib
from stretchnas_jax.data.datasets.encoded_images import EncodedImages
from stretchnas_jax.machine import facts

Read = Callable[[int, images_lib.File, str], UInt8[np.ndarray, 'H W 3']]
"""`(place, file, name) -> pixels`: reads one image; `place` counts the images of a batch."""

# Images of one task: enough to hide the cost of a task, and few enough to keep all threads busy.
_GROUP = 8


class Work:
  """A batch that is being decoded.

  Attributes:
    numbers: the images of the batch.
  """

  def __init__(
    self,
    numbers: Int[np.ndarray, 'B'],
    images: UInt8[np.ndarray, 'B H W 3'],
    readable: Bool[np.ndarray, 'B'],
    tasks: Sequence[concurrent.futures.Future],
  ) -> None:
    """Takes the arrays that the tasks will fill.

    Args:
      numbers: the images of the batch.
      images: their pixels.
      readable: False for each image that cannot be read.
      tasks: the tasks that fill `images` and `readable`.
    """
    self.numbers = numbers
    self._images = images
    self._readable = readable
    self._tasks = tasks

  def result(self) -> tuple[UInt8[np.ndarray, 'B H W 3'], Bool[np.ndarray, 'B']]:
    """Waits for the batch.

    Returns:
      The pixels, and False for each image that could not be read. Such an image is black.

    Raises:
      BadImage: names the first image that cannot be read.
    """
    for task in self._tasks:
      task.result()
    return self._images, self._readable

  def cancel(self) -> None:
    """Drops the tasks that have not begun."""
    for task in self._tasks:
      task.cancel()


class Decoder:
  """Decodes images of one part of a data set in several threads.

  Attributes:
    bad: the numbers of the images that could not be read so far.
  """

  def __init__(
    self, encoded: EncodedImages, *, workers: int = 0, on_bad_image: str = 'error'
  ) -> None:
    """Starts no thread yet.

    Args:
      encoded: the images.
      workers: number of threads; 0 for one per core that this process may use.
      on_bad_image: 'error', or 'skip' to go on without images that cannot be read.
    """
    self.bad: set[int] = set()
    self._encoded = encoded
    self._on_bad_image = on_bad_image
    self._lock = threading.Lock()
    self._pool = concurrent.futures.ThreadPoolExecutor(workers or facts.num_cores(), 'decode')

  def start(
    self,
    numbers: Int[np.ndarray, 'B'],
    read: Read,
    size: images_lib.Size,
    instead_of: Callable[[int], Int[np.ndarray, '_']] | None = None,
  ) -> Work:
    """Begins to decode a batch.

    Args:
      numbers: the images of the batch.
      read: reads the image at a place of the batch.
      size: of the resulting images.
      instead_of: returns the images that may replace an image that cannot be read, in the order in
        which they are tried. None leaves such an image black.
    """
    images = np.zeros((len(numbers), *images_lib.height_and_width(size), 3), np.uint8)
    readable = np.ones(len(numbers), bool)

    def decode(places: range) -> None:
      """Fills in the images at some places of the batch."""
      for place in places:
        number = int(numbers[place])
        pixels = self._first_readable(number, functools.partial(read, place), instead_of)
        readable[place] = pixels is not None
        if pixels is not None:
          images[place] = pixels

    groups = [range(i, min(i + _GROUP, len(numbers))) for i in range(0, len(numbers), _GROUP)]
    tasks = [self._pool.submit(decode, group) for group in groups]
    return Work(numbers, images, readable, tasks)

  def _first_readable(
    self,
    number: int,
    read: Callable[[images_lib.File, str], UInt8[np.ndarray, 'H W 3']],
    instead_of: Callable[[int], Int[np.ndarray, '_']] | None,
  ) -> UInt8[np.ndarray, 'H W 3'] | None:
    """Returns the pixels of an image, or of the first readable one of its substitutes."""
    pixels = self._read(number, read)
    if pixels is not None or instead_of is None:
      return pixels
    for other in instead_of(number):
      pixels = self._read(int(other), read)
      if pixels is not None:
        return pixels
    name = self._encoded.name(number)
    raise images_lib.BadImage(
      f'{name} is not a readable image, and neither is any other image of its class'
    )

  def _read(
    self, number: int, read: Callable[[images_lib.File, str], UInt8[np.ndarray, 'H W 3']]
  ) -> UInt8[np.ndarray, 'H W 3'] | None:
    """Returns the pixels, or None for an image that cannot be read and may be skipped."""
    if number in self.bad:
      return None
    try:
      return read(self._encoded.open(number), self._encoded.name(number))
    except ValueError as error:
      if self._on_bad_image == 'error':
        message = f"{error}; set data.on_bad_image to 'skip' to go on without it"
        raise images_lib.BadImage(message) from error
      self._note_bad(number, error)
      return None

  def _note_bad(self, number: int, error: ValueError) -> None:
    """Logs an image that cannot be read, once."""
    with self._lock:
      if number not in self.bad:
        self.bad.add(number)
        logging.warning('skipped: %s (%d so far)', error, len(self.bad))

  def close(self) -> None:
    """Drops the work that has not begun and waits for the rest."""
    self._pool.shutdown(cancel_futures=True)
