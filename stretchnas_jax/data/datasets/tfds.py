"""Reads data sets that TFDS has prepared as array_record, without TensorFlow."""

import logging
import os
import types
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from stretchnas_jax.data.datasets import images, tfds_sets
from stretchnas_jax.machine import disk_cache

if TYPE_CHECKING:  # slow to import
  from tensorflow_datasets.core import DatasetBuilder

_FORMAT = 2  # version of the cached arrays
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
  splits: Mapping[str, str] = types.MappingProxyType({'train': 'train', 'test': 'test'}),
  image_size: images.Size | None = None,
  value_range: images.Range | None = None,
  instead: str = 'a copy of the files as published',
) -> dict[str, np.ndarray]:
  """Reads a prepared data set of classified images; downloads and prepares nothing.

  Args:
    name: of the data set in TFDS.
    data_dir: where it is prepared; None is TFDS' default folder.
    cache: a folder for the decoded images; None is the user's cache folder.
    splits: for each part the split of TFDS.
    image_size: to which all images are scaled; None leaves them as they are.
    value_range: the values of black and white in images of other numbers than bytes.
    instead: another kind of files that data.path may name, for the message.

  Returns:
    Arrays such as `train_images` and `train_labels`, for each part.

  Raises:
    FileNotFoundError: it is not prepared there; the message says how to prepare it.
    ValueError: it has no classified images, or they have many sizes and `image_size` is missing.
  """
  builder = tfds_sets.find_builder(name, data_dir)
  keys = tfds_sets.keys_of(builder)
  sources = {part: _open_split(builder, split, instead) for part, split in splits.items()}
  size = image_size if image_size is None else images.height_and_width(image_size)
  if size is None and None in builder.info.features[keys.image].shape:
    raise ValueError(f'tfds:{name} has images of many sizes: set data.image_size')

  def make() -> dict[str, np.ndarray]:
    """Decodes all images."""
    found: dict[str, np.ndarray] = {}
    for part, source in sources.items():
      found |= _read_split(part, source, keys, size, value_range)
    return found

  info = os.path.join(builder.data_dir, 'dataset_info.json')
  if not os.path.exists(info):  # TFDS is mocked, and its random images must not stay
    return make()
  entry = f'{builder.name}-{disk_cache.digest(builder.data_dir, size)}'
  key = disk_cache.digest(_key(builder), size, value_range, sorted(splits.items()))
  return disk_cache.cached(entry, key, make, cache)


def open_records(
  name: str,
  split: str,
  *,
  data_dir: str | os.PathLike | None = None,
  cache: str | os.PathLike | None = None,
) -> tuple[RecordSource, Int32[np.ndarray, 'N'], tfds_sets.Keys]:
  """Opens a split of a data set that is too large for memory.

  Args:
    name: of the data set in TFDS.
    split: of the data set.
    data_dir: where it is prepared; None is TFDS' default folder.
    cache: a folder for the labels, for which every record is read once; None is the user's cache
      folder.

  Returns:
    The examples, their labels, and the names of their features. The image of an example is the
    bytes of an image file.

  Raises:
    FileNotFoundError: it is not prepared there; the message says how to prepare it.
  """
  import tensorflow_datasets  # slow to import, and only a few runs need it

  builder = tfds_sets.find_builder(name, data_dir)
  keys = tfds_sets.keys_of(builder)
  decoders = {keys.image: tensorflow_datasets.decode.SkipDecoding()}
  source = _open_split(builder, split, 'class folders of images', decoders=decoders)

  def make() -> dict[str, np.ndarray]:
    """Reads all labels."""
    return {'labels': _read_labels(f'{name} ({split})', source, keys.label)}

  entry = f'{builder.name}-{split}-labels-{disk_cache.digest(builder.data_dir)}'
  labels = disk_cache.cached(entry, _key(builder), make, cache)['labels']
  return source, labels, keys


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
  """Returns a text that changes when a file of the prepared data set is another one."""
  facts: list[object] = [_FORMAT, builder.data_dir]
  with os.scandir(builder.data_dir) as entries:
    for entry in sorted(entries, key=lambda entry: entry.name):
      status = entry.stat()
      facts += [
        entry.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino,
      ]  # fmt: skip
  return disk_cache.digest(*facts)


def _read_split(
  part: str,
  source: RecordSource,
  keys: tfds_sets.Keys,
  size: tuple[int, int] | None = None,
  value_range: images.Range | None = None,
) -> dict[str, np.ndarray]:
  """Reads the images and labels of one part.

  Args:
    part: 'train', 'val' or 'test', for the names of the arrays.
    source: all examples of the part.
    keys: of an example.
    size: height and width to which images are scaled; None where all have one size.
    value_range: of numbers that are no bytes.
  """
  pictures, labels = [], []
  for i in range(len(source)):
    try:
      example = source[i]
      picture, label = _as_bytes(example[keys.image], size, value_range), example[keys.label]
      if pictures and picture.shape != pictures[0].shape:
        raise ValueError(f'its shape is {picture.shape}, not {pictures[0].shape}')
    except Exception as error:  # each library raises types of its own for a damaged record
      reason = ' '.join(str(error).split())[:200] or type(error).__name__
      raise ValueError(f'record {i} of the part {part}: {reason}') from error
    pictures.append(picture)
    labels.append(label)
  return {
    f'{part}_images': np.stack(pictures),
    f'{part}_labels': np.array(labels).astype(np.int32),
  }


def _as_bytes(
  image: np.ndarray, size: tuple[int, int] | None, value_range: images.Range | None
) -> UInt8[np.ndarray, 'H W C']:
  """Returns an image of TFDS as bytes of one or three channels, scaled if a size is given."""
  if image.dtype != np.uint8:
    if value_range is None:
      raise ValueError(f'its pixels are {image.dtype}: set data.range to their black and white')
    image = images.to_bytes(image, value_range)
  if image.shape[-1] not in (1, 3):
    image = np.asarray(images.to_rgb(Image.fromarray(image)))  # with transparency
  return image if size is None else images.resize(image[None], size)[0]


def _read_labels(where: str, source: RecordSource, key: str) -> Int32[np.ndarray, 'N']:
  """Reads all records in their order, and returns their labels.

  Args:
    where: the data set and the split, for the log.
    source: all examples of the split.
    key: of the label.
  """
  logging.info('reading the %d labels of %s, once', len(source), where)
  blocks = [range(i, min(i + _BLOCK, len(source))) for i in range(0, len(source), _BLOCK)]
  labels = [example[key] for block in blocks for example in source.__getitems__(list(block))]
  return np.array(labels, np.int32)
