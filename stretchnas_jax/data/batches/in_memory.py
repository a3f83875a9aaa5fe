"""Where batches come from, behind one interface: arrays that live on the devices, or a stream.

Programs know of their data only what stands here. A feed of learning is any object that has

    data               pytree, put on every device once; () where the batches carry everything
    steps_per_epoch    how many batches an epoch has
    chunk(epoch, start, count, length)
                       steps `start .. start + count` of an epoch as {field: pytree of numpy arrays
                       [length, B, ...]}, filled up with zeros from `count` to `length`. A function
                       of its arguments and the run's seed alone: to resume needs no state. It is
                       asked for in order, and may work ahead.
    examples(data, part, key, place)
                       the Examples of one batch, on the device, jittable; `part` is `[B, ...]` of
                       one field, `place` `[B]` the examples' positions in the global batch
    close()            stops what works ahead; nothing is asked for afterwards

and a feed of evaluation, that gives every image of a part once, has

    data               as above
    count              number of images
    chunks(length)     yields (part, valid) of at most `length` batches, `[n, B, ...]` and float32
                       `[n, B]`, all of one shape; valid is 0 where a batch is filled up
    examples(data, part)
                       the Examples of one batch, on the device, jittable
    close()

The fields of learning are 'train', and in a search also 'val_alpha' and 'val_beta'. B is the share
of this process: rows `i * B .. (i + 1) * B` of the global batch for process i. What is compiled
splits axis 1 of a chunk over the process's devices, one step at a time.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from stretchnas_jax.data.batches import augment
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.data.datasets import splits


class Feeds(NamedTuple):
  """All that a program learns from and is measured on."""

  name: str  # of the data set
  image_shape: tuple[int, int, int]  # (H, W, C) of what the network is given
  class_names: tuple[str, ...]
  mean: np.ndarray  # float32 [C], of images scaled to 0..1
  std: np.ndarray  # float32 [C]
  sizes: dict[str, int]  # number of images of each part
  train: Any
  val: Any  # feed of evaluation, or None
  test: Any  # likewise

  def close(self):
    for feed in (self.train, self.val, self.test):
      if feed is not None:
        feed.close()


class Arrays(NamedTuple):
  """Images in memory, on every device, and the numbers that normalise them.

  Those are arguments of what is compiled, not constants in it, so that one program serves every
  data set of a shape: the benchmark's random images and a search on the user's own.
  """

  images: jax.Array  # [N, H, W, C], uint8
  labels: jax.Array  # [N], int32
  mean: jax.Array  # [C], float32, of images scaled to 0..1
  std: jax.Array  # [C], likewise


class ArrayFeed:
  """Batches of learning as rows of indices into `Arrays`, gathered and augmented on the device."""

  def __init__(
    self,
    data: Arrays,
    parts: dict[str, np.ndarray],
    batch_size: int,
    *,
    seed: int,
    augment: Callable,
    process: tuple[int, int] = (0, 1),
  ):
    """Takes what an epoch is made of.

    Args:
      data: all images.
      parts: `{field: indices}`; an epoch is one pass over 'train', without its last, smaller batch.
      batch_size: of the global batch.
      seed: of the order.
      augment: `(key, images, positions, mean=, std=) -> images`, as `augment.augment`.
      process: number of this process, and how many there are.

    Raises:
      ValueError: the batch does not divide by the number of processes.
    """
    self._own = own_rows(batch_size, *process)
    self.data, self.parts, self.batch_size = data, parts, batch_size
    self.seed, self.augment = seed, augment
    self.steps_per_epoch = len(parts['train']) // batch_size
    self._epoch, self._batches = None, {}

  def chunk(self, epoch, start, count, length):
    if epoch != self._epoch:
      self._epoch, self._batches = epoch, self._order(epoch)
    cut = lambda rows: fill_up(rows[start : start + count, self._own], length)
    return {field: cut(rows) for field, rows in self._batches.items()}

  def _order(self, epoch):
    return {
      field: splits.epoch_indices(
        part, self.batch_size, self.steps_per_epoch, seed=self.seed, epoch=epoch, stream=field
      )
      for field, part in self.parts.items()
    }

  def examples(self, data, part, key, place):
    images = self.augment(key, data.images[part], place, mean=data.mean, std=data.std)
    return Examples(images, data.labels[part])

  def close(self):
    """Nothing works ahead."""


class ArrayEvaluation:
  """Every image of a part once, normalised on the device."""

  def __init__(self, data: Arrays, indices, batch_size, process=(0, 1)):
    self.data, self.count = data, len(indices)
    own = own_rows(batch_size, *process)
    places, valid = splits.eval_batches(len(indices), batch_size)
    rows = np.asarray(indices)[places].astype(np.int32)
    self._rows, self._valid = rows[:, own], np.float32(valid)[:, own]

  def chunks(self, length):
    for start, size in even_chunks(len(self._rows), length):
      end = start + size
      yield fill_up(self._rows[start:end], size), fill_up(self._valid[start:end], size)

  def examples(self, data, part):
    images = augment.normalize(data.images[part], data.mean, data.std)
    return Examples(images, data.labels[part])

  def close(self):
    """Nothing works ahead."""


def own_rows(batch_size, index, count):
  """The rows of the global batch that process `index` of `count` has, as a slice."""
  own, rest = divmod(batch_size, count)
  if rest:
    raise ValueError(
      f'the batch size is {batch_size}; it must be a multiple of the {count} processes'
    )
  return slice(index * own, (index + 1) * own)


def fill_up(rows, length):
  """`[count, ...] -> [length, ...]`, with zeros at the end."""
  return np.concatenate([rows, np.zeros((length - len(rows), *rows.shape[1:]), rows.dtype)])


def even_chunks(total, most):
  """(start, size) of the fewest chunks of one size, at most `most`, that cover `total`."""
  number = max(-(-total // most), 1)
  size = -(-total // number)
  return [(i * size, size) for i in range(number)]


def in_place(images):
  """The same images where XLA for a CPU reads them as they lie, at a multiple of 64 bytes.

  From any other place it copies them: 0.15 GB for CIFAR-10, as long as the run lasts.
  """
  room = np.empty(images.nbytes + 64, np.uint8)
  start = -room.ctypes.data % 64
  placed = room[start : start + images.nbytes].view(images.dtype).reshape(images.shape)
  placed[...] = images
  return placed


def search_feeds(dataset, parts, batch_size, *, seed, process=(0, 1), **augmentation):
  """Feeds of a search on a data set in memory.

  Args:
    dataset: a `sources.Dataset`.
    parts: `splits.Parts`; where alpha and beta share a part, only 'val_alpha' is a field.
    batch_size: of the global batch.
    seed: of the order.
    process: number of this process, and how many there are.
    **augmentation: `crop_padding`, `flip` and `cutout` of `augment.augment`.
  """
  data = arrays_of(dataset, dataset.train_images, dataset.train_labels)
  fields = parts._asdict()
  if parts.val_beta is parts.val_alpha:
    del fields['val_beta']
  validation = np.unique(np.concatenate([parts.val_alpha, parts.val_beta]))
  val = ArrayEvaluation(data, validation, batch_size, process)
  return make_feeds(dataset, data, fields, batch_size, seed, augmentation, process, val=val)


def train_feeds(dataset, batch_size, *, fraction, holdout, seed, process=(0, 1), **augmentation):
  """Feeds of a training on a data set in memory; arguments as of `search_feeds`.

  Args:
    dataset: a `sources.Dataset`.
    batch_size: of the global batch.
    fraction: the part of the training images that is used at all.
    holdout: the part of these that is kept apart for validation: the same images for every seed.
    seed: of the order.
    process: number of this process, and how many there are.
    **augmentation: `crop_padding`, `flip` and `cutout` of `augment.augment`.
  """
  data = arrays_of(dataset, dataset.train_images, dataset.train_labels)
  train, validation = splits.hold_out(dataset.train_labels, fraction=fraction, holdout=holdout)
  val = test = None
  if len(validation):
    val = ArrayEvaluation(data, validation, batch_size, process)
  if dataset.test_images is not None:
    images = arrays_of(dataset, dataset.test_images, dataset.test_labels)
    test = ArrayEvaluation(images, np.arange(len(images.labels)), batch_size, process)
  fields = {'train': train}
  return make_feeds(
    dataset, data, fields, batch_size, seed, augmentation, process, val=val, test=test
  )


def arrays_of(dataset, images, labels):
  return Arrays(in_place(images), labels, dataset.mean, dataset.std)


def make_feeds(
  dataset, data, parts, batch_size, seed, augmentation, process, *, val=None, test=None
):
  draw = functools.partial(augment.augment, **augmentation)
  train = ArrayFeed(data, parts, batch_size, seed=seed, augment=draw, process=process)
  sizes = {name: len(part) for name, part in parts.items()}
  measured = {'val': val, 'test': test} if 'val_alpha' not in parts else {}
  sizes |= {name: feed.count for name, feed in measured.items() if feed is not None}
  return Feeds(
    dataset.name, dataset.train_images.shape[1:], dataset.class_names, dataset.mean, dataset.std,
    sizes, train, val, test,
  )  # fmt: skip
