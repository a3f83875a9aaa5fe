"""The commands of an experiment: every search and every training, in an order that works."""

import pathlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stretchnas_jax.sweeps import scales
from stretchnas_jax.sweeps.spec import IMAGENET, IMAGENET_SEARCH, Experiment, Run, Search
from stretchnas_jax.sweeps.trials import (
  Setting,
  Trial,
  canonical_run,
  is_done,
  is_random,
  search_at_scale,
  search_name,
  trials,
)

_HOLDOUT = 0.1  # the part of the training images that is held out to choose among candidates


class Job(NamedTuple):
  """One command.

  Attributes:
    program: 'search' or 'train'.
    words: the rest of the command line.
    folders: the folders of its runs, one for each seed.
    needs: the folders of runs that must be finished before.
  """

  program: str
  words: tuple[str, ...]
  folders: tuple[pathlib.Path, ...]
  needs: tuple[pathlib.Path, ...] = ()

  @property
  def command(self) -> str:
    """The command as a line for a shell."""
    return shlex.join(['python', '-m', f'stretchnas_jax.{self.program}', *self.words])

  @property
  def finished(self) -> bool:
    """True where all of its runs are finished."""
    return all(is_done(folder) for folder in self.folders)


def jobs_of(experiment: Experiment, setting: Setting, keys: Iterable[str]) -> list[Job]:
  """Returns the jobs of some runs, each job once.

  Args:
    experiment: the experiment.
    setting: the seeds, the scale and the folders.
    keys: the keys of the runs.

  Returns:
    The jobs; each of them stands behind the jobs that it needs.
  """
  jobs = {}
  for key in keys:
    for job in _run_jobs(experiment, experiment.runs[key], setting):
      jobs[job.words] = job
  return list(jobs.values())


def scaled_epoch(epoch: int, scale: scales.Scale) -> int:
  """Maps an epoch of the paper's 50-epoch search to a scale.

  Args:
    epoch: an epoch of the paper, from 1.
    scale: the sizes of the searches.
  """
  return max(1, round(epoch * scale.epochs / scales.PAPER.epochs))


def _run_jobs(experiment: Experiment, run: Run, setting: Setting) -> Iterator[Job]:
  """Yields the jobs of one run: its search, the choice of its cell, its training."""
  if run.cell is None:
    return
  run = canonical_run(experiment, run, setting.scale)
  run_trials = trials(experiment, run, setting)
  name = search_name(run.cell, experiment.searches)
  if name is not None:
    yield from _search_jobs(name, experiment.searches[name], setting)
  if run.layers is None:
    return
  for trial in run_trials:
    yield from _candidate_jobs(run, trial, setting)
  # A cell of the zoo is the same for all seeds, so that one compilation serves them.
  if name is None and not is_random(run.cell) and not setting.split:
    yield _published_cell_job(run, run_trials, setting)
    return
  for trial in run_trials:
    yield _train_job(run, trial, setting)


# ---- searches ------------------------------------------------------------------------------------


def _search_jobs(name: str, search: Search, setting: Setting) -> Iterator[Job]:
  """Yields the commands of a search: one for all seeds, or one for each."""
  scale = setting.scale
  search = search_at_scale(search, scale)
  fields = {**search.overrides, **scale.search}
  if search.config == IMAGENET_SEARCH:
    fields |= scale.imagenet_search
  fields |= _data_field(setting, search.config, fields)
  fields['model.num_layers'] = search.layers
  fields['search.epochs'] = scale.epochs
  folder = setting.folder / 'searches' / name
  folders = tuple(folder / f'seed_{seed}' for seed in setting.seeds)
  if not setting.split:
    words = (f'--config={search.config}', f'--workdir={folder}', _seeds_word(setting.seeds))
    yield Job('search', (*words, *_override_words(fields)), folders)
    return
  # One process holds the folder of several seeds, so that each seed begins in its own.
  for seed, own in zip(setting.seeds, folders):
    words = (f'--config={search.config}', f'--workdir={own}')
    yield Job('search', (*words, *_override_words({**fields, 'seed': seed})), (own,))


# ---- trainings -----------------------------------------------------------------------------------


def _candidate_jobs(run: Run, trial: Trial, setting: Setting) -> Iterator[Job]:
  """Yields short trainings of random cells, with images held out; each seed draws its own cells."""
  scale = setting.scale
  for i, folder in enumerate(trial.candidates):
    cell = _random_word(trial, trial.seed * scale.candidates + i)
    fields = {
      'train.epochs': scale.candidate_epochs,
      'data.holdout': _HOLDOUT,
      'seed': trial.seed,
    }
    needs = () if trial.search is None else (trial.search,)
    yield Job('train', _train_words(run, cell, folder, setting, fields), (folder,), needs)


def _published_cell_job(run: Run, run_trials: Sequence[Trial], setting: Setting) -> Job:
  """Returns one command for the trainings of all seeds, in folders of one parent."""
  folders = tuple(trial.training for trial in run_trials)
  words = _train_words(run, run.cell, folders[0].parent, setting, {})
  return Job('train', (*words, _seeds_word([trial.seed for trial in run_trials])), folders)


def _train_job(run: Run, trial: Trial, setting: Setting) -> Job:
  """Returns the command of one training."""
  cell = _cell_word(run, trial, setting)
  words = _train_words(run, cell, trial.training, setting, {'seed': trial.seed})
  needs = trial.candidates
  if trial.search is not None:
    needs = (trial.search, *needs)
  return Job('train', words, (trial.training,), needs)


def _train_words(
  run: Run, cell: str, folder: pathlib.Path, setting: Setting, more: Mapping[str, Any]
) -> tuple[str, ...]:
  """Returns the command line of a training; `more` are further config fields."""
  scale = setting.scale
  recipe = scale.recipes[run.recipe]
  fields = {**recipe.overrides, **_data_field(setting, recipe.config, recipe.overrides), **more}
  fields['model.num_layers'] = scale.layers.get(run.layers, run.layers)
  return (
    f'--config={recipe.config}',
    f'--workdir={folder}',
    f'--genotype={cell}',
    f'--target-params={run.params * scale.params * 1e6:.6g}',
    *_override_words(fields),
  )


def _cell_word(run: Run, trial: Trial, setting: Setting) -> str:
  """Returns the value of `--genotype` for a trial."""
  if trial.candidates:
    return f'best:{trial.candidates[0].parent}'
  if is_random(run.cell):
    return _random_word(trial, trial.seed)
  name, _, epoch = run.cell.partition('@')
  if trial.search is None:
    return name
  if not epoch:
    return str(trial.search)
  return f'{trial.search}@{scaled_epoch(int(epoch), setting.scale)}'


def _random_word(trial: Trial, number: int) -> str:
  """Returns the value of `--genotype` for the random cell with this number."""
  return f'random:{number}' if trial.search is None else f'random_ops:{trial.search}:{number}'


# ---- words ---------------------------------------------------------------------------------------


def _data_field(setting: Setting, config: str, fields: Mapping[str, Any]) -> dict[str, str]:
  """Returns the config field of the images' folder, if the setting knows it."""
  is_imagenet = config in (IMAGENET, IMAGENET_SEARCH) and 'data.name' not in fields
  path = setting.imagenet_path if is_imagenet else setting.data_path
  return {} if path is None else {'data.path': path}


def _seeds_word(seeds: Iterable[int]) -> str:
  return f'--seeds={",".join(map(str, seeds))}'


def _override_words(fields: Mapping[str, Any]) -> tuple[str, ...]:
  return tuple(f'--config.{name}={value}' for name, value in fields.items())
