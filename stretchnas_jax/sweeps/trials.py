"""The trials of a run, one for each seed, and the folders of their searches and trainings."""

import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from stretchnas_jax.sweeps import scales
from stretchnas_jax.sweeps.spec import Experiment, Run, Search


class Setting(NamedTuple):
  """The circumstances in which an experiment is run.

  Attributes:
    scale: the sizes of searches and trainings.
    folder: the folder of all runs; experiments that use the same folder share their runs.
    seeds: the seeds of each run.
    data_path: the folder of the images, or None.
    imagenet_path: the folder of the images of ImageNet, or None.
    split: True where each seed is a command of its own.
  """

  scale: scales.Scale
  folder: pathlib.Path
  seeds: tuple[int, ...]
  data_path: str | None = None
  imagenet_path: str | None = None
  split: bool = False


class Trial(NamedTuple):
  """One seed of a run.

  Attributes:
    seed: the seed of its search and its training.
    search: the folder of the search that gives the cell, or None.
    candidates: the folders of the short trainings that choose the cell.
    training: the folder of the training, or None where only the search is measured.
  """

  seed: int
  search: pathlib.Path | None
  candidates: tuple[pathlib.Path, ...]
  training: pathlib.Path | None


def is_done(folder: pathlib.Path) -> bool:
  """Returns True where the folder holds a finished run."""
  return (folder / 'result.json').exists()


def trials(experiment: Experiment, run: Run, setting: Setting) -> list[Trial]:
  """Returns the trials of a run.

  Args:
    experiment: the experiment with the searches that the run may name.
    run: a run with a cell.
    setting: the seeds, the scale and the folder.
  """
  run = canonical_run(experiment, run, setting.scale)
  name = search_name(run.cell, experiment.searches)
  return [_trial(run, name, seed, setting) for seed in setting.seeds]


def search_name(cell: str | None, searches: Mapping[str, Search]) -> str | None:
  """Returns the name of the search that gives a cell, or None.

  Args:
    cell: the cell of a `Run`.
    searches: all searches of an experiment.
  """
  name = (cell or '').removeprefix('random_ops:').split('@')[0]
  return name if name in searches else None


def is_random(cell: str) -> bool:
  """Returns True for a cell with something random in it."""
  return cell.startswith('random')


def canonical_run(experiment: Experiment, run: Run, scale: scales.Scale) -> Run:
  """Returns a run under the first of all names that its cell has.

  Several searches may be equal at a scale. Under one name, each of them is run only once.

  Args:
    experiment: the experiment with all searches.
    run: a run with a cell.
    scale: the sizes of the searches.
  """
  searches = experiment.searches
  name = search_name(run.cell, searches)
  if name is None:
    return run
  same = search_at_scale(searches[name], scale)
  first = next(key for key, other in searches.items() if search_at_scale(other, scale) == same)
  cell = run.cell.replace(name, first).removesuffix(f'@{scales.PAPER.epochs}')
  return run._replace(cell=cell)


def search_at_scale(search: Search, scale: scales.Scale) -> Search:
  """Returns a search with the config and the number of layers that it has at a scale.

  Args:
    search: a search of the paper.
    scale: the sizes of the searches.
  """
  config, _ = scale.stand_ins.get(search.config, (search.config, ''))
  return search._replace(config=config, layers=scale.layers.get(search.layers, search.layers))


def _trial(run: Run, search: str | None, seed: int, setting: Setting) -> Trial:
  """Returns the folders of one seed of a run; `search` is the name of its search."""
  seed_folder = f'seed_{seed}'
  training = None
  if run.layers is not None:
    training = setting.folder / 'trainings' / _folder_name(run) / seed_folder
  candidates = ()
  if is_random(run.cell) and setting.scale.candidates > 1:
    folder = setting.folder / 'candidates' / _folder_name(run) / seed_folder
    candidates = tuple(folder / str(i) for i in range(setting.scale.candidates))
  searched = None if search is None else setting.folder / 'searches' / search / seed_folder
  return Trial(seed, searched, candidates, training)


def _folder_name(run: Run) -> str:
  """Returns a folder name that differs for all trainings that differ at one scale."""
  recipe = '' if run.recipe == scales.CIFAR10 else '-imagenet'
  cell = re.sub('[^A-Za-z0-9_.]', '-', run.cell)
  return f'{cell}-L{run.layers}-{run.params:g}M{recipe}'
