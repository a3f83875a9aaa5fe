"""The plan of a training: everything is checked and loaded before anything long begins."""

from typing import Any

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cells.nas_bench_cells import Cell
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.data.batches import opening
from stretchnas_jax.machine import parallel
from stretchnas_jax.networks import own_operations, stems_and_heads
from stretchnas_jax.networks import sizes as sizes_lib
from stretchnas_jax.runs import build
from stretchnas_jax.runs import plan as plan_lib
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.task import Plan, fields_of


def plan_train(
  config: ConfigDict,
  parts: Parts | None = None,
  *,
  genotype: genotype_lib.AnyGenotype,
  target_params: float | int | None = None,
  devices: parallel.Devices | None = None,
) -> Plan:
  """Checks a config, loads its data and builds its objects.

  Args:
    config: a training config.
    parts: the researcher's own objects.
    genotype: the cell.
    target_params: a number of parameters, without the auxiliary head, for which C is chosen; it
      stands in the plan's config then.
    devices: on which it runs; None for those of this job.

  Raises:
    ValueError: something cannot work; the sentence names it.
  """
  parts = parts or Parts()
  devices = devices or parallel.Devices(config.parallel.backend)
  check_config(config, devices)
  if isinstance(genotype, Cell):
    _check_without(config)
  # Only a plan is refused: a network that was trained with such a name still loads.
  own_operations.check_names(parts.all_operations())
  feeds = opening.open_training(config, parts.data)
  if feeds.val is None and feeds.test is None:
    feeds.close()
    raise ValueError(
      f'{feeds.name} has no test images: set config.data.holdout, for example to 0.1, to keep a '
      'part of the training images apart and measure on it'
    )
  if target_params is not None:
    config = with_size(config, genotype, feeds, target_params, parts)
  settings = plan_lib.settings_of(config, config.train, feeds.train.steps_per_epoch, devices)
  objects = build.train_objects(
    config,
    genotype,
    parts,
    num_classes=len(feeds.class_names),
    image_shape=feeds.image_shape,
    steps_per_epoch=settings.steps_per_epoch,
    platform=devices.platform,
  )
  fields = {**fields_of(config, parts), 'genotype': genotype.to_dict()}
  return Plan(config, fields, feeds, settings, objects, parts)


def check_config(config: ConfigDict, devices: parallel.Devices | None = None) -> None:
  """Raises ValueError, in one sentence, for a training config that cannot work.

  Args:
    config: of the training.
    devices: on which it runs; None for those of this job.
  """
  devices = devices or parallel.Devices(config.parallel.backend)
  config_lib.validate(config, config_lib.train_config(), build.CHOICES)
  plan_lib.check_devices('train.batch_size', config.train.batch_size, devices)
  if stems_and_heads.needs_even(config.model.stem):
    plan_lib.check_even(config.model.channels, f'with the stem {config.model.stem}')
  warmup, epochs = config.weights.warmup_epochs, config.train.epochs
  if warmup > epochs:
    raise ValueError(
      f'config.weights.warmup_epochs is {warmup}; config.train.epochs is {epochs}, and it must not '
      'be more'
    )


def _check_without(config: ConfigDict) -> None:
  """Raises ValueError unless a config leaves out what no network of NAS-Bench-201 has."""
  for name, value, off in (
    ('model.auxiliary', config.model.auxiliary, 'False'),
    ('train.drop_path', config.train.drop_path, '0'),
  ):
    if value:
      raise ValueError(
        f'config.{name} is {value}; a network of NAS-Bench-201 has none: set it to {off}'
      )


def describe_plan(plan: Plan) -> str:
  """Returns a few lines about a planned training, for a person."""
  model, train, weights = plan.config.model, plan.config.train, plan.config.weights
  settings, sizes, cell = plan.settings, plan.objects.sizes, plan.objects.net.genotype
  head = ', auxiliary head' if model.auxiliary else ''
  stages = ' in each of three stages' if isinstance(cell, Cell) else ''
  warmup = f', {weights.warmup_epochs} epochs of warm-up' if weights.warmup_epochs else ''
  return '\n'.join(
    [
      plan_lib.describe_data(plan.feeds, settings.batch_size),
      'cell      ' + genotype_lib.summary(cell).replace('\n', '\n          '),
      f'network   {model.num_layers} cells{stages}, C {model.channels}, {model.stem} stem{head}, '
      f'{model.dtype}; {sizes.params:,} weights, {sizes.macs / 1e6:,.2f}M MACs',
      f'learning  {settings.epochs} epochs of {settings.steps_per_epoch} steps, batch '
      f'{settings.batch_size}; SGD {weights.learning_rate:g}, {weights.schedule} by '
      f'{weights.schedule_by}{warmup}; '
      f'drop path {train.drop_path:g}, label smoothing {train.label_smoothing:g}',
      f'devices   {settings.devices.describe()}',
    ]
  )


def with_size(
  config: ConfigDict,
  genotype: genotype_lib.AnyGenotype,
  feeds: Any,
  target_params: float | int,
  parts: Parts | None = None,
) -> ConfigDict:
  """Returns the config with the C whose network comes nearest to a number of parameters.

  Args:
    config: of a training.
    genotype: the cell.
    feeds: the data, for classes and image shape.
    target_params: the number, without the auxiliary head.
    parts: the researcher's own objects.
  """
  config = config.copy_and_resolve_references()
  config.model.channels = sizes_lib.channels_for(
    genotype,
    target_params,
    num_layers=config.model.num_layers,
    num_classes=len(feeds.class_names),
    stem=config.model.stem,
    image_shape=feeds.image_shape,
    operations=(parts or Parts()).all_operations(),
  )
  return config
