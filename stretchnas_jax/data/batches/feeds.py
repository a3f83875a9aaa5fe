"""The contract between a program and its images: feeds for training and feeds for evaluation.

A program knows nothing else about its data. Two kinds of feeds keep the contract: `in_memory` holds
all images on the devices, and `streaming` reads image files while the devices compute.

Shapes in this package: `N` images, `B` rows of a batch, `T` batches of a chunk. A batch size counts
the rows of the global batch. `B` counts the rows of this process: process `i` has the rows `i * B`
to `(i + 1) * B`. A chunk holds several batches. A step takes one of them, and splits its rows among
the devices of the process.

A search trains on the fields 'train', 'val_alpha' and 'val_beta'. Where alpha and beta learn from
the same images, the field 'val_beta' is missing. A training has the field 'train' alone, and so has
a search in which all learn from the same images.
"""

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Int32, PRNGKeyArray, PyTree

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.data.datasets import splits

_SHOWN_CLASSES = 5  # classes with too few images that are named


@runtime_checkable
class TrainingFeed(Protocol):
  """Gives the batches of every epoch.

  Attributes:
    data: a pytree that is placed on every device once, for example all images. It is `()` where
      the batches hold everything.
    steps_per_epoch: the number of batches of an epoch.
  """

  data: PyTree
  steps_per_epoch: int

  def chunk(self, epoch: int, start: int, count: int, length: int) -> dict[str, PyTree]:
    """Returns the batches of steps `start` to `start + count` of an epoch.

    The result depends on the arguments and on the seed of the run, and on nothing else. So a run
    resumes without any saved state. Steps are asked for in order, and a feed may work ahead.

    Args:
      epoch: counted from 0.
      start: first step, counted from 0 in each epoch.
      count: number of steps.
      length: number of batches of the result. The batches after `count` are zeros.

    Returns:
      For each field a pytree of NumPy arrays `[length, B, ...]`.
    """
    ...

  def examples(
    self, data: PyTree, batch: PyTree, key: PRNGKeyArray, positions: Int[AnyArray, 'B']
  ) -> Examples:
    """Returns the augmented examples of one batch; runs on the device, under jit.

    Args:
      data: the attribute `data`, on the device.
      batch: one batch `[B, ...]` of one field of a chunk.
      key: key of this step and field.
      positions: the position of each example in the global batch.
    """
    ...

  def close(self) -> None:
    """Stops the work on later batches; the feed is not used afterwards."""
    ...


@runtime_checkable
class EvaluationFeed(Protocol):
  """Gives every image of a part once.

  Attributes:
    data: as for `TrainingFeed`.
    count: number of images.
  """

  data: PyTree
  count: int

  def chunks(self, length: int) -> Iterator[tuple[PyTree, Float32[np.ndarray, 'T B']]]:
    """Yields all batches in chunks of one shape.

    Args:
      length: largest number of batches of a chunk.

    Yields:
      A pytree of NumPy arrays `[T, B, ...]`, and 1 for each row that holds an image, else 0.
    """
    ...

  def examples(self, data: PyTree, batch: PyTree) -> Examples:
    """Returns the examples of one batch; runs on the device, under jit.

    Args:
      data: the attribute `data`, on the device.
      batch: one batch `[B, ...]` of a chunk.
    """
    ...

  def mixed(self, count: int | None = None) -> 'EvaluationFeed':
    """Returns a feed of the same images in a fixed shuffled order; see `order.mixed_places`.

    It shares the threads of this feed. So only this feed is closed.

    Args:
      count: how many images count, drawn at random; None for all.
    """
    ...

  def close(self) -> None:
    """Stops the work on later batches; the feed is not used afterwards."""
    ...


class Feeds(NamedTuple):
  """All feeds of one program, and a description of its data set."""

  name: str
  """Name of the data set."""
  image_shape: tuple[int, int, int]
  """Height, width and channels of the images that the network sees."""
  class_names: tuple[str, ...]
  mean: Float32[np.ndarray, 'C']
  """Mean of each channel, for images scaled to 0..1."""
  std: Float32[np.ndarray, 'C']
  """Standard deviation of each channel, for images scaled to 0..1."""
  sizes: dict[str, int]
  """Number of images of each part."""
  train: TrainingFeed
  val: EvaluationFeed | None
  test: EvaluationFeed | None
  fingerprint: Mapping[str, Any] = {}
  """Facts that change whenever a batch would change, see `datasets.fingerprints`."""
  class_counts: Mapping[str, tuple[int, ...]] = types.MappingProxyType({})
  """For each part the number of images of each class, in the order of `class_names`."""
  warnings: tuple[str, ...] = ()
  """Sentences for a person about files that are passed over, and classes that are too small."""

  def close(self) -> None:
    """Closes every feed."""
    for feed in (self.train, self.val, self.test):
      if feed is not None:
        feed.close()


@runtime_checkable
class Supply(Protocol):
  """Makes the feeds of one data set, for one batch size and one seed.

  `in_memory.ArraySupply` and `stream_supply.StreamSupply` are the two kinds. The attributes are as
  for `Feeds`; `notes` are sentences for a person about what was passed over. A part of a data set
  is called 'train', 'val' or 'test'.
  """

  name: str
  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...]
  mean: Float32[np.ndarray, 'C']
  std: Float32[np.ndarray, 'C']
  train_labels: Int32[np.ndarray, 'N']
  notes: tuple[str, ...]

  def labels(self, part: str) -> Int32[np.ndarray, 'K'] | None:
    """Returns the labels of 'train', 'val' or 'test', or None if there is no such part."""
    ...

  def training(self, fields: Mapping[str, Int32[np.ndarray, '_']]) -> TrainingFeed:
    """Returns a feed of the training images.

    Args:
      fields: for each field the sorted indices of its images. An epoch is one pass over 'train'.
    """
    ...

  def evaluation(
    self, part: str, indices: Int32[np.ndarray, '_'] | None = None
  ) -> EvaluationFeed | None:
    """Returns a feed of the images of a part, or None if the data set has no such part.

    Args:
      part: name of the part.
      indices: the images that are used, in this order; None for all.
    """
    ...


def search_feeds(supply: Supply, parts: splits.Parts, split: str = 'three_way') -> Feeds:
  """Builds the feeds of a search, which is evaluated on the images of alpha and beta.

  Args:
    supply: of the data set.
    parts: the training images that each field uses.
    split: the split that made them.
  """
  fields = parts.fields(split)
  validation = np.unique(np.concatenate([parts.val_alpha, parts.val_beta]))
  labels = {name: supply.train_labels[part] for name, part in fields.items()}
  return _feeds(supply, fields, labels, val=supply.evaluation('train', validation), test=None)


def train_feeds(supply: Supply, *, fraction: float, holdout: float) -> Feeds:
  """Builds the feeds of a training, which is evaluated on validation and on test images.

  The validation images are the part 'val'. Without it they are a part of the training images.

  Args:
    supply: of the data set.
    fraction: the part of the training images that is used.
    holdout: the part of these that is kept for validation. It is the same for every seed.

  Raises:
    ValueError: the data set has validation images, and `holdout` asks for more.
  """
  train, held_out = splits.hold_out(supply.train_labels, fraction=fraction, holdout=holdout)
  val, test = supply.evaluation('val'), supply.evaluation('test')
  if val is not None and holdout:
    raise ValueError(
      f'config.data.holdout is {holdout:g}; it must be 0, because {supply.name} has validation '
      'images of its own'
    )
  labels = {part: supply.labels(part) for part in ('train', 'val', 'test')}
  labels['train'] = supply.train_labels[train]
  if len(held_out):
    val = supply.evaluation('train', held_out)
    labels['val'] = supply.train_labels[held_out]
  found = {part: own for part, own in labels.items() if own is not None}
  return _feeds(supply, {'train': train}, found, val=val, test=test)


def _feeds(
  supply: Supply,
  fields: Mapping[str, Int32[np.ndarray, '_']],
  labels: Mapping[str, Int32[np.ndarray, '_']],
  *,
  val: EvaluationFeed | None,
  test: EvaluationFeed | None,
) -> Feeds:
  """Builds `Feeds` with a training feed of the given fields, and the labels of each part."""
  num_classes = len(supply.class_names)
  counts = {
    part: tuple(np.bincount(own, minlength=num_classes).tolist()) for part, own in labels.items()
  }
  return Feeds(
    name=supply.name,
    image_shape=supply.image_shape,
    class_names=supply.class_names,
    mean=supply.mean,
    std=supply.std,
    sizes={part: len(own) for part, own in labels.items()},
    train=supply.training(fields),
    val=val,
    test=test,
    class_counts=counts,
    warnings=(*supply.notes, *_missing_classes(supply.class_names, counts)),
  )


def _missing_classes(
  class_names: Sequence[str], counts: Mapping[str, Sequence[int]]
) -> Iterator[str]:
  """Yields a sentence for each class without an image in some part; many are one sentence."""
  missing = {
    name: [part for part, numbers in counts.items() if not numbers[i]]
    for i, name in enumerate(class_names)
  }
  missing = {name: parts for name, parts in missing.items() if parts}
  for name, parts in list(missing.items())[:_SHOWN_CLASSES]:
    i = class_names.index(name)
    own = ', '.join(f'{numbers[i]} in {part}' for part, numbers in counts.items() if numbers[i])
    yield f'class {name!r} has no image in {" and ".join(parts)}; it has {own or "none at all"}'
  if len(missing) > _SHOWN_CLASSES:
    yield f'{len(missing) - _SHOWN_CLASSES} more classes have no image in some part'
