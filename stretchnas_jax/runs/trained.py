"""What a run has learned, for use: `load_trained`, and the evaluation of a checkpoint."""

import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.data.batches import augment
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.machine import parallel
from stretchnas_jax.runs import (
  build,
  checkpoint,
  json_files,
  search_steps,
  steps,
  train_plan,
  train_steps,
)
from stretchnas_jax.runs import fields as fields_lib
from stretchnas_jax.runs import plan as plan_lib

# Fields in which the config of an evaluation may differ from that of the run.
FREE = (
  'data.path', 'data.workers', 'data.on_bad_image', 'train.batch_size', 'train.steps_per_call',
  'parallel', 'checkpoint', 'log', 'seed',
)  # fmt: skip


class Saved(NamedTuple):
  """The newest checkpoint of a run, and what is needed to use it."""

  path: pathlib.Path
  kind: str  # 'search' or 'train'
  config: Any  # ConfigDict
  parts: tuple  # of `build`: (net, training) or (net, table, search)
  state: Any
  step: int
  identity: dict  # class_names image_shape mean std [genotype]


def load_trained(workdir, best=False):
  """The network of a training, or the supernet of a search, with its newest weights.

  Args:
    workdir: the folder of a run, finished or not.
    best: the weights after the epoch with the highest validation accuracy so far, of a training
      with `data.holdout`.

  Returns:
    `(apply_fn, variables, info)`. `apply_fn(variables, images)` gives float32 logits
    `[B, num_classes]` and may be jitted. Images are `[B, H, W, C]` with H, W and C as in
    `info['image_shape']`: uint8, or floating-point numbers from 0 to 1; it scales uint8 to 0..1,
    then subtracts the mean and divides by the standard deviation of the training images, as in
    training. `variables` is a pytree of numpy arrays. `info` has `kind` ('train' or 'search'),
    `class_names`, `image_shape`, `mean`, `std`, `stream` (whether it was measured on the centres of
    images, as streams give them), `genotype` (of a search, the one that its alpha and
    beta give), `config` (a dict), `step` and `metrics` (the last line of metrics, or None).

  Raises:
    ValueError, OSError: the folder holds no run or no checkpoint, or no best weights.
  """
  return use(read_run(workdir, best))


def use(saved, form='auto'):
  """What `load_trained` gives for a `Saved`, its network in the given form."""
  identity, state = saved.identity, parallel.fetch(saved.state)
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  if saved.kind == 'search':
    net, _, search = saved.parts
    variables['arch'] = state.arch._asdict()
    network = supernet_apply(net.clone(form=form), search, saved.step)
    cell = search.derive(state)
  else:
    network = saved.parts[0].clone(form=form).apply
    cell = saved.parts[0].genotype
  mean, std = np.float32(identity['mean']), np.float32(identity['std'])
  image_shape = tuple(identity['image_shape'])
  lines = json_files.read_lines(saved.path / 'metrics.jsonl')
  info = {
    'kind': saved.kind,
    'class_names': tuple(identity['class_names']),
    'image_shape': image_shape,
    'mean': mean,
    'std': std,
    'stream': plan_lib.is_stream(saved.config.data),
    'genotype': cell,
    'config': saved.config.to_dict(),
    'step': saved.step,
    'metrics': next((line for line in reversed(lines) if line['step'] <= saved.step), None),
  }

  def apply_fn(variables, images):
    return network(variables, standardize(images, image_shape, mean, std))

  return apply_fn, variables, info


def supernet_apply(net, search, step):
  """`(variables, images) -> logits` of a supernet whose alpha and beta are among the variables."""

  def apply(variables, images):
    weights, scores = search.mixture(Arch(**variables['arch']), step)
    learned = {name: variables[name] for name in ('params', 'batch_stats')}
    return net.apply(learned, images, weights, scores)

  return apply


def standardize(images, image_shape, mean, std):
  """Images as the network takes them; see `load_trained`."""
  images = jnp.asarray(images)
  if images.ndim != 4 or tuple(images.shape[1:]) != image_shape:
    height, width, channels = image_shape
    raise ValueError(
      f'images are of shape {images.shape}; they must be [B, {height}, {width}, {channels}]'
    )
  if images.dtype == jnp.uint8:
    return augment.normalize(images, mean, std)
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(f'images are {images.dtype}; they must be uint8, or floating-point 0 to 1')
  return (images.astype(jnp.float32) - mean) / std


# ---- reading a run -------------------------------------------------------------------------------


def read_run(workdir, best=False):
  """The `Saved` of a folder, or with `best` of its best epoch; changes nothing in it."""
  path = pathlib.Path(workdir).absolute()
  if not (path / 'config.json').is_file():
    raise FileNotFoundError(f'{path} is no run: it has no config.json')
  values = json_files.read_object(path / 'config.json')
  if 'seeds' in values:
    names = ', '.join(f'seed_{seed}' for seed in values['seeds'])
    raise ValueError(f'{path} holds several runs; name one of them: {names}')
  if not (path / 'checkpoints').is_dir():
    raise FileNotFoundError(f'{path} has no checkpoint yet')
  with checkpoint.Checkpoints(path / 'checkpoints', read_only=True) as saved:
    meta = own_meta(path, saved, values)
    kind, config, parts, init = rebuild(values, meta['identity'])
    like = jax.eval_shape(init, jax.random.key(0))
    step, position, meta = saved.restore_latest(like, meta['identity'])
  found = Saved(path, kind, config, parts, position.state, step, meta['identity'])
  return with_best(path, found, position.best) if best else found


def with_best(path, saved, best):
  """A `Saved` with the weights of its best epoch."""
  if best is None:
    raise ValueError(
      f'{path} has no best epoch: only a training with config.data.holdout, as 0.1, keeps one'
    )
  if best.accuracy < 0:
    raise ValueError(f'{path} has no best epoch yet: none is done')
  state = saved.state._replace(params=best.params, batch_stats=best.batch_stats, step=best.step)
  return saved._replace(state=state, step=int(best.step))


def own_meta(path, saved, values):
  """The meta of the newest checkpoint that is of the config of this folder."""
  fields = {name: value for name, value in values.items() if name != 'genotype'}
  own, found = {'config': fields_lib.digest(fields, plan_lib.FREE)}, False
  for _, meta in saved.metas():
    if isinstance(meta.get('identity'), dict) and not checkpoint.other_name(meta, own):
      return meta
    found = True
  if found:
    raise checkpoint.Unusable(f'the checkpoints in {path} are not of the run of its config.json')
  raise FileNotFoundError(f'{path} has no checkpoint yet')


def rebuild(values, identity):
  """(kind, config, parts, init) of a run, from its config.json."""
  values = dict(values)
  cell = values.pop('genotype', None)
  kind = 'train' if 'train' in values else 'search'
  like = config_lib.train_config() if kind == 'train' else config_lib.search_config()
  config = config_lib.updated(like, values, build.CHOICES)
  shapes = {
    'num_classes': len(identity['class_names']),
    'image_shape': tuple(identity['image_shape']),
  }
  if kind == 'train':
    genotype = genotype_lib.Genotype.from_dict(cell)
    parts = build.train_parts(config, genotype, steps_per_epoch=1, **shapes)
  else:
    parts = build.search_parts(config, num_steps=1, **shapes)
  return kind, config, parts, functools.partial(INITIAL[kind], config, parts[-1])


# Kind -> (config, training or search, key) -> the `steps.Position` before the first step.
INITIAL = {
  'search': lambda config, search, key: search_steps.first_position(search, key),
  'train': lambda config, training, key: train_steps.first_position(
    training, key, keep_best=config.data.holdout > 0
  ),
}


# ---- the evaluation of a checkpoint --------------------------------------------------------------


def prepare_evaluation(workdir, config=None, best=False):
  """Checks that a checkpoint can be measured; returns the function that does, and prints a line.

  Args:
    workdir: the folder of a training.
    config: where the data are now, and how it is measured; None for the config of the run.
    best: measure the weights of the best epoch, as of `load_trained`.
  """
  saved = read_run(workdir, best)
  if saved.kind != 'train':
    raise ValueError(f'{workdir} is a search; --eval-only measures a training')
  if config is not None:
    config_lib.validate(config, config_lib.train_config(), build.CHOICES)
    fields_lib.check_same(
      pathlib.Path(workdir), saved.config.to_dict(), config.to_dict(), ignore=FREE
    )
  feeds = train_plan.open_feeds(config or saved.config)
  check_data(saved.identity, feeds)

  def work():
    try:
      print(json.dumps(evaluate(saved, feeds, config or saved.config)))
    finally:
      feeds.close()

  return work


def check_data(identity, feeds):
  """ValueError where the data are not those of the run."""
  names, known = list(feeds.class_names), list(identity['class_names'])
  if len(names) != len(known):
    raise ValueError(f'{feeds.name} has {len(names)} classes; the run was made with {len(known)}')
  if names != known:
    raise ValueError(f'{feeds.name} has classes of other names than those of the run')
  for name in ('mean', 'std'):
    if list(map(float, getattr(feeds, name))) != identity[name]:
      raise ValueError(
        f'{feeds.name} has training images of another {name} than those of the run; for other '
        'images use load_trained'
      )
  if list(feeds.image_shape) != list(identity['image_shape']):
    raise ValueError(
      f'{feeds.name} has images of {list(feeds.image_shape)}; the run was made with '
      f'{identity["image_shape"]}'
    )


def evaluate(saved, feeds, config):
  """Accuracies of a checkpoint on all parts that are there to measure."""
  training, backend = saved.parts[-1], config.parallel.backend
  found = {'step': saved.step}
  state = parallel.replicate(saved.state, backend)
  for part in ('val', 'test'):
    feed = getattr(feeds, part)
    if feed is not None:
      program = steps.compile_evaluation(training.evaluate, feed, backend)
      data = parallel.replicate(feed.data, backend)
      values = steps.measure(program, state, data, feed, config.train.steps_per_call)
      found[f'{part}_images'] = values.pop('count')
      found |= {f'{part}_{name}': value for name, value in values.items()}
  for name in 'test', 'test_top5':
    if f'{name}_accuracy' in found:
      found[f'{name}_error_percent'] = 100 * (1 - found[f'{name}_accuracy'])
  return found
