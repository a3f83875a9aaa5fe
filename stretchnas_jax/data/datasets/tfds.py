"""Reads data sets that TFDS has prepared as array_record, without TensorFlow."""

import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from stretchnas_jax.machine import disk_cache

if TYPE_CHECKING:  # slow to import
  from tensorflow_datasets.core import DatasetBuilder

_FORMAT = 1  # version of the cached arrays
_BLOCK = 256  # records that are read at once where only their labels are needed


@runtime_checkable
class RecordSource(Protocol):
  """Random access to the N examples of a split."""

  def __len__(self) -> int:
    """Returns N."""
    ...

  def __getitem__(self, i: int) -> dict[str, Any]:
    """Returns example `i`."""
    ...

  def __getitems__(self, numbers: list[int]) -> Iterable[dict[str, Any]]:
    """Returns several examples, which is faster than one by one."""
    ...


def load(
  name: str,
  *,
  data_dir: str | os.PathLike | None = None,
  cache: str | os.PathLike | None = None,
) -> dict[str, np.ndarray]:
  """Reads a prepared data set of classified images; downloads and prepares nothing.

  Args:
    name: of the data set in TFDS.
    data_dir: where it is prepared; None is TFDS' default folder.
    cache: a folder for the decoded images; None is the user's cache folder.

  Returns:
    Arrays `train_images`, `train_labels`, `test_images` and `test_labels`.

  Raises:
    FileNotFoundError: it is not prepared there; the message says how to prepare it.
  """
  import tensorflow_datasets  # slow to import, and only a few runs need it

  builder = tensorflow_datasets.builder(name, data_dir=data_dir)
  sources = {
    part: _open_split(builder, part, 'a copy of the files as published')
    for part in ('train', 'test')
  }

  def make() -> dict[str, np.ndarray]:
    """Decodes all images."""
    return _read_split('train', sources['train']) | _read_split('test', sources['test'])

  info = os.path.join(builder.data_dir, 'dataset_info.json')
  if not os.path.exists(info):  # TFDS is mocked, and its random images must not stay
    return make()
  entry = f'{name}-{disk_cache.digest(builder.data_dir)}'
  return disk_cache.cached(entry, _key(builder), make, cache)


def open_records(
  name: str,
  split: str,
  *,
  data_dir: str | os.PathLike | None = None,
  cache: str | os.PathLike | None = None,
) -> tuple[RecordSource, Int32[np.ndarray, 'N'], tuple[str, ...]]:
  """Opens a split of a data set that is too large for memory.

  Args:
    name: of the data set in TFDS.
    split: of the data set.
    data_dir: where it is prepared; None is TFDS' default folder.
    cache: a folder for the labels, for which every record is read once; None is the user's cache
      folder.

  Returns:
    The examples, their labels, and the names of the classes. The 'image' of an example is the bytes
    of an image file.

  Raises:
    FileNotFoundError: it is not prepared there; the message says how to prepare it.
  """
  import tensorflow_datasets  # slow to import, and only a few runs need it

  builder = tensorflow_datasets.builder(name, data_dir=data_dir)
  skip = tensorflow_datasets.decode.SkipDecoding()
  source = _open_split(builder, split, 'class folders of images', decoders={'image': skip})

  def make() -> dict[str, np.ndarray]:
    """Reads all labels."""
    return {'labels': _read_labels(name, split, source)}

  entry = f'{name}-{split}-labels-{disk_cache.digest(builder.data_dir)}'
  labels = disk_cache.cached(entry, _key(builder), make, cache)['labels']
  return source, labels, tuple(builder.info.features['label'].names)


def _open_split(
  builder: 'DatasetBuilder', split: str, instead: str, **options: Any
) -> RecordSource:
  """Returns random access to the examples of a split.

  Args:
    builder: of the data set.
    split: name of the split.
    instead: another kind of files that data.path may name, for the message.
    **options: of `as_data_source`.

  Raises:
    FileNotFoundError: the split is not prepared as array_record.
  """
  try:
    source: Any = builder.as_data_source(split=split, **options)
    return source
  except Exception as error:  # its type depends on the part that is missing
    place = f'in {builder.data_dir}'
    if not builder.info.splits:
      problem = f'is not prepared {place}'
    elif split not in builder.info.splits:
      problem = f'is prepared {place} without its split {split!r}'
    else:
      problem = f'is prepared {place} as {builder.info.file_format.value}, not as array_record'
    raise FileNotFoundError(
      f'{builder.name} {problem}: run once, with a network, `pip install "stretchnas_jax[tf]"` and '
      f'`tfds build {builder.name} --file_format=array_record`, or set data.path to {instead}'
    ) from error


def _key(builder: 'DatasetBuilder') -> str:
  """Returns a text that changes when the data set is prepared again."""
  info = os.path.join(builder.data_dir, 'dataset_info.json')
  return disk_cache.digest(_FORMAT, builder.data_dir, os.stat(info).st_mtime_ns)


def _read_split(part: str, source: RecordSource) -> dict[str, np.ndarray]:
  """Reads the images and labels of one part.

  Args:
    part: 'train' or 'test', for the names of the arrays.
    source: all examples of the part.
  """
  examples = [source[i] for i in range(len(source))]
  return {
    f'{part}_images': np.stack([example['image'] for example in examples]),
    f'{part}_labels': np.array([example['label'] for example in examples]).astype(np.int32),
  }


def _read_labels(name: str, split: str, source: RecordSource) -> Int32[np.ndarray, 'N']:
  """Reads all records in their order, and returns their labels.

  Args:
    name: of the data set, for the log.
    split: of the data set, for the log.
    source: all examples of the split.
  """
  logging.info('reading the %d labels of %s (%s), once', len(source), name, split)
  blocks = [range(i, min(i + _BLOCK, len(source))) for i in range(0, len(source), _BLOCK)]
  labels = [example['label'] for block in blocks for example in source.__getitems__(list(block))]
  return np.array(labels, np.int32)
