"""Feeds of image files that are read, decoded and cropped while the devices compute.

A batch depends on the seed of the run, the field, the epoch and the step. It depends on no number
of workers, devices or processes, and on no interruption. So a run resumes from its next step.

The host crops and flips the images. The device changes their colours and normalises them.
"""

import copy
import functools
from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Float64, Int, PRNGKeyArray, UInt8

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.data.batches import augment, color_jitter, crops, order
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.data.batches.stream_batches import BatchDecoder, Options, Pixels
from stretchnas_jax.data.datasets import decoding
from stretchnas_jax.data.datasets import images as images_lib
from stretchnas_jax.data.datasets.encoded import EncodedImages


class StreamFeed:
  """A `feeds.TrainingFeed` whose batches are `Pixels`.

  It decodes the steps that are asked for first. Then it decodes as many further steps as the next
  chunk may have. So it holds at most `3 * length` steps of `B * H * W * 3` bytes.

  With `on_bad_image='skip'` another image of the same class and part replaces an image that cannot
  be read. It is the next one by its number, and the first one follows the last one.

  Attributes:
    data: `()`.
    steps_per_epoch: the number of batches of an epoch.
    options: the `Options`.
  """

  data = ()

  def __init__(
    self,
    encoded: EncodedImages,
    fields: Mapping[str, Int[np.ndarray, '_']],
    batch_size: int,
    options: Options,
    *,
    seed: int,
  ) -> None:
    """Prepares the batches and reads no image yet.

    Args:
      encoded: the images.
      fields: for each field the sorted indices of its images. An epoch is one pass over 'train'. It
        leaves out the last batch if that is smaller.
      batch_size: of the global batch.
      options: how the images are treated.
      seed: of the order and of the crops.

    Raises:
      ValueError: the batch does not divide by the number of processes.
    """
    self._order = order.EpochOrder(fields, batch_size, seed=seed)
    self.steps_per_epoch = self._order.steps_per_epoch
    self.options = options
    self._fields = fields
    self._batch_size = batch_size
    self._seed = seed
    self._decoder = BatchDecoder(encoded, batch_size, options)
    # By the number of the step, counted over all epochs.
    self._begun: dict[int, dict[str, decoding.Work]] = {}

  def chunk(self, epoch: int, start: int, count: int, length: int) -> dict[str, Pixels]:
    """Returns the cropped images of some steps; see `feeds.TrainingFeed.chunk`.

    Args:
      epoch: counted from 0.
      start: first step.
      count: number of steps.
      length: number of batches of the result.
    """
    first = epoch * self.steps_per_epoch + start
    self._begin(range(first, first + count + length))
    begun = [self._begun[first + t] for t in range(count)]
    chunk = {
      field: self._decoder.collect([works[field] for works in begun], length)[0]
      for field in self._fields
    }
    for t in range(count):
      del self._begun[first + t]
    return chunk

  def _begin(self, steps: range) -> None:
    """Starts to decode these steps, counted over all epochs, and drops all others."""
    for step in set(self._begun) - set(steps):
      for work in self._begun.pop(step).values():
        work.cancel()
    for step in steps:
      if step not in self._begun:
        self._begun[step] = {field: self._start(field, step) for field in self._fields}

  def _start(self, field: str, step: int) -> decoding.Work:
    """Starts to decode the batch of a field at a step, counted over all epochs."""
    epoch, step = divmod(step, self.steps_per_epoch)
    draws = crops.random_numbers(
      self._batch_size, seed=self._seed, stream=field, epoch=epoch, step=step
    )
    own = self._decoder.rows
    return self._decoder.start(
      self._order.batches(field, epoch)[step][own],
      functools.partial(self._read, draws[own]),
      functools.partial(self._decoder.substitutes, self._fields[field]),
    )

  def _read(
    self, draws: Float64[np.ndarray, 'B D'], place: int, file: images_lib.File, name: str
  ) -> UInt8[np.ndarray, 'H W 3']:
    """Reads a random crop of an image; the draws of its place in the batch decide about it."""
    options = self.options
    return crops.read_random(
      file,
      draws[place],
      options.image_size,
      name=name,
      scale=options.scale,
      ratio=options.ratio,
      flip=options.flip,
      value_range=options.value_range,
    )

  def examples(
    self, data: tuple[()], batch: Pixels, key: PRNGKeyArray, positions: Int[AnyArray, 'B']
  ) -> Examples:
    """Returns augmented examples; see `feeds.TrainingFeed.examples`.

    Args:
      data: `()`.
      batch: cropped images.
      key: of this step and field.
      positions: the position of each example in the global batch.
    """
    images, options = batch.images, self.options
    if options.jitter and any(options.jitter):
      channels = images.shape[-1]
      if channels == 1:  # equal colours stay equal, and become brighter or darker
        images = jnp.repeat(images, 3, axis=-1)
      images = color_jitter.color_jitter(key, images, positions, options.jitter)[..., :channels]
    images = augment.normalize(images, options.mean, options.std)
    if options.cutout:
      images = augment.cut_out_each(key, images, positions, options.cutout)
    return Examples(images, batch.labels)

  def close(self) -> None:
    """Stops the threads that decode."""
    self._decoder.close()


class StreamEvaluation:
  """A `feeds.EvaluationFeed` whose batches are `Pixels`: the centre of each image.

  With `on_bad_image='skip'` an image that cannot be read is not valid.

  Attributes:
    data: `()`.
    count: number of images.
  """

  data = ()

  def __init__(
    self, encoded: EncodedImages, indices: Int[np.ndarray, '_'], batch_size: int, options: Options
  ) -> None:
    """Divides the images into batches and reads none yet.

    Args:
      encoded: the images of the part.
      indices: the images that are used.
      batch_size: of the global batch.
      options: how the images are treated.

    Raises:
      ValueError: the batch does not divide by the number of processes.
    """
    self.count = len(indices)
    self._options = options
    self._indices = indices
    self._batch_size = batch_size
    self._decoder = BatchDecoder(encoded, batch_size, options)
    self._places, self._valid = order.evaluation_places(self.count, batch_size)
    self._filled = self._valid

  def mixed(self, count: int | None = None) -> 'StreamEvaluation':
    """Returns a feed in a fixed shuffled order; see `feeds.EvaluationFeed.mixed`.

    Args:
      count: how many images count; None for all.
    """
    feed = copy.copy(self)
    feed._places, feed._valid = order.mixed_places(self.count, self._batch_size, count)
    feed._filled, feed.count = np.ones_like(feed._valid), int(feed._valid.sum())
    return feed

  def chunks(self, length: int) -> Iterator[tuple[Pixels, Float32[np.ndarray, 'T B']]]:
    """Yields the centres of all images; see `feeds.EvaluationFeed.chunks`.

    Raises:
      BadImage: an image cannot be read; not with 'skip'.
    """
    begun: dict[int, decoding.Work] = {}
    num_batches = len(self._places)
    try:
      for start, size in order.even_chunks(num_batches, length):
        # This chunk and the next one.
        for step in range(start, min(start + 2 * size, num_batches)):
          if step not in begun:
            begun[step] = self._start(step)
        works = [begun.pop(step) for step in range(start, min(start + size, num_batches))]
        pixels, readable = self._decoder.collect(works, size)
        readable[: len(works)] *= self._valid[start : start + size, self._decoder.rows]
        yield pixels, readable
    finally:
      for work in begun.values():
        work.cancel()

  def _start(self, step: int) -> decoding.Work:
    """Starts to decode a batch; only its first rows may hold images."""
    own = self._decoder.rows
    places = self._places[step][own][self._filled[step][own]]
    return self._decoder.start(self._indices[places], self._read)

  def _read(self, place: int, file: images_lib.File, name: str) -> UInt8[np.ndarray, 'H W 3']:
    """Reads the centre of an image, which does not depend on its place in the batch."""
    del place
    own = self._options
    return crops.read_center(file, own.image_size, name=name, value_range=own.value_range)

  def examples(self, data: tuple[()], batch: Pixels) -> Examples:
    """Returns normalised examples; see `feeds.EvaluationFeed.examples`.

    Args:
      data: `()`.
      batch: centres of images.
    """
    images = augment.normalize(batch.images, self._options.mean, self._options.std)
    return Examples(images, batch.labels)

  def close(self) -> None:
    """Stops the threads that decode."""
    self._decoder.close()
