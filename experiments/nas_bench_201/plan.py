"""The searches of a setting, in the order in which they run."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.nas_bench_201.rows import ROWS
from experiments.nas_bench_201.scales import Scale
from stretchnas_jax.sweeps.jobs import Job

_RATES = ('alpha.learning_rate', 'beta.learning_rate')


class Setting(NamedTuple):
  """The circumstances of a run.

  Attributes:
    name: of the scale.
    scale: the sizes.
    folder: of all searches.
    keys: of the rows.
    seeds: of each row; None for as many as a row wants.
    data_path: the images of CIFAR-10, or None.
  """

  name: str
  scale: Scale
  folder: pathlib.Path
  keys: tuple[str, ...]
  seeds: tuple[int, ...] | None = None
  data_path: str | None = None


class Trial(NamedTuple):
  """One seed of a row.

  Attributes:
    key: of the row.
    seed: of the search.
    job: the command.
  """

  key: str
  seed: int
  job: Job

  @property
  def folder(self) -> pathlib.Path:
    """The folder of the search."""
    return self.job.folders[0]


def trials(setting: Setting) -> list[Trial]:
  """Returns all searches of a setting.

  Groups of rows come one after another. In a group the seeds do, each with all rows, so that a run
  that stops anywhere leaves the same seeds of all its rows, except for one.

  Args:
    setting: the rows, the seeds and the folder.
  """
  found = []
  for place, key in enumerate(setting.keys):
    group, seeds = ROWS[key].group, setting.seeds
    if seeds is None:
      seeds = tuple(range(min(group.seeds, setting.scale.most_seeds)))
    found += [
      (group.place, seed, place, Trial(key, seed, _job(key, seed, setting))) for seed in seeds
    ]
  return [trial for *_, trial in sorted(found, key=lambda one: one[:3])]


def _job(key: str, seed: int, setting: Setting) -> Job:
  """Returns the command of a search."""
  folder = setting.folder / 'searches' / key / f'seed_{seed}'
  fields: dict[str, Any] = {**setting.scale.fields, 'seed': seed}
  fields |= dict.fromkeys(_RATES, setting.scale.rate)
  for name, value in ROWS[key].overrides.items():
    fields[name] = value * setting.scale.rate if name in _RATES else value
  if setting.scale.images:
    fields |= _data_fields(setting.data_path)
  words = [f'--config.{name}={value}' for name, value in fields.items()]
  first = f'--config=nas_bench_201:{ROWS[key].method}', f'--workdir={folder}'
  return Job('search', (*first, *words), (folder,))


def _data_fields(path: str | None) -> dict[str, str]:
  """Returns the fields of CIFAR-10: its own files, or class folders of images."""
  if path is None:
    return {'data.name': 'cifar10'}
  is_folder = (pathlib.Path(path) / 'train').is_dir()
  return {'data.name': 'folder' if is_folder else 'cifar10', 'data.path': path}


def missing(trials: Sequence[Trial], known: set[tuple[str, int]]) -> list[Trial]:
  """Returns the searches of which neither a line nor a finished folder is there.

  Args:
    trials: all searches.
    known: row and seed of each line.
  """
  return [one for one in trials if (one.key, one.seed) not in known and not one.job.finished]
