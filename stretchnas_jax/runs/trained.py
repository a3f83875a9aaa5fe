"""The weights of a run, by default the newest, for use: `load_trained`."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, PyTree

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.promotion import with_usual_promotion
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.config import names as names_lib
from stretchnas_jax.data.batches import augment, opening
from stretchnas_jax.learning import bilevel
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.machine import devices, parallel, start
from stretchnas_jax.networks import supernet
from stretchnas_jax.runs import (
  build,
  checkpoint,
  json_files,
  search_phases,
  steps,
  train_task,
  walk,
)
from stretchnas_jax.runs import identity as identity_lib
from stretchnas_jax.runs import parts as parts_lib
from stretchnas_jax.runs import phases as phases_lib
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.task import FREE


class Saved(NamedTuple):
  """A checkpoint of a run, with everything needed to use it.

  Attributes:
    path: the folder of the run.
    kind: 'search' or 'train'.
    config: of the run.
    phase: the config with the fields of the checkpoint's phase; that of the run without phases. In
      a search its `model.form` is 'auto', since that of the search may be for another platform.
    objects: `build.SearchObjects` or `build.TrainObjects`.
    state: of the checkpoint.
    step: after which it was saved.
    identity: class names, image shape, mean and standard deviation of the images.
  """

  path: pathlib.Path
  kind: str
  config: ConfigDict
  phase: ConfigDict
  objects: Any
  state: Any
  step: int
  identity: dict


def load_trained(
  workdir: pathlib.Path | str,
  best: bool = False,
  *,
  step: int | None = None,
  parts: Parts | Mapping[str, Any] | None = None,
  trust: bool = False,
) -> tuple[Callable[..., Float[Array, 'B M']], dict, dict]:
  """Loads the network of a training, or the supernet of a search, with weights of a checkpoint.

  Args:
    workdir: the folder of a run, finished or not.
    best: the weights after the epoch with the highest validation accuracy so far, of a training
      with `data.holdout`; together with `step`, so far at that step.
    step: takes the checkpoint after so many steps; None for the newest. Most earlier ones are
      deleted, see `checkpoint.keep` and `checkpoint.keep_every_epochs`.
    parts: the objects of your own with which the run was made. A run of a config file with
      `get_parts` needs none on the machine that made it.
    trust: run the program `parts.py` that the folder keeps, though it comes from elsewhere.

  Returns:
    `(apply_fn, variables, info)`. `apply_fn(variables, images)` gives float32 logits
    `[B, num_classes]` and may be jitted. Images are `[B, H, W, C]` with the sizes of
    `info['image_shape']`: uint8, or floating-point numbers from 0 to 1. It scales uint8 to 0..1,
    then subtracts the mean and divides by the standard deviation of the training images, as in
    training. `variables` is a pytree of NumPy arrays. `info` has `kind` ('train' or 'search'),
    `class_names`, `image_shape`, `mean`, `std`, `stream` (True where the run measured on the
    centres of images, as streams do), `genotype` (of a search, the cell that its alpha and beta
    give), `config` (a dict, of the whole run, with the phases of the config in `search.phases`),
    `step` and `metrics` (the last line of metrics up to that step, or None).

  Raises:
    FileNotFoundError: the folder holds no run, no checkpoint yet, or none of that step.
    ValueError: it is damaged, it was made with objects that are missing, or has no best epoch.

  Example:
    >>> apply_fn, variables, info = load_trained('runs/d1')
    >>> images = np.zeros((2, *info['image_shape']), np.uint8)
    >>> jax.jit(apply_fn)(variables, images).shape  # a logit for each class
    (2, 10)
  """
  return use(read_run(workdir, best, step=step, parts=parts, trust=trust))


def use(
  saved: Saved, form: str = 'auto', exact: bool = False
) -> tuple[Callable[..., Float[Array, 'B M']], dict, dict]:
  """Returns the result of `load_trained` for a `Saved`.

  Args:
    saved: the checkpoint.
    form: in which the network computes, see `Supernet` and `FixedNetwork`.
    exact: compute in full float32 on each device, also where the run did not.
  """
  identity, state = saved.identity, parallel.fetch(saved.state)
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  net = saved.objects.net.clone(form=form, **({'dtype': jnp.float32} if exact else {}))
  if saved.kind == 'search':
    variables['arch'] = state.arch._asdict()
    network = functools.partial(
      _supernet_logits, net, saved.objects.search, saved.step, state.control
    )
    cell = saved.objects.search.decode(state.arch, saved.step, state.control)[0]
  else:
    network, cell = net.apply, net.genotype
  mean, std = np.float32(identity['mean']), np.float32(identity['std'])
  image_shape = tuple(identity['image_shape'])
  lines = json_files.read_lines(saved.path / 'metrics.jsonl')
  info = {
    'kind': saved.kind,
    'class_names': tuple(identity['class_names']),
    'image_shape': image_shape,
    'mean': mean,
    'std': std,
    'stream': identity.get(
      'stream', 'evaluations' not in identity and opening.is_streamed(saved.config.data)
    ),
    'genotype': cell,
    'config': saved.config.to_dict(),
    'step': saved.step,
    'metrics': next((line for line in reversed(lines) if line['step'] <= saved.step), None),
  }

  network = build.at_precision(network, 'highest' if exact else saved.phase.model.precision)

  @with_usual_promotion
  def apply_fn(variables: dict, images: AnyArray) -> Float[Array, 'B M']:
    on_device = jax.tree.map(jnp.asarray, variables)
    return network(on_device, _standardized(images, image_shape, mean, std))

  return apply_fn, variables, info


def _supernet_logits(
  net: supernet.Supernet,
  search: bilevel.Search,
  step: int,
  control: Any,
  variables: dict,
  images: Float[Array, 'B H W C'],
) -> Float[Array, 'B M']:
  """Returns the logits of a supernet whose alpha and beta are among its variables."""
  learned = {name: variables[name] for name in ('params', 'batch_stats')}
  mixture = search.mixture(Arch(**variables['arch']), step, control)
  return net.apply(learned, images, *mixture, **search.network_inputs(step, control))


def _standardized(
  images: Any,
  image_shape: tuple[int, ...],
  mean: Float32[np.ndarray, 'C'],
  std: Float32[np.ndarray, 'C'],
) -> Float[Array, 'B H W C']:
  """Returns images in the form that the network takes; see `load_trained`."""
  images = jnp.asarray(images)
  if images.ndim != 4 or tuple(images.shape[1:]) != image_shape:
    height, width, channels = image_shape
    raise ValueError(
      f'images are of shape {images.shape}; they must be [B, {height}, {width}, {channels}]'
    )
  return augment.normalize(images, mean, std)


def read_run(
  workdir: pathlib.Path | str,
  best: bool = False,
  *,
  step: int | None = None,
  parts: Parts | Mapping[str, Any] | None = None,
  trust: bool = False,
) -> Saved:
  """Reads a checkpoint of a run, by default the newest; changes nothing in its folder.

  Args:
    workdir: the folder.
    best: takes the weights of the best epoch.
    step: as for `load_trained`.
    parts: as for `load_trained`.
    trust: as for `load_trained`.
  """
  start.set_up()
  devices.start()
  path = workdir_lib.absolute(workdir)
  if not (path / 'config.json').is_file():
    raise FileNotFoundError(f'{path} is not a run: it has no config.json')
  values = json_files.read_object(path / 'config.json')
  if 'seeds' in values:
    names = names_lib.some(f'seed_{seed}' for seed in values['seeds'])
    raise ValueError(f'{path} holds several runs; name one of them: {names}')
  if not (path / 'checkpoints').is_dir():
    raise FileNotFoundError(f'{path} has no checkpoint yet')
  own = parts_lib.of_run(path, parts, trust)
  with checkpoint.Checkpoints(path / 'checkpoints', read_only=True) as saved:
    meta = _own_meta(path, saved, values, step)
    rebuild = functools.partial(_rebuild, values, own, parts_lib.steps_per_epoch(path))
    decided, rebuilt = walk.decided(meta), rebuild(meta)

    def like(number: int, meta: Mapping[str, Any]) -> PyTree:
      nonlocal decided, rebuilt
      if walk.decided(meta) != decided:  # this older checkpoint is of an earlier phase
        decided, rebuilt = walk.decided(meta), rebuild(meta)
      return jax.eval_shape(rebuilt[-1], jax.random.key(0))

    restore = saved.restore_latest if step is None else functools.partial(saved.restore, step)
    restored = restore(like, meta['identity'])
  if restored is None:
    raise FileNotFoundError(f'{path} has no checkpoint yet')
  number, position, meta = restored
  found = Saved(path, *rebuilt[:-1], position.state, number, meta['identity'])
  return _with_best(path, found, position.best) if best else found


def _with_best(path: pathlib.Path, saved: Saved, best: train_task.Best | None) -> Saved:
  """Returns a `Saved` with the weights of its best epoch."""
  if best is None:
    raise ValueError(
      f'{path} has no best epoch: only a training with config.data.holdout, for example 0.1, '
      'keeps one'
    )
  if best.accuracy < 0:
    raise ValueError(f'{path} has no best epoch yet: none is done')
  state = saved.state._replace(params=best.params, batch_stats=best.batch_stats, step=best.step)
  return saved._replace(state=state, step=int(best.step))


def _own_meta(
  path: pathlib.Path, saved: checkpoint.Checkpoints, values: dict, step: int | None
) -> dict:
  """Returns the meta of a checkpoint that belongs to the config of this folder."""
  steps = saved.steps()
  if step is not None and steps and step not in steps:
    raise FileNotFoundError(
      f'{path} has no checkpoint of step {step}; those that are there are of steps '
      f'{names_lib.some(map(str, steps))}'
    )
  fields = {name: value for name, value in values.items() if name != 'genotype'}
  own, found = identity_lib.of_config(fields, FREE), False
  metas = [(step, saved.meta(step))] if step in steps else saved.metas()
  for _, meta in metas:
    if isinstance(meta.get('identity'), dict) and not checkpoint.other_name(meta, own):
      return meta
    found = True
  if found:
    raise checkpoint.Unusable(f'the checkpoints in {path} are not of the run of its config.json')
  raise FileNotFoundError(f'{path} has no checkpoint yet')


def _rebuild(
  values: dict, own: Parts, otherwise: int, meta: Mapping[str, Any]
) -> tuple[str, ConfigDict, ConfigDict, Any, Callable[..., steps.Position]]:
  """Returns kind, config, that of the phase, objects and first position, from config.json."""
  values, identity = dict(values), meta['identity']
  steps_per_epoch = walk.steps_per_epoch(meta, otherwise)
  cell = values.pop('genotype', None)
  values.pop('parts', None)
  values.pop('start_from', None)
  kind = 'train' if 'train' in values else 'search'
  like = config_lib.train_config() if kind == 'train' else config_lib.search_config()
  config = config_lib.updated(config_lib.when_absent(like), values, build.CHOICES)
  shapes = {
    'num_classes': len(identity['class_names']),
    'image_shape': tuple(identity['image_shape']),
  }
  if kind == 'search':
    number, facts = walk.decided(meta)
    phase = phases_lib.read(config.copy_and_resolve_references(), own.phases)[number]
    phase.config.model.form = 'auto'
    objects = search_phases.objects_of(phase, own, facts, steps_per_epoch=steps_per_epoch, **shapes)
    first = functools.partial(search_phases.first_position, objects)
    return kind, config, phase.config, objects, first
  genotype = genotype_lib.from_fields(cell, tuple(own.all_operations()))
  objects = build.train_objects(config, genotype, own, steps_per_epoch=steps_per_epoch, **shapes)
  keep_best = config.data.holdout > 0 or 'val' in identity.get('evaluations', ())
  first = functools.partial(train_task.first_position, objects.training, keep_best=keep_best)
  return kind, config, config, objects, first
