"""Opens the feeds that a config describes.

`config` is a config of a search or of a training. Its group `data` says which images are used and
how. The images may be in memory or stay on disk; the feeds are used in the same way.
"""

from collections.abc import Mapping
from typing import Any

from stretchnas_jax.config import ConfigDict
from stretchnas_jax.data.batches import color_jitter, feeds, in_memory, stream_batches, streaming
from stretchnas_jax.data.datasets import arrays, encoded, loading, splits, synthetic
from stretchnas_jax.data.datasets.dataset import Dataset
from stretchnas_jax.data.datasets.encoded import EncodedDataset
from stretchnas_jax.machine import devices

Data = Dataset | EncodedDataset | arrays.Pair | Mapping[str, arrays.Pair]
"""A data set, or the arrays that `arrays.from_arrays` takes."""


def open_search(config: ConfigDict, data: Data | None = None) -> feeds.Feeds:
  """Opens the feeds of a search.

  Validation images of their own are appended to the training images before these are divided.

  Args:
    config: of a search.
    data: used instead of the data set that the config names.

  Raises:
    ValueError, OSError: names the mistake in one sentence.
  """
  dataset = load_dataset(config.data, data)
  fingerprint = dataset.fingerprint()
  if isinstance(dataset, Dataset):
    dataset = dataset.with_validation_in_training()
  parts = splits.search_parts(
    dataset.train_labels,
    split=config.data.split,
    fraction=config.data.fraction,
    seed=config.seed,
  )
  _check_batch('search.batch_size', config.search.batch_size, min(len(part) for part in parts))
  supply = _supply(config, config.search.batch_size, dataset)
  return feeds.search_feeds(supply, parts)._replace(fingerprint=fingerprint)


def open_training(config: ConfigDict, data: Data | None = None) -> feeds.Feeds:
  """Opens the feeds of a training.

  Validation images of their own are the validation part. Else `config.data.holdout` says how many
  training images are.

  Args:
    config: of a training.
    data: used instead of the data set that the config names.

  Raises:
    ValueError, OSError: names the mistake in one sentence.
  """
  dataset = load_dataset(config.data, data)
  holdout = config.data.holdout
  supply = _supply(config, config.train.batch_size, dataset)
  found = feeds.train_feeds(supply, fraction=config.data.fraction, holdout=holdout)
  _check_batch('train.batch_size', config.train.batch_size, found.sizes['train'])
  if holdout and found.val is None:
    raise ValueError(
      f'config.data.holdout is {holdout:g}, which is not one whole image of '
      f'{found.sizes["train"]}; use more, or 0'
    )
  return found._replace(fingerprint=dataset.fingerprint())


def is_streamed(data: ConfigDict) -> bool:
  """Returns whether images stay on disk until they are needed.

  Args:
    data: the group `data` of a config.
  """
  return data.stream or data.name == encoded.IMAGENET


def load_dataset(data: ConfigDict, given: Data | None = None) -> Dataset | EncodedDataset:
  """Returns the data set that a config names, or the one that is given instead.

  Args:
    data: the group `data` of a config.
    given: a data set, or arrays.

  Raises:
    ValueError, OSError: names the mistake in one sentence.
  """
  if isinstance(given, (Dataset, EncodedDataset)):
    return given
  if given is not None:
    return arrays.from_arrays(given, image_size=data.image_size)
  if is_streamed(data):
    return encoded.load(data.name, path=data.path)
  return loading.load(
    data.name, path=data.path, image_size=data.image_size, on_bad_image=data.on_bad_image
  )


def random_dataset(data: ConfigDict) -> tuple[Dataset | EncodedDataset, dict[str, Any]]:
  """Returns noise in the shape of the data set that a config names.

  Args:
    data: the group `data` of a config.

  Returns:
    The data set, and the assumptions about the real one by name.
  """
  assumed: dict[str, Any] = {}
  if is_streamed(data):
    dataset = synthetic.encoded_dataset(data.name, path=data.path)
    assumed['file_pixels'] = 'x'.join(map(str, synthetic.FILE))
  else:
    dataset = synthetic.dataset(data.name, path=data.path, image_size=data.image_size)
    if data.name == 'folder':
      assumed['channels'] = dataset.train_images.shape[-1]
  if data.name == 'folder' and not data.path:
    assumed['train_images'] = len(dataset.train_labels)
    assumed['classes'] = len(dataset.class_names)
  return dataset, assumed


def stream_options(data: ConfigDict) -> stream_batches.Options:
  """Returns the options of a stream.

  Args:
    data: the group `data` of a config.
  """
  strengths = color_jitter.Strengths(*[data.jitter * most for most in color_jitter.Strengths()])
  return stream_batches.Options(
    image_size=data.image_size or stream_batches.IMAGE_SIZE,
    scale=(data.crop_scale, 1.0),
    flip=data.flip,
    jitter=strengths if data.jitter else None,
    cutout=data.cutout,
    workers=data.workers,
    on_bad_image=data.on_bad_image,
    process=devices.process(),
  )


def _supply(config: ConfigDict, batch_size: int, dataset: Dataset | EncodedDataset) -> feeds.Supply:
  """Returns the supply of a data set, which is in memory or on disk."""
  data = config.data
  if isinstance(dataset, EncodedDataset):
    options = stream_options(data)
    return streaming.StreamSupply(dataset, batch_size, options, seed=config.seed)
  return in_memory.ArraySupply(
    dataset,
    batch_size,
    seed=config.seed,
    process=devices.process(),
    crop_padding=data.crop_padding,
    flip=data.flip,
    cutout=data.cutout,
  )


def _check_batch(field: str, batch_size: int, smallest: int) -> None:
  """Raises ValueError if a batch is larger than the smallest part of the data."""
  if batch_size > smallest:
    raise ValueError(
      f'config.{field} is {batch_size}; the smallest part of the data has {smallest} images'
    )
