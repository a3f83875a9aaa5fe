"""Searches a cell: `python -m stretchnas_jax.search --config=FILE --workdir=DIR`."""

import contextlib
import functools
import json
import logging
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stretchnas_jax import app, build
from stretchnas_jax import config as config_lib
from stretchnas_jax.architecture import genotype, relaxation, topology
from stretchnas_jax.data import augment, sources, splits
from stretchnas_jax.models import sizes
from stretchnas_jax.optimization.state import Batch, Examples
from stretchnas_jax.runtime import checkpoint, metrics, parallel, workdir as workdir_lib
from stretchnas_jax.views import cells

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


def plan_search(config):
  """Checks a config, loads its data and builds its parts. ValueError names what is wrong."""
  config_lib.validate(config, config_lib.search_config())
  data, batch_size = config.data, config.search.batch_size
  devices = parallel.device_count(config.parallel.backend)
  if batch_size % devices:
    raise ValueError(
      f'config.search.batch_size is {batch_size}; it must be a multiple of the {devices} devices'
    )
  dataset = sources.load(
    data.name, path=data.path, image_size=data.image_size, on_bad_image=data.on_bad_image
  )
  parts = splits.search_parts(
    dataset.train_labels, split=data.split, fraction=data.fraction, seed=config.seed
  )
  smallest = min(len(part) for part in parts)
  if batch_size > smallest:
    raise ValueError(
      f'config.search.batch_size is {batch_size}; the smallest part of the data has {smallest} images'
    )
  steps_per_epoch = len(parts.train) // batch_size
  net, table, search = build.search_parts(
    config,
    num_classes=len(dataset.class_names),
    image_shape=dataset.train_images.shape[1:],
    num_steps=steps_per_epoch * config.search.epochs,
  )
  return Plan(config, dataset, parts, net, table, search, steps_per_epoch)


def describe_plan(plan):
  """What the search will do, a few lines for a person."""
  config, data = plan.config, plan.dataset
  graph = plan.net.space.graph
  height, width, channels = data.train_images.shape[1:]
  params = sizes.count_supernet_params(
    plan.net.space,
    channels=plan.net.channels,
    num_layers=plan.net.num_layers,
    num_classes=plan.net.num_classes,
    image_channels=channels,
  )
  codes = int(plan.table.mask.sum())
  parts = ' '.join(f'{name} {len(part)}' for name, part in plan.parts._asdict().items())
  return '\n'.join([
    f'data      {data.name}: {height}x{width}x{channels}, {len(data.class_names)} classes; {parts}',
    f'space     {graph.num_intermediate} nodes, {len(graph.edges)} edges, '
    f'{len(plan.net.space.primitives)} operations; topology {config.topology.kind}, {codes} codes',
    f'supernet  {plan.net.num_layers} cells, C {plan.net.channels}, {params:,} weights, '
    f'{config.model.dtype}',
    f'learning  {config.rule.kind}, {config.search.epochs} epochs of {plan.steps_per_epoch} steps, '
    f'batch {config.search.batch_size}',
    f'devices   {parallel.device_count(config.parallel.backend)} x '
    f'{jax.devices()[0].device_kind}, {config.parallel.backend}',
  ])


# ---- the compiled parts ---------------------------------------------------------------------------


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


# ---- the program ----------------------------------------------------------------------------------


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


class Run:
  """A search under way in its folder."""

  def __init__(self, plan, folder, checkpoints):
    self.plan, self.folder, self.checkpoints = plan, folder, checkpoints
    self.backend = plan.config.parallel.backend
    self.key = jax.random.key(plan.config.seed)
    self.lines, self.genotypes = folder.lines('metrics.jsonl'), folder.lines('genotypes.jsonl')

  def start(self):
    """The state of the newest checkpoint, or a fresh one; what came after it is cut away."""
    init_key, self.step_key = jax.random.split(self.key)
    search = jax.jit(self.plan.search.init)(init_key)
    position = parallel.replicate(Position(search, zero_sums()), self.backend)
    restored = self.checkpoints.restore_latest(position)
    step, position, meta = restored or (0, position, {})
    self.seconds = meta.get('seconds', 0.0)
    self.epoch_seconds = meta.get('epoch_seconds', 0.0)
    self.lines.cut_back(step)
    self.genotypes.cut_back(step)
    return step, position

  def go(self):
    """Runs to the end; returns the result."""
    plan, config = self.plan, self.plan.config
    step, position = self.start()
    images, labels = plan.dataset.train_images, plan.dataset.train_labels
    data = parallel.replicate(Data(images, labels), self.backend)
    self.programs, self.validation = compile_programs(plan), validation_batches(plan)
    writers = [metrics.JsonLines(self.lines)]
    if config.log.tensorboard:
      writers.append(metrics.TensorBoard(self.folder.path / 'tensorboard', step))
    self.writer = metrics.Writers(*writers)
    progress = metrics.Progress(
      plan.num_steps, plan.steps_per_epoch, config.search.batch_size, start_step=step,
      enabled=self.folder.writes,
    )  # fmt: skip
    if step:
      progress.message(f'resumed at step {step} of {plan.num_steps}')
    with progress:
      while step < plan.num_steps:
        step, position = self.advance(step, position, data, progress)
    return self.finish(position, progress)

  def advance(self, step, position, data, progress):
    """Some steps, up to the next call, checkpoint or end of an epoch, and what is due then."""
    config, per_epoch = self.plan.config, self.plan.steps_per_epoch
    epoch, done = divmod(step, per_epoch)
    every = config.checkpoint.every_steps
    count = min(config.search.steps_per_call, per_epoch - done)
    count = min(count, every - step % every) if every else count
    if not done or not hasattr(self, 'batches'):
      self.batches = epoch_batches(self.plan, epoch)
    length = min(config.search.steps_per_call, per_epoch)
    indices = chunk_of(self.batches, done, count, length)
    begin = time.perf_counter()
    args = position, data, indices, self.step_key, np.int32(count)
    with self.compiling(progress, 'the search step'):
      position = self.programs.train(*args)
      loss = float(position.sums['train_loss']) / (done + count)  # waits for the steps
    step += count
    self.epoch_seconds += time.perf_counter() - begin
    self.seconds += time.perf_counter() - begin
    if step % per_epoch:
      progress.update(step, loss=loss)
    else:
      position = self.end_epoch(step, position, data, progress)
    if not step % per_epoch or (every and not step % every):
      clock = {'seconds': self.seconds, 'epoch_seconds': self.epoch_seconds}
      self.checkpoints.save(step, position, clock)
    return step, position

  def compiling(self, progress, what):
    """The first call of a program says that it compiles."""
    self.compiled = getattr(self, 'compiled', set())
    if what in self.compiled:
      return contextlib.nullcontext()
    self.compiled.add(what)
    return progress.compiling(what)

  def end_epoch(self, step, position, data, progress):
    """Validates, derives and writes a line of each; the sums begin anew."""
    plan, begin = self.plan, time.perf_counter()
    with self.compiling(progress, 'the evaluation'):
      counted = parallel.fetch(self.programs.evaluate(position.search, data, *self.validation))
    arch = parallel.fetch(position.search.arch)
    line = epoch_metrics(plan, position, arch, counted, self.epoch_seconds)
    line['evaluation_seconds'] = time.perf_counter() - begin
    check_finite(line)
    found, notes = genotype.derive(plan.net.space, plan.table, arch.alpha, arch.beta)
    self.writer.write_scalars(step, line)
    as_json = json.loads(genotype.to_json(found))
    self.genotypes.append({'step': step, 'epoch': line['epoch'], 'genotype': as_json, 'notes': notes})
    progress.update(step, loss=line['train_loss'], val=line['val_accuracy'], r=line['penalty'])
    progress.message(genotype.summary(found).replace('\n', ' | '))
    self.epoch_seconds, self.last = 0.0, (line, found, notes)
    zeros = parallel.replicate(zero_sums(), self.backend)
    return Position(position.search, zeros)

  def finish(self, position, progress):
    """Writes the result, last of all `result.json`, which marks the run as done."""
    plan, folder = self.plan, self.folder
    line, found, notes = self.last if hasattr(self, 'last') else self.read_last(position)
    for note in notes:
      logging.warning('%s', note)
    folder.write_text('genotype.json', genotype.to_json(found))
    folder.write_text('cells.svg', cells.svg(found))
    result = {
      'val_accuracy': line['val_accuracy'],
      'epochs': plan.config.search.epochs,
      'seconds': self.seconds,
      'seed': plan.config.seed,
      'supernet_params': sum(x.size for x in jax.tree.leaves(position.search.params)),
      'penalty': line['penalty'],
      'genotype': json.loads(genotype.to_json(found)),
    }
    self.writer.close()
    self.checkpoints.close()
    folder.write_json('result.json', result)
    progress.message(report(folder.path, result, found, notes))
    return result

  def read_last(self, position):
    """What the last epoch gave, for a run that stopped between its last step and its result."""
    arch = parallel.fetch(position.search.arch)
    line = workdir_lib.read(self.lines.path)[-1]
    return line, *genotype.derive(self.plan.net.space, self.plan.table, arch.alpha, arch.beta)


def report(path, result, found, notes):
  """The last words of a search."""
  penalty = result['penalty']
  state = 'every node is reached' if penalty == 0 else 'a node is not reached by the best codes'
  pruned = '; '.join(notes) if notes else 'nothing was pruned'
  return '\n'.join([
    genotype.summary(found),
    f'validation accuracy {result["val_accuracy"]:.4f}; r(beta) {penalty:.3g}, {state}; {pruned}',
    f'{result["seconds"]:.0f} s; the cell is in {path / "genotype.json"}, its picture in cells.svg',
    f'draw it:  python -m stretchnas_jax.draw {path / "genotype.json"} --out=cells.png',
    f'sizes:    python -m stretchnas_jax.describe {path / "genotype.json"}',
  ])


def prepare_search(config, workdir, argv=()):
  """Checks everything, the folder last; returns the function that runs the search."""
  plan = plan_search(config)
  folder = workdir_lib.Workdir.open(
    workdir, config.to_dict(), argv=argv, ignore=('search.steps_per_call', 'checkpoint', 'log')
  )
  if folder.finished:
    return functools.partial(finished_result, folder)

  def work():
    if folder.writes:
      print(describe_plan(plan), file=sys.stderr)
    with checkpoint.Checkpoints(folder.path / 'checkpoints', config.checkpoint.keep) as saved:
      return Run(plan, folder, saved).go()

  return work


def finished_result(folder):
  print(f'{folder.path} holds a finished search; choose another --workdir for a new one')
  return json.loads((folder.path / 'result.json').read_text('utf-8'))


def run_search(config, workdir):
  """The whole search program as a function.

  Args:
    config: a ConfigDict as `config.search_config()` gives, or a config file's `get_config()`.
    workdir: the folder of the run; one that was stopped is resumed.

  Returns:
    The content of `result.json`.

  Raises:
    ValueError, OSError: one sentence that names what is wrong.
  """
  return prepare_search(config, workdir)()


def prepare(args):
  return prepare_search(args.config, args.workdir, args.argv)


def main():
  app.run(prepare)


if __name__ == '__main__':
  main()
