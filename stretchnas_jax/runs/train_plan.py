"""What a training needs, checked before anything long begins."""

from typing import Any, NamedTuple

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.data.batches import in_memory, streaming
from stretchnas_jax.machine import parallel
from stretchnas_jax.networks import sizes as sizes_lib
from stretchnas_jax.networks import stems_and_heads
from stretchnas_jax.runs import build, loop
from stretchnas_jax.runs import plan as plan_lib


class Plan(NamedTuple):
  """All that a training needs."""

  config: Any
  genotype: genotype_lib.Genotype
  feeds: in_memory.Feeds
  net: Any
  training: Any
  settings: loop.Settings
  sizes: sizes_lib.Sizes  # without the auxiliary head


def plan_train(config, genotype, dataset=None, target_params=None):
  """Checks a config, loads its data and builds its parts. ValueError names what is wrong.

  Args:
    config: a training config.
    genotype: the cell, a `Genotype`.
    dataset: a data set in place of the one that the config names, a `sources.Dataset` or, of a
      stream, an `encoded.EncodedDataset`.
    target_params: a number of parameters, without the auxiliary head, for which C is chosen; it
      stands in the plan's config then.
  """
  check_config(config)
  feeds = open_feeds(config, dataset)
  if feeds.val is None and feeds.test is None:
    feeds.close()
    raise ValueError(
      f'{feeds.name} has no test images: set config.data.holdout, as 0.1, to keep a part of the '
      'training images apart and measure on it'
    )
  if target_params is not None:
    config = with_size(config, genotype, feeds, target_params)
  settings = plan_lib.settings_of(config, config.train, feeds.train.steps_per_epoch)
  net, training = build.train_parts(
    config,
    genotype,
    num_classes=len(feeds.class_names),
    image_shape=feeds.image_shape,
    steps_per_epoch=settings.steps_per_epoch,
  )
  sizes = measure_sizes(config, genotype, len(feeds.class_names), feeds.image_shape)
  return Plan(config, genotype, feeds, net, training, settings, sizes)


def with_size(config, genotype, feeds, target_params):
  """The config with the C whose network comes nearest to a number of parameters."""
  config = config.copy_and_resolve_references()
  config.model.channels = sizes_lib.channels_for(
    genotype,
    target_params,
    num_layers=config.model.num_layers,
    num_classes=len(feeds.class_names),
    stem=config.model.stem,
    image_shape=feeds.image_shape,
  )
  return config


def check_config(config):
  config_lib.validate(config, config_lib.train_config(), build.CHOICES)
  plan_lib.check_devices('train.batch_size', config.train.batch_size, config.parallel.backend)
  if stems_and_heads.needs_even(config.model.stem):
    plan_lib.check_even(config.model.channels, f'with the stem {config.model.stem}')
  warmup, epochs = config.weights.warmup_epochs, config.train.epochs
  if warmup > epochs:
    raise ValueError(
      f'config.weights.warmup_epochs is {warmup}; config.train.epochs is {epochs}, and it must not '
      'be more'
    )


def open_feeds(config, dataset=None):
  """The data of a training, in its parts."""
  data, batch_size = config.data, config.train.batch_size
  dataset = dataset or plan_lib.load_dataset(data)
  used = {'fraction': data.fraction, 'holdout': data.holdout, 'seed': config.seed}
  if plan_lib.is_stream(data):
    feeds = streaming.train_feeds(dataset, batch_size, plan_lib.stream_options(data), **used)
  else:
    feeds = in_memory.train_feeds(
      dataset, batch_size, **used, process=parallel.process(),
      crop_padding=data.crop_padding, flip=data.flip, cutout=data.cutout,
    )  # fmt: skip
  plan_lib.check_batch('train.batch_size', batch_size, feeds.sizes['train'])
  if data.holdout and feeds.val is None:
    raise ValueError(
      f'config.data.holdout is {data.holdout:g}, which is no image of {feeds.sizes["train"]}'
    )
  return feeds


def measure_sizes(config, genotype, num_classes, image_shape):
  """The `Sizes`; traces the network, so that sizes that it cannot take are named here."""
  model = config.model
  measure = lambda auxiliary: sizes_lib.measure(
    genotype, model.channels, model.num_layers, num_classes, model.stem, auxiliary,
    tuple(image_shape),
  )  # fmt: skip
  try:
    if model.auxiliary:
      measure(True)
  except ValueError as error:
    raise ValueError(f'config.model.auxiliary is True: {error}') from error
  return measure(False)


def describe_plan(plan):
  """What the training will do, a few lines for a person."""
  model, train, weights = plan.config.model, plan.config.train, plan.config.weights
  settings, sizes = plan.settings, plan.sizes
  head = ', auxiliary head' if model.auxiliary else ''
  warmup = f', {weights.warmup_epochs} epochs of warm-up' if weights.warmup_epochs else ''
  return '\n'.join(
    [
      plan_lib.describe_data(plan.feeds),
      'cell      ' + genotype_lib.summary(plan.genotype).replace('\n', '\n          '),
      f'network   {model.num_layers} cells, C {model.channels}, {model.stem} stem{head}, '
      f'{model.dtype}; {sizes.params:,} weights, {sizes.macs / 1e6:,.2f}M MACs',
      f'learning  {settings.epochs} epochs of {settings.steps_per_epoch} steps, batch '
      f'{settings.batch_size}; SGD {weights.learning_rate:g}, {weights.schedule}{warmup}; '
      f'drop path {train.drop_path:g}, label smoothing {train.label_smoothing:g}',
      plan_lib.describe_devices(settings.backend),
    ]
  )
