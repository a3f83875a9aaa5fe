"""What a search needs, checked before anything long begins."""

from typing import Any, NamedTuple

from stretchnas_jax import config as config_lib
from stretchnas_jax.data.batches import in_memory, streaming
from stretchnas_jax.data.datasets import splits
from stretchnas_jax.machine import parallel
from stretchnas_jax.networks import sizes
from stretchnas_jax.runs import build, loop
from stretchnas_jax.runs import plan as plan_lib


class Plan(NamedTuple):
  """All that a search needs."""

  config: Any
  feeds: in_memory.Feeds
  net: Any
  table: Any
  search: Any
  settings: loop.Settings


def plan_search(config, dataset=None):
  """Checks a config, loads its data and builds its parts. ValueError names what is wrong.

  Args:
    config: a search config.
    dataset: a data set in place of the one that the config names, a `sources.Dataset` or, of a
      stream, an `encoded.EncodedDataset`.
  """
  config_lib.validate(config, config_lib.search_config(), build.CHOICES)
  plan_lib.check_devices('search.batch_size', config.search.batch_size, config.parallel.backend)
  plan_lib.check_form(config.model.form)
  plan_lib.check_even(config.model.channels, 'in a search')
  feeds = open_feeds(config, dataset)
  settings = plan_lib.settings_of(config, config.search, feeds.train.steps_per_epoch)
  net, table, search = build.search_parts(
    config,
    num_classes=len(feeds.class_names),
    image_shape=feeds.image_shape,
    num_steps=settings.num_steps,
  )
  return Plan(config, feeds, net, table, search, settings)


def open_feeds(config, dataset=None):
  """The data of a search, in its parts."""
  data, batch_size = config.data, config.search.batch_size
  dataset = dataset or plan_lib.load_dataset(data)
  parts = splits.search_parts(
    dataset.train_labels, split=data.split, fraction=data.fraction, seed=config.seed
  )
  plan_lib.check_batch('search.batch_size', batch_size, min(len(part) for part in parts))
  if plan_lib.is_stream(data):
    options = plan_lib.stream_options(data)
    return streaming.search_feeds(dataset, parts, batch_size, options, seed=config.seed)
  return in_memory.search_feeds(
    dataset, parts, batch_size, seed=config.seed, process=parallel.process(),
    crop_padding=data.crop_padding, flip=data.flip, cutout=data.cutout,
  )  # fmt: skip


def describe_plan(plan):
  """What the search will do, a few lines for a person."""
  config, settings = plan.config, plan.settings
  graph, operations = plan.net.space.graph, len(plan.net.space.primitives)
  params = sizes.count_net_params(plan.net, plan.feeds.image_shape)
  codes = int(plan.table.mask.sum())
  return '\n'.join(
    [
      plan_lib.describe_data(plan.feeds),
      f'space     {graph.num_intermediate} nodes, {len(graph.edges)} edges, '
      f'{operations} operations; topology {config.topology.kind}, {codes} codes',
      f'supernet  {plan.net.num_layers} cells, C {plan.net.channels}, {plan.net.stem} stem, '
      f'{params:,} weights, {config.model.dtype}',
      f'learning  {config.rule.kind}, {settings.epochs} epochs of {settings.steps_per_epoch} '
      f'steps, batch {settings.batch_size}',
      plan_lib.describe_devices(settings.backend),
    ]
  )
