"""What a search needs, checked before anything long begins, and its compiled parts."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stretchnas_jax import build
from stretchnas_jax import config as config_lib
from stretchnas_jax.architecture import relaxation, topology
from stretchnas_jax.data import augment, sources, splits
from stretchnas_jax.models import sizes
from stretchnas_jax.optimization.state import Batch, Examples
from stretchnas_jax.runtime import parallel

SUMS = ('train_loss', 'train_accuracy', 'penalty')


class Plan(NamedTuple):
  """All that a search needs, checked before anything long begins."""

  config: Any
  dataset: sources.Dataset
  parts: splits.Parts
  net: Any
  table: Any
  search: Any
  steps_per_epoch: int

  @property
  def num_steps(self):
    return self.steps_per_epoch * self.config.search.epochs


class Data(NamedTuple):
  """All training images, on every device."""

  images: jax.Array  # [N, H, W, C], uint8
  labels: jax.Array  # [N], int32


class Position(NamedTuple):
  """What a checkpoint holds: the search, and the sums of the epoch under way."""

  search: Any
  sums: dict[str, jax.Array]


def plan_search(config, dataset=None):
  """Checks a config, loads its data and builds its parts. ValueError names what is wrong.

  Args:
    config: a search config.
    dataset: a `Dataset` to use instead of the one that the config names.
  """
  config_lib.validate(config, config_lib.search_config())
  data, batch_size = config.data, config.search.batch_size
  devices = parallel.device_count(config.parallel.backend)
  if batch_size % devices:
    raise ValueError(
      f'config.search.batch_size is {batch_size}; it must be a multiple of the {devices} devices'
    )
  dataset = dataset or sources.load(
    data.name, path=data.path, image_size=data.image_size, on_bad_image=data.on_bad_image
  )
  parts = splits.search_parts(
    dataset.train_labels, split=data.split, fraction=data.fraction, seed=config.seed
  )
  smallest = min(len(part) for part in parts)
  if batch_size > smallest:
    raise ValueError(
      f'config.search.batch_size is {batch_size}; '
      f'the smallest part of the data has {smallest} images'
    )
  steps_per_epoch = len(parts.train) // batch_size
  net, table, search = build.search_parts(
    config,
    num_classes=len(dataset.class_names),
    image_shape=dataset.train_images.shape[1:],
    num_steps=steps_per_epoch * config.search.epochs,
  )
  net.uses_tiles(*dataset.train_images.shape[1:3])  # refuses sizes that it cannot take
  return Plan(config, dataset, parts, net, table, search, steps_per_epoch)


def describe_plan(plan):
  """What the search will do, a few lines for a person."""
  config, data = plan.config, plan.dataset
  graph = plan.net.space.graph
  height, width, channels = data.train_images.shape[1:]
  classes, operations = len(data.class_names), len(plan.net.space.primitives)
  params = sizes.count_supernet_params(
    plan.net.space,
    channels=plan.net.channels,
    num_layers=plan.net.num_layers,
    num_classes=plan.net.num_classes,
    image_channels=channels,
  )
  codes = int(plan.table.mask.sum())
  parts = ' '.join(f'{name} {len(part)}' for name, part in plan.parts._asdict().items())
  return '\n'.join(
    [
      f'data      {data.name}: {height}x{width}x{channels}, {classes} classes; {parts}',
      f'space     {graph.num_intermediate} nodes, {len(graph.edges)} edges, '
      f'{operations} operations; topology {config.topology.kind}, {codes} codes',
      f'supernet  {plan.net.num_layers} cells, C {plan.net.channels}, {params:,} weights, '
      f'{config.model.dtype}',
      f'learning  {config.rule.kind}, {config.search.epochs} epochs of {plan.steps_per_epoch} '
      f'steps, batch {config.search.batch_size}',
      f'devices   {parallel.device_count(config.parallel.backend)} x '
      f'{jax.devices()[0].device_kind}, {config.parallel.backend}',
    ]
  )


# ---- the compiled parts --------------------------------------------------------------------------


def make_examples(data, indices, key, place, config, statistics):
  """Gathers images by index on the device and augments them."""
  mean, std = statistics
  images = augment.augment(
    key, data.images[indices], place, mean=mean, std=std,
    crop_padding=config.data.crop_padding, flip=config.data.flip, cutout=config.data.cutout,
  )  # fmt: skip
  return Examples(images, data.labels[indices])


def train_chunk(plan, position, data, indices, key, count, *, axis_name):
  """The first `count` of the steps whose batches `indices` names: one call, no host in between.

  Args:
    plan: a `Plan`.
    position: a `Position`.
    data: all training images, uint8, and labels.
    indices: `{'train', 'val_alpha'[, 'val_beta']}`: `[T, B]`.
    key: the root key; every draw depends on it, the step, the part and the place in the batch.
    count: how many of the T steps are to be run.
    axis_name: see `parallel`.
  """
  statistics = plan.dataset.mean, plan.dataset.std
  fields = sorted(indices)

  def body(t, position):
    place = parallel.positions(indices['train'].shape[1], axis_name)
    step_key = jax.random.fold_in(key, position.search.step)
    examples = {
      field: make_examples(
        data, indices[field][t], jax.random.fold_in(step_key, i), place, plan.config, statistics
      )
      for i, field in enumerate(fields)
    }
    batch = Batch(examples['train'], examples.get('val_alpha'), examples.get('val_beta'))
    state, values = plan.search.step(position.search, batch, key, axis_name=axis_name)
    return Position(state, {name: position.sums[name] + values[name] for name in SUMS})

  return jax.lax.fori_loop(0, count, body, position)


def evaluate_all(plan, state, data, indices, valid, *, axis_name):
  """Sums of loss and correct answers over `indices` `[n, B]`, in evaluation mode."""
  statistics = plan.dataset.mean, plan.dataset.std

  def body(sums, batch):
    indices, valid = batch
    images = augment.normalize(data.images[indices], *statistics)
    examples = Examples(images, data.labels[indices])
    new = plan.search.evaluate(state, examples, valid, axis_name=axis_name)
    return jax.tree.map(jnp.add, sums, new), None

  zeros = dict.fromkeys(('loss', 'correct', 'count'), jnp.zeros(()))
  return jax.lax.scan(body, zeros, (indices, valid))[0]


def epoch_batches(plan, epoch):
  """The batches of one epoch as indices `{field: [steps, B]}`; depends on seed and epoch alone."""
  fields = ['train', 'val_alpha'] + ['val_beta'] * (plan.config.data.split == 'three_way')
  return {
    field: splits.epoch_indices(
      getattr(plan.parts, field), plan.config.search.batch_size, plan.steps_per_epoch,
      seed=plan.config.seed, epoch=epoch, stream=field,
    )
    for field in fields
  }  # fmt: skip


def validation_batches(plan):
  """All images of the validation parts once, in batches of one size: indices and what counts."""
  part = np.unique(np.concatenate([plan.parts.val_alpha, plan.parts.val_beta]))
  indices, valid = splits.eval_batches(len(part), plan.config.search.batch_size)
  return part[indices].astype(np.int32), valid.astype(np.float32)


def chunk_of(batches, start, count, length):
  """Steps `start .. start + count` of an epoch, filled up to `length`: one shape compiles once."""

  def cut(x):
    part = x[start : start + count]
    return np.concatenate([part, np.zeros((length - count, x.shape[1]), x.dtype)])

  return {field: cut(x) for field, x in batches.items()}


def zero_sums():
  return {name: jnp.zeros(()) for name in SUMS}


class Programs(NamedTuple):
  """The compiled parts of a search."""

  train: Any  # (position, data, indices, key, count) -> position
  evaluate: Any  # (state, data, indices, valid) -> sums


def compile_programs(plan):
  """They compile when they are first called."""
  backend = plan.config.parallel.backend
  train = parallel.data_parallel(
    functools.partial(train_chunk, plan), in_axes=(None, None, 1, None, None), backend=backend
  )
  evaluate = parallel.data_parallel(
    functools.partial(evaluate_all, plan), in_axes=(None, None, 1, 1), backend=backend, donate=()
  )
  return Programs(train, evaluate)


def epoch_metrics(plan, position, arch, counted, seconds):
  """The line of an epoch that has ended."""
  sums, counted = parallel.fetch((position.sums, counted))
  step = int(position.search.step)
  mean = lambda values: float(sum(values) / len(values))
  return {
    'step': step,
    'epoch': step // plan.steps_per_epoch,
    'train_loss': float(sums['train_loss']) / plan.steps_per_epoch,
    'train_accuracy': float(sums['train_accuracy']) / plan.steps_per_epoch,
    'val_loss': float(counted['loss'] / counted['count']),
    'val_accuracy': float(counted['correct'] / counted['count']),
    'penalty': float(
      sum(topology.invalid_topology_penalty(beta, plan.table) for beta in arch.beta.values())
    ),
    'alpha_entropy': mean([relaxation.entropy(alpha) for alpha in arch.alpha.values()]),
    'beta_entropy': mean([topology.beta_entropy(beta, plan.table) for beta in arch.beta.values()]),
    'seconds': seconds,
    'images_per_second': plan.steps_per_epoch * plan.config.search.batch_size / seconds,
  }


def check_finite(line):
  """Stops a run whose numbers have left the finite ones; the last checkpoint stays."""
  for name in ('train_loss', 'val_loss'):
    if not np.isfinite(line[name]):
      raise FloatingPointError(
        f'{name} is {line[name]} in the epoch that ends at step {line["step"]}; '
        'a lower config.weights.learning_rate is the likely remedy'
      )
