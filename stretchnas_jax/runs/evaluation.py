"""The evaluation of a training's checkpoint: `train --eval-only`."""

import json
import logging
import pathlib
from collections.abc import Callable
from typing import Any

from stretchnas_jax import config as config_lib
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.data.batches import feeds as feeds_lib
from stretchnas_jax.data.batches import opening
from stretchnas_jax.machine import devices as devices_lib
from stretchnas_jax.machine import faults, output, parallel
from stretchnas_jax.runs import build, identity, steps, trained
from stretchnas_jax.runs import fields as fields_lib
from stretchnas_jax.runs import parts as parts_lib
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.runs.parts import Parts

# Fields in which the config of an evaluation may differ from the config of the run.
FREE = (
  'data.path', 'data.workers', 'data.on_bad_image', 'data.max_pixels', 'data.compare_times',
  'train.batch_size', 'train.steps_per_call', 'parallel', 'checkpoint', 'log', 'seed',
  'model.batch_norm', 'weights.schedule', 'weights.schedule_by',
)  # fmt: skip


def prepare_evaluation(
  workdir: pathlib.Path | str,
  config: ConfigDict | None = None,
  best: bool = False,
  parts: Parts | None = None,
  trust: bool = False,
) -> Callable[[], None]:
  """Checks that a checkpoint can be measured; returns the function that measures and prints a line.

  Args:
    workdir: the folder of a training.
    config: says where the data are now, and how to measure; None for the config of the run.
    best: measures the weights of the best epoch, see `load_trained`.
    parts: own objects of the run, and its images.
    trust: run the program that makes them, see `parts.of_run`.
  """
  own = parts_lib.of_run(workdir_lib.absolute(workdir), parts, trust)
  saved = trained.read_run(workdir, best, parts=own)
  if saved.kind != 'train':
    raise ValueError(f'{workdir} is a search; --eval-only measures a training')
  if config is not None:
    config_lib.validate(config, config_lib.train_config(), build.CHOICES)
    fields_lib.check_same(
      pathlib.Path(workdir), saved.config.to_dict(), config.to_dict(), ignore=FREE
    )
  used = _for_devices(config or saved.config)
  feeds = opening.open_training(used, own.data)
  try:
    _check_data(saved.identity, feeds)
    measured = _without_trained_images(saved.path, feeds) if used.data.holdout else feeds
  except ValueError:
    feeds.close()
    raise

  def work() -> None:
    try:
      found = evaluate(saved, measured, used)
      if devices_lib.process()[0] == 0:
        output.result(json.dumps(found))
    finally:
      feeds.close()

  return work


def evaluate(saved: trained.Saved, feeds: feeds_lib.Feeds, config: ConfigDict) -> dict[str, Any]:
  """Returns accuracies of a checkpoint on all parts that are there to measure.

  Args:
    saved: the checkpoint of a training.
    feeds: the data.
    config: says on which devices, and with which batch.
  """
  training, devices = saved.objects.training, parallel.Devices(config.parallel.backend)
  found: dict[str, Any] = {'step': saved.step}
  state = devices.replicate(saved.state)
  for part in ('val', 'test'):
    feed = getattr(feeds, part)
    if feed is not None:
      program = steps.compile_evaluation(training.evaluate, feed, devices)
      data = devices.replicate(feed.data)
      values = steps.measure(program, state, data, feed, config.train.steps_per_call)
      found[f'{part}_images'] = values.pop('count')
      found |= {f'{part}_{name}': value for name, value in values.items()}
  for name in 'test', 'test_top5':
    if f'{name}_accuracy' in found:
      found[f'{name}_error_percent'] = 100 * (1 - found[f'{name}_accuracy'])
  return found


def _for_devices(config: ConfigDict) -> ConfigDict:
  """Returns the config with a batch that divides by the devices; no accuracy depends on it.

  Raises:
    ValueError: the backend cannot serve all processes of this job.
  """
  devices = parallel.Devices(config.parallel.backend)
  devices.check()
  config = config.copy_and_resolve_references()
  # Downwards where it can be, since a batch may not have more images than the data.
  config.train.batch_size = max(1, config.train.batch_size // devices.count) * devices.count
  return config


def _without_trained_images(path: pathlib.Path, feeds: feeds_lib.Feeds) -> feeds_lib.Feeds:
  """Returns feeds without a hold-out that may have images on which the run has trained.

  Args:
    path: the folder of the run.
    feeds: the data; the hold-out is chosen by the places of the training images.
  """
  known = identity.known(path)
  if known is None:  # a run of version 0.1
    return feeds
  with faults.reading(path / identity.FILE):
    before, now = ({'train': data['train']} for data in (known['data'], feeds.fingerprint))
    found = list(identity.data_differences(before, now, compare_times=False))
  if not found:
    return feeds
  logging.warning(
    'the hold-out is not measured, since the network may have trained on some of its images: the '
    'training images are not those of the run (%s)',
    '; '.join(found),
  )
  return feeds._replace(val=None)


def _check_data(known: dict, feeds: feeds_lib.Feeds) -> None:
  """Raises ValueError where the data are not the data of the run."""
  names, before = list(feeds.class_names), list(known['class_names'])
  if len(names) != len(before):
    raise ValueError(f'{feeds.name} has {len(names)} classes; the run was made with {len(before)}')
  if names != before:
    raise ValueError(f'{feeds.name} has classes of other names than those of the run')
  for name in ('mean', 'std'):
    if list(map(float, getattr(feeds, name))) != known[name]:
      raise ValueError(
        f'{feeds.name} has training images of another {name} than those of the run; for other '
        'images use load_trained'
      )
  if list(feeds.image_shape) != list(known['image_shape']):
    raise ValueError(
      f'{feeds.name} has images of {list(feeds.image_shape)}; the run was made with '
      f'{known["image_shape"]}'
    )
