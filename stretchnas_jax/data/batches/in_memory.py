"""Feeds of images that all devices hold in memory."""

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, PRNGKeyArray, Shaped, UInt8

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.data.batches import augment, order
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.data.datasets.dataset import Dataset

_ALIGNMENT = 64  # bytes; XLA for a CPU copies arrays that lie at any other place


class Arrays(NamedTuple):
  """All images of a part, and the statistics that normalise them.

  Compiled programs take these as arguments. So one program serves every data set of one shape: the
  random images of a benchmark, and the real ones.

  Each image is one row of P = H * W * C bytes. A TPU keeps an array `[N, H, W, C]` in an order of
  axes that suits no gather: every step would first copy the whole data set.
  """

  images: UInt8[AnyArray, 'N P']
  labels: Int32[AnyArray, 'N']
  mean: Float32[AnyArray, 'C']
  std: Float32[AnyArray, 'C']


class ArrayFeed:
  """A `feeds.TrainingFeed` whose batches are indices into `Arrays`.

  The device gathers and augments the images.
  """

  def __init__(
    self,
    data: Arrays,
    image_shape: tuple[int, ...],
    fields: Mapping[str, Int[np.ndarray, '_']],
    batch_size: int,
    *,
    seed: int,
    process: tuple[int, int] = (0, 1),
    **augmentation: int | bool,
  ) -> None:
    """Prepares the batches and computes none yet.

    Args:
      data: all images.
      image_shape: `(H, W, C)` of one image.
      fields: for each field the indices of its images. An epoch is one pass over 'train'. It leaves
        out the last batch if that is smaller.
      batch_size: of the global batch.
      seed: of the order.
      process: number of this process, and how many there are.
      **augmentation: `crop_padding`, `flip` and `cutout` of `augment.augment`.

    Raises:
      ValueError: the batch does not divide by the number of processes.
    """
    self.data = data
    self._image_shape = image_shape
    self._order = order.EpochOrder(fields, batch_size, seed=seed)
    self.steps_per_epoch = self._order.steps_per_epoch
    self._fields = tuple(fields)
    self._rows = order.own_rows(batch_size, process)
    self._augment = functools.partial(augment.augment, **augmentation)

  def chunk(
    self, epoch: int, start: int, count: int, length: int
  ) -> dict[str, Int32[np.ndarray, 'length B']]:
    """Returns indices of the images of some steps; see `feeds.TrainingFeed.chunk`.

    Args:
      epoch: counted from 0.
      start: first step.
      count: number of steps.
      length: number of batches of the result.
    """
    rows = slice(start, start + count)
    return {
      field: _pad(self._order.batches(field, epoch)[rows, self._rows], length)
      for field in self._fields
    }

  def examples(
    self,
    data: Arrays,
    batch: Int32[AnyArray, 'B'],
    key: PRNGKeyArray,
    positions: Int[AnyArray, 'B'],
  ) -> Examples:
    """Returns augmented examples; see `feeds.TrainingFeed.examples`.

    Args:
      data: all images.
      batch: indices of images.
      key: of this step and field.
      positions: the position of each example in the global batch.
    """
    images = _take(data, batch, self._image_shape)
    images = self._augment(key, images, positions, mean=data.mean, std=data.std)
    return Examples(images, data.labels[batch])

  def close(self) -> None:
    """Does nothing, as nothing works ahead."""


class ArrayEvaluation:
  """A `feeds.EvaluationFeed` whose batches are indices into `Arrays`."""

  def __init__(
    self,
    data: Arrays,
    image_shape: tuple[int, ...],
    indices: Int[np.ndarray, '_'],
    batch_size: int,
    process: tuple[int, int] = (0, 1),
  ) -> None:
    """Divides the images into batches.

    Args:
      data: all images of the part.
      image_shape: `(H, W, C)` of one image.
      indices: the images that are used.
      batch_size: of the global batch.
      process: number of this process, and how many there are.
    """
    self.data = data
    self._image_shape = image_shape
    self.count = len(indices)
    self._indices = indices
    self._batch_size = batch_size
    self._own = order.own_rows(batch_size, process)
    self._divide(*order.evaluation_places(len(indices), batch_size))

  def _divide(self, places: Int32[np.ndarray, 'T B'], valid: Bool[np.ndarray, 'T B']) -> None:
    """Takes the places of the images of each batch, and the rows that count."""
    self._rows = self._indices[places].astype(np.int32)[:, self._own]
    self._valid = valid.astype(np.float32)[:, self._own]

  def mixed(self, count: int | None = None) -> 'ArrayEvaluation':
    """Returns a feed in a fixed shuffled order; see `feeds.EvaluationFeed.mixed`.

    Args:
      count: how many images count; None for all.
    """
    feed = copy.copy(self)
    places, valid = order.mixed_places(self.count, self._batch_size, count)
    feed.count = int(valid.sum())
    feed._divide(places, valid)
    return feed

  def chunks(
    self, length: int
  ) -> Iterator[tuple[Int32[np.ndarray, 'T B'], Float32[np.ndarray, 'T B']]]:
    """Yields indices of all images; see `feeds.EvaluationFeed.chunks`."""
    for start, size in order.even_chunks(len(self._rows), length):
      end = start + size
      yield _pad(self._rows[start:end], size), _pad(self._valid[start:end], size)

  def examples(self, data: Arrays, batch: Int32[AnyArray, 'B']) -> Examples:
    """Returns normalised examples; see `feeds.EvaluationFeed.examples`.

    Args:
      data: all images.
      batch: indices of images.
    """
    images = _take(data, batch, self._image_shape)
    images = augment.normalize(images, data.mean, data.std)
    return Examples(images, data.labels[batch])

  def close(self) -> None:
    """Does nothing, as nothing works ahead."""


class ArraySupply:
  """A `feeds.Supply` of a data set in memory."""

  def __init__(
    self,
    dataset: Dataset,
    batch_size: int,
    *,
    seed: int,
    process: tuple[int, int] = (0, 1),
    **augmentation: int | bool,
  ) -> None:
    """Takes the data set; each part is copied when a feed first needs it.

    Args:
      dataset: its images and labels.
      batch_size: of the global batch.
      seed: of the order.
      process: number of this process, and how many there are.
      **augmentation: `crop_padding`, `flip` and `cutout` of `augment.augment`.
    """
    self.name = dataset.name
    self.image_shape = dataset.train_images.shape[1:]
    self.class_names = dataset.class_names
    self.mean, self.std = dataset.mean, dataset.std
    self.train_labels = dataset.train_labels
    self.notes = dataset.notes
    self._dataset = dataset
    self._batch_size = batch_size
    self._seed = seed
    self._process = process
    self._augmentation = augmentation
    self._arrays: dict[str, Arrays] = {}

  def labels(self, part: str) -> Int32[np.ndarray, 'K'] | None:
    """Returns the labels of a part; see `feeds.Supply.labels`."""
    found = self._dataset.part(part)
    return None if found is None else found[1]

  def training(self, fields: Mapping[str, Int[np.ndarray, '_']]) -> ArrayFeed:
    """Returns a feed of the training images; see `feeds.Supply.training`."""
    return ArrayFeed(
      self._part('train'),
      self.image_shape,
      fields,
      self._batch_size,
      seed=self._seed,
      process=self._process,
      **self._augmentation,
    )

  def evaluation(
    self, part: str, indices: Int[np.ndarray, '_'] | None = None
  ) -> ArrayEvaluation | None:
    """Returns a feed of images of a part; see `feeds.Supply.evaluation`.

    Args:
      part: name of the part.
      indices: the images that are used; None for all.
    """
    if self._dataset.part(part) is None:
      return None
    data = self._part(part)
    if indices is None:
      indices = np.arange(len(data.labels))
    return ArrayEvaluation(data, self.image_shape, indices, self._batch_size, self._process)

  def _part(self, part: str) -> Arrays:
    """Returns one and the same `Arrays` for all feeds of a part, so that devices hold it once."""
    if part not in self._arrays:
      found = self._dataset.part(part)
      if found is None:
        raise ValueError(f'{self.name} has no part {part!r}')
      images, labels = found
      rows = _aligned(images).reshape(len(images), -1)
      self._arrays[part] = Arrays(rows, labels, self.mean, self.std)
    return self._arrays[part]


def _take(
  data: Arrays, batch: Int32[AnyArray, 'B'], image_shape: tuple[int, ...]
) -> UInt8[AnyArray, 'B H W C']:
  """Returns some of the images; `batch` has their indices."""
  return data.images[batch].reshape(len(batch), *image_shape)


def _pad(rows: Shaped[np.ndarray, 'T B'], length: int) -> Shaped[np.ndarray, 'length B']:
  """Appends rows of zeros up to a length."""
  return np.concatenate([rows, np.zeros((length - len(rows), *rows.shape[1:]), rows.dtype)])


def _aligned(images: UInt8[np.ndarray, 'N H W C']) -> UInt8[np.ndarray, 'N H W C']:
  """Returns a copy of the images that XLA for a CPU uses without a further copy."""
  room = np.empty(images.nbytes + _ALIGNMENT, np.uint8)
  start = -room.ctypes.data % _ALIGNMENT
  aligned = room[start : start + images.nbytes].reshape(images.shape)
  aligned[...] = images
  return aligned
