"""Data sets that TFDS has prepared, read without TensorFlow."""

import logging
import os

import numpy as np

from stretchnas_jax.machine import disk_cache as cache_lib

FORMAT = 1  # of the cached arrays
BLOCK = 256  # records that are read at once where only their labels are wanted


def load(name, *, data_dir=None, cache=None):
  """Reads a prepared image classification data set; nothing is ever downloaded or prepared.

  Args:
    name: of the data set in TFDS.
    data_dir: where it is prepared; None for TFDS' own default.
    cache: a folder for the decoded images; None for the user's cache folder.

  Returns:
    Mapping with `train_images`, `train_labels`, `test_images` and `test_labels`.

  Raises:
    FileNotFoundError: it is not prepared there; the message says what to do.
  """
  import tensorflow_datasets  # slow to import, and only a few runs need it

  builder = tensorflow_datasets.builder(name, data_dir=data_dir)
  sources = {part: open_split(builder, part) for part in ('train', 'test')}
  make = lambda: {k: v for part, source in sources.items() for k, v in stack(part, source).items()}
  info = os.path.join(builder.data_dir, 'dataset_info.json')
  if not os.path.exists(info):  # TFDS is being mocked: what it gives must not stay
    return make()
  entry = f'{name}-{cache_lib.digest(builder.data_dir)}'
  key = cache_lib.digest(FORMAT, builder.data_dir, os.stat(info).st_mtime_ns)
  return cache_lib.cached(entry, key, make, cache)


def open_split(builder, split):
  """An iterable of examples `{'image', 'label', ...}`."""
  try:
    source = builder.as_data_source(split=split)
    return (source[i] for i in range(len(source)))
  except Exception as error:  # its type depends on what is missing, and so does the advice
    if split in builder.info.splits and str(builder.info.file_format.value) == 'tfrecord':
      return read_records(builder, split)
    raise FileNotFoundError(
      f'{builder.name} is not prepared in {builder.data_dir}: once, where there is a network, run '
      f'`pip install "stretchnas_jax[tf]"` and `tfds build {builder.name} '
      f'--file_format=array_record`, or set data.path to a copy of the files as published'
    ) from error


def read_records(builder, split):
  """Yields the examples of TFRecord files: length (8 bytes), checksum (4), data, checksum (4)."""
  for path in builder.info.splits[split].filepaths:
    with open(path, 'rb') as file:
      while header := file.read(12):
        length = int.from_bytes(header[:8], 'little')
        record = file.read(length)
        if len(header) < 12 or len(record) < length:
          raise ValueError(f'{path} is cut short; prepare {builder.name} anew')
        yield builder.info.features.deserialize_example_np(record)
        file.seek(4, os.SEEK_CUR)


def stack(part, examples):
  """The arrays of one part."""
  images, labels = zip(*((example['image'], example['label']) for example in examples))
  return {
    f'{part}_images': np.stack(images),
    f'{part}_labels': np.array(labels).astype(np.int32),
  }


def open_records(name, split, *, data_dir=None, cache=None):
  """Random access to a split prepared as array_record, for data sets that no memory holds.

  Args:
    name: of the data set in TFDS.
    split: of the data set.
    data_dir: where it is prepared; None for TFDS' own default.
    cache: a folder for the labels; None for the user's cache folder.

  Returns:
    A sequence of examples whose 'image' is the bytes of an image file; their labels, int32 `[N]`,
    for which every record is read once; and the names of the classes.

  Raises:
    FileNotFoundError: it is not prepared there; the message says what to do.
  """
  import tensorflow_datasets  # slow to import, and only a few runs need it

  builder = tensorflow_datasets.builder(name, data_dir=data_dir)
  skip = tensorflow_datasets.decode.SkipDecoding()
  try:
    source = builder.as_data_source(split=split, decoders={'image': skip})
  except Exception as error:  # its type depends on what is missing
    raise FileNotFoundError(
      f'{name} is not prepared as array_record in {builder.data_dir}, or without its split '
      f'{split!r}: once, run `pip install "stretchnas_jax[tf]"` and `tfds build {name} '
      f'--file_format=array_record`, or set data.path to class folders of images'
    ) from error
  info = os.path.join(builder.data_dir, 'dataset_info.json')
  key = cache_lib.digest(FORMAT, builder.data_dir, os.stat(info).st_mtime_ns)
  entry = f'{name}-{split}-labels-{cache_lib.digest(builder.data_dir)}'
  labels = cache_lib.cached(entry, key, lambda: {'labels': read_labels(name, split, source)}, cache)
  return source, labels['labels'], tuple(builder.info.features['label'].names)


def read_labels(name, split, source):
  """int32 `[N]`, from one pass over all records in their order."""
  logging.info('reading the %d labels of %s (%s), once', len(source), name, split)
  blocks = [range(i, min(i + BLOCK, len(source))) for i in range(0, len(source), BLOCK)]
  found = [example['label'] for block in blocks for example in source.__getitems__(list(block))]
  return np.array(found, np.int32)
