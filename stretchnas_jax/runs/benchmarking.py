"""A search or a training to be timed: its own compiled programs, on random images.

The images have the shape of the data set, so that nothing has to be downloaded or read.
"""

import contextlib
import dataclasses
import pathlib
from typing import Any, NamedTuple

from stretchnas_jax import config as config_lib
from stretchnas_jax.data.batches import opening
from stretchnas_jax.machine import absent_devices, parallel, targets
from stretchnas_jax.runs import build, find_cell, search_borders, timing
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.search_task import SEARCH
from stretchnas_jax.runs.task import Plan, Task
from stretchnas_jax.runs.train_task import train_task

# The names of the number of weights and of the hours, by the kind of the run.
_NAMES = {
  'search': ('supernet_params', 'hours_for_whole_search'),
  'train': ('params', 'hours_for_whole_training'),
}


class Subject(NamedTuple):
  """A run to be timed.

  Attributes:
    task: the kind of run.
    plan: of the run, on random images.
    assumed: the assumptions about the real images, by name.
  """

  task: Task
  plan: Plan
  assumed: dict[str, Any]

  def describe(self) -> str:
    """Returns a few lines about the run, for a person."""
    return self.task.describe(self.plan)


def prepare(
  config: config_lib.ConfigDict,
  genotype: str | None,
  parts: Parts | None = None,
  trust: bool = False,
  devices: parallel.Devices | None = None,
) -> Subject:
  """Builds the subject of a benchmark from a config of either kind.

  Args:
    config: a search config or a training config.
    genotype: the cell of a training, as `find_cell.genotype_from` takes it; None for a search.
    parts: the researcher's own objects.
    trust: run the program that makes own operations of the cell's run, see `parts.of_run`.
    devices: on which it runs; None for those of this job.

  Raises:
    ValueError, OSError: one sentence that names the field or the flag.
  """
  task = _task_of(config, genotype)
  parts = parts or Parts()
  if genotype is not None and parts.operations is None:
    parts = Parts.of(parts, operations=find_cell.own_operations(genotype, trust))
  config_lib.validate(config, task.defaults(), build.CHOICES)
  data, assumed = opening.random_dataset(config.data)
  plan = task.plan(config, dataclasses.replace(parts, data=data), devices=devices)
  return Subject(task, plan, assumed)


def prepare_target(
  config: config_lib.ConfigDict,
  genotype: str | None,
  parts: Parts | None,
  trust: bool,
  target: targets.Target,
) -> Subject:
  """Builds the subject of a benchmark for chips that this machine does not have.

  Args:
    config: a search config or a training config.
    genotype: the cell of a training; None for a search.
    parts: the researcher's own objects.
    trust: see `prepare`.
    target: the chips. `parallel.backend=single` takes the first alone.

  Raises:
    ValueError, OSError: one sentence that names the field or the flag.
  """
  backend = config.parallel.backend
  parallel.check_backend(backend)
  devices = parallel.Devices(backend, absent_devices.of(target))
  return prepare(config, genotype, parts, trust, devices)


def _task_of(config: config_lib.ConfigDict, genotype: str | None) -> Task:
  """Returns the task of a config of either kind."""
  if 'search' in config:
    if genotype is not None:
      raise ValueError(f'--genotype is {genotype!r}; it goes with a config of training only')
    return SEARCH
  if 'train' not in config:
    raise ValueError('--config has neither a group search nor a group train')
  if not genotype:
    raise ValueError('--genotype=CELL is required: a name of the zoo, a file, or a search folder')
  return train_task(find_cell.genotype_from(genotype))


def report(
  subject: Subject, times: int, profile: pathlib.Path | str | None, evaluation: bool
) -> dict[str, Any]:
  """Times a subject; returns the figures under the names of a search or a training.

  Args:
    subject: the search or training. The figures of the other kind are None.
    times: how often the time of a step is taken.
    profile: a folder for a trace, or None.
    evaluation: True to time evaluations too.
  """
  with contextlib.closing(subject.plan):
    plan, later = subject.plan, []
    if len(plan.phases) > 1:
      later = list(search_borders.assumed_plans(plan))
    found = timing.time_run(subject.task, plan, times, profile, evaluation, later)
  params, hours = found.pop('params'), found.pop('seconds') / 3600
  for names in _NAMES.values():
    found |= dict.fromkeys(names)
  return found | dict(zip(_NAMES[subject.task.kind], (params, hours)))
