"""The parts that the plans of a search and a training share: checks, settings, words."""

from stretchnas_jax.config import ConfigDict
from stretchnas_jax.data.batches import feeds as feeds_lib
from stretchnas_jax.data.batches import opening
from stretchnas_jax.data.datasets import survey
from stretchnas_jax.machine import output, parallel
from stretchnas_jax.runs import loop


def check_form(form: str, platform: str) -> None:
  """Raises ValueError for the form on which XLA's compiler for GPUs ends the process (JAX 0.11).

  Args:
    form: of the config.
    platform: on which the steps run, see `parallel.Devices`.
  """
  if form == 'planes' and platform == 'gpu':
    raise ValueError("model.form is 'planes', which is for a CPU; on a GPU use auto or merged")


def check_even(channels: int, where: str) -> None:
  """Raises ValueError for an odd C where halves of it are needed.

  Args:
    channels: C.
    where: as the sentence says it, for example 'in a search'.
  """
  if channels % 2:
    raise ValueError(f'config.model.channels is {channels}; {where} it must be even')


def check_devices(field: str, batch_size: int, devices: parallel.Devices) -> None:
  """Raises ValueError unless a batch divides by the number of devices.

  Args:
    field: of the config, without `config.`.
    batch_size: its value.
    devices: of the run.
  """
  devices.check()
  if batch_size % devices.count:
    raise ValueError(
      f'config.{field} is {batch_size}; it must be a multiple of the {devices.count} devices'
    )


def settings_of(
  config: ConfigDict, group: ConfigDict, steps_per_epoch: int, devices: parallel.Devices
) -> loop.Settings:
  """Returns the settings of the loop.

  Args:
    config: of the run.
    group: its group `search` or `train`.
    steps_per_epoch: one pass over the training images.
    devices: of the run.
  """
  return loop.Settings(
    epochs=group.epochs,
    steps_per_epoch=steps_per_epoch,
    batch_size=group.batch_size,
    steps_per_call=group.steps_per_call,
    every_steps=config.checkpoint.every_steps,
    devices=devices,
    tensorboard=config.log.tensorboard,
  )


def describe_data(feeds: feeds_lib.Feeds, batch_size: int) -> str:
  """Returns lines about the data, for a person: sizes, classes, and what was passed over.

  Args:
    feeds: the data.
    batch_size: images of a batch, over all devices.
  """
  height, width, channels = feeds.image_shape
  steps, left = divmod(feeds.sizes['train'], batch_size)
  # An epoch leaves out its last, smaller batch. Each epoch has another order.
  waiting = f'; {left} images wait for another epoch' if left else ''
  words = {'train': f' ({steps} steps of {batch_size}{waiting})'}
  parts = ', '.join(f'{name} {size}{words.get(name, "")}' for name, size in feeds.sizes.items())
  lines = [
    f'data      {feeds.name}: {height}x{width}x{channels}, {len(feeds.class_names)} classes; '
    f'{parts}'
  ]
  lines += [
    f'          {part}: {survey.counts_text(feeds.class_names, counts)}'
    for part, counts in feeds.class_counts.items()
  ]
  lines += [f'warning   {text}' for text in feeds.warnings]
  return '\n'.join(map(output.printable, lines))  # a name must not begin a line of its own


def data_facts(feeds: feeds_lib.Feeds) -> dict:
  """Returns the facts about the data that `run.json` keeps.

  Args:
    feeds: of the run.
  """
  return {
    'name': feeds.name,
    'image_shape': list(feeds.image_shape),
    'parts': {
      part: {'images': size, 'classes': dict(zip(feeds.class_names, feeds.class_counts[part]))}
      for part, size in feeds.sizes.items()
    },
    'warnings': list(feeds.warnings),
  }


def own_validation(config: ConfigDict, feeds: feeds_lib.Feeds) -> dict:
  """Returns facts of a training that validates on images of the data set's own part.

  Args:
    config: of the training.
    feeds: its data.
  """
  if feeds.val is None or config.data.holdout:
    return {}
  measured = [part for part in ('val', 'test') if getattr(feeds, part) is not None]
  return {'evaluations': measured, 'stream': opening.is_streamed(config.data)}
