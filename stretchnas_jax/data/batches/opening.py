"""Opens the feeds that a config describes.

`config` is a config of a search or of a training. Its group `data` says which images are used and
how. The images may be in memory or stay on disk; the feeds are used in the same way.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stretchnas_jax.config import ConfigDict, train_config
from stretchnas_jax.data.batches import (
  color_jitter,
  feeds,
  in_memory,
  stream_batches,
  stream_supply,
)
from stretchnas_jax.data.datasets import (
  arrays,
  encoded,
  image_limits,
  images,
  loading,
  splits,
  synthetic,
  tfds_sets,
)
from stretchnas_jax.data.datasets.dataset import Dataset
from stretchnas_jax.data.datasets.encoded import EncodedDataset
from stretchnas_jax.machine import devices

Data = Dataset | EncodedDataset | arrays.Pair | Mapping[str, arrays.Pair]
"""A data set, or the arrays that `arrays.from_arrays` takes."""


def open_search(config: ConfigDict, data: Data | None = None) -> feeds.Feeds:
  """Opens the feeds of a search.

  Where the data set has validation images of its own, alpha and beta learn from these, and the
  weights from all training images. Else the training images are divided.

  Args:
    config: of a search.
    data: used instead of the data set that the config names.

  Raises:
    ValueError, OSError: names the mistake in one sentence.
  """
  return open_searches([config], data)[0]


def open_searches(configs: Sequence[ConfigDict], data: Data | None = None) -> list[feeds.Feeds]:
  """Opens the feeds of the phases of a search, over one and the same data set.

  Args:
    configs: of the phases. They differ in `data.split` alone, as far as the data go.
    data: as for `open_search`.

  Returns:
    The feeds of each config; those of equal splits are one object.

  Raises:
    ValueError, OSError: names the mistake in one sentence.
  """
  first, found = configs[0], {}
  dataset = load_dataset(first.data, data)
  fingerprint = dataset.fingerprint()
  dataset, num_validation = dataset.with_validation_in_training()
  supply = None
  for config in configs:
    if config.data.split in found:
      continue
    parts = splits.search_parts(
      dataset.train_labels,
      split=config.data.split,
      fraction=first.data.fraction,
      seed=first.seed,
      num_validation=num_validation,
    )
    sizes = {name: len(part) for name, part in parts.fields(config.data.split).items()}
    _check_batch('search.batch_size', first.search.batch_size, sizes)
    supply = supply or _supply(first, first.search.batch_size, dataset)
    made = feeds.search_feeds(supply, parts, config.data.split)
    unused = _unused(first.data, streamed=isinstance(dataset, EncodedDataset))
    found[config.data.split] = made._replace(
      fingerprint=fingerprint, warnings=(*made.warnings, *unused)
    )
  return [found[config.data.split] for config in configs]


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
  _check_batch('train.batch_size', config.train.batch_size, {'train': found.sizes['train']})
  if holdout and found.val is None:
    raise ValueError(
      f'config.data.holdout is {holdout:g}, which is not one whole image of '
      f'{found.sizes["train"]}; use more, or 0'
    )
  unused = _unused(config.data, streamed=isinstance(dataset, EncodedDataset))
  return found._replace(fingerprint=dataset.fingerprint(), warnings=(*found.warnings, *unused))


def is_streamed(data: ConfigDict) -> bool:
  """Returns whether images stay on disk until they are needed.

  Args:
    data: the group `data` of a config.
  """
  return data.stream or data.name == encoded.IMAGENET


def image_size(data: ConfigDict) -> int | tuple[int, int] | None:
  """Returns `data.image_size`: a side, height and width, or None.

  Args:
    data: the group `data` of a config. One that was read from a file has lists for tuples.
  """
  size = data.image_size
  return size if size is None or isinstance(size, int) else images.height_and_width(size)


def value_range(data: ConfigDict) -> tuple[float | int, float | int] | None:
  """Returns `data.range`: the values of black and white, or None.

  Args:
    data: the group `data` of a config.
  """
  return None if data.range is None else (data.range[0], data.range[1])


def load_dataset(data: ConfigDict, given: Data | None = None) -> Dataset | EncodedDataset:
  """Returns the data set that a config names, or the one that is given instead.

  Args:
    data: the group `data` of a config.
    given: a data set, or arrays.

  Raises:
    ValueError, OSError: names the mistake in one sentence.
  """
  image_limits.set_most_pixels(data.max_pixels)
  if isinstance(given, (Dataset, EncodedDataset)):
    return given
  if given is not None:
    return arrays.from_arrays(given, image_size=image_size(data), value_range=value_range(data))
  if is_streamed(data):
    dataset = encoded.load(data.name, path=data.path)
    size = image_size(data) or stream_batches.IMAGE_SIZE
    return encoded.with_pixels(dataset, size, value_range(data))
  return loading.load(
    data.name,
    path=data.path,
    image_size=image_size(data),
    value_range=value_range(data),
    on_bad_image=data.on_bad_image,
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
    dataset = synthetic.dataset(data.name, path=data.path, image_size=image_size(data))
    if data.name == 'folder':
      assumed['channels'] = dataset.train_images.shape[-1]
  if (data.name == 'folder' and not data.path) or data.name.startswith(tfds_sets.PREFIX):
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
    image_size=image_size(data) or stream_batches.IMAGE_SIZE,
    scale=(data.crop_scale, 1.0),
    flip=data.flip,
    jitter=strengths if data.jitter else None,
    cutout=data.cutout,
    workers=data.workers,
    on_bad_image=data.on_bad_image,
    process=devices.process(),
    value_range=value_range(data),
  )


def _supply(config: ConfigDict, batch_size: int, dataset: Dataset | EncodedDataset) -> feeds.Supply:
  """Returns the supply of a data set, which is in memory or on disk."""
  data = config.data
  if isinstance(dataset, EncodedDataset):
    options = stream_options(data)
    if dataset.grey:
      options = options.grey()
    return stream_supply.StreamSupply(dataset, batch_size, options, seed=config.seed)
  return in_memory.ArraySupply(
    dataset,
    batch_size,
    seed=config.seed,
    process=devices.process(),
    crop_padding=data.crop_padding,
    flip=data.flip,
    cutout=data.cutout,
  )


def _unused(data: ConfigDict, streamed: bool) -> list[str]:
  """Returns a sentence for each field that is set and does nothing for images of this kind."""
  names = ('crop_padding',) if streamed else ('crop_scale', 'jitter')
  kinds = ('a stream', 'images in memory') if streamed else ('images in memory', 'a stream')
  usual = train_config().data
  return [
    f'config.data.{name} is {data[name]:g}, which does nothing for {kinds[0]}; it is for {kinds[1]}'
    for name in names
    if data[name] != usual[name]
  ]


def _check_batch(field: str, batch_size: int, sizes: Mapping[str, int]) -> None:
  """Raises ValueError if a batch is larger than the smallest part of the data."""
  part, smallest = min(sizes.items(), key=lambda item: item[1])
  if batch_size > smallest:
    raise ValueError(
      f'config.{field} is {batch_size}; the smallest part of the data has {smallest} images '
      f'({part})'
    )
