"""Many images decoded at once, ahead of the time when they are needed.

The workers are threads: Pillow lets go of the interpreter while it decodes and scales, so that they
do run side by side, and there are no processes to start, to feed, to copy from or to lose.
"""

import concurrent.futures
import functools
import logging
import os
import threading

import numpy as np

from stretchnas_jax.data.datasets import images as images_lib

GROUP = 8  # images of one task: many enough to hide its cost, few enough to keep all workers busy


class Decoder:
  """Decodes images of one part of a data set with several workers.

  Attributes:
    bad: the numbers of the images that could not be read so far.
  """

  def __init__(self, encoded, *, workers=0, on_bad_image='error'):
    """Starts nothing yet.

    Args:
      encoded: `encoded.Files` or `encoded.Records`.
      workers: number of threads; 0 for one per core that this process may use.
      on_bad_image: 'error', or 'skip' to do without images that cannot be read.
    """
    self.encoded, self.on_bad_image, self.bad = encoded, on_bad_image, set()
    self._lock = threading.Lock()
    self._pool = concurrent.futures.ThreadPoolExecutor(workers or num_cores(), 'decode')

  def start(self, rows, read, size, instead_of=None):
    """Begins to decode a batch.

    Args:
      rows: numbers `[B]` of images.
      read: `(place, file, name) -> uint8 [size, size, 3]`, where `place` is 0 .. B - 1.
      size: side of the results.
      instead_of: `number -> numbers` that may serve in place of an image that cannot be read, in
        the order in which they are tried. None: it is left black.

    Returns:
      A `Work`.
    """
    images = np.zeros((len(rows), size, size, 3), np.uint8)
    readable = np.ones(len(rows), bool)

    def decode(places):
      for place in places:
        pixels = self._first_readable(rows[place], functools.partial(read, place), instead_of)
        readable[place] = pixels is not None
        if pixels is not None:
          images[place] = pixels

    groups = [range(i, min(i + GROUP, len(rows))) for i in range(0, len(rows), GROUP)]
    return Work(images, readable, [self._pool.submit(decode, group) for group in groups])

  def _first_readable(self, number, read, instead_of):
    pixels = self._read(number, read)
    if pixels is not None or instead_of is None:
      return pixels
    for other in instead_of(number):
      pixels = self._read(other, read)
      if pixels is not None:
        return pixels
    raise images_lib.BadImage(
      f'{self.encoded.name(number)} is not a readable image, nor is any other of its class'
    )

  def _read(self, number, read):
    """The pixels, or None for an image that cannot be read and may be skipped."""
    if number in self.bad:
      return None
    try:
      return read(self.encoded.open(number), self.encoded.name(number))
    except ValueError as error:
      if self.on_bad_image == 'error':
        raise images_lib.BadImage(
          f"{error}; set data.on_bad_image to 'skip' to do without it"
        ) from error
      with self._lock:
        if number not in self.bad:
          self.bad.add(number)
          logging.warning('skipped: %s (%d so far)', error, len(self.bad))
      return None

  def close(self):
    """Drops what has not begun and waits for what has: a moment."""
    self._pool.shutdown(cancel_futures=True)


class Work:
  """A batch that is being decoded."""

  def __init__(self, images, readable, tasks):
    self._images, self._readable, self._tasks = images, readable, tasks

  def result(self):
    """Waits; uint8 `[B, S, S, 3]` and bool `[B]`, False where an image was left black.

    Raises:
      BadImage: names the first image that cannot be read.
    """
    for task in self._tasks:
      task.result()
    return self._images, self._readable

  def cancel(self):
    for task in self._tasks:
      task.cancel()


def num_cores():
  """How many cores this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
