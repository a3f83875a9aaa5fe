"""The commands of an experiment: every search and every training, in an order that works."""

import pathlib
import re
import shlex
from typing import NamedTuple

from stretchnas_jax.sweeps import scales
from stretchnas_jax.sweeps.spec import IMAGENET, IMAGENET_SEARCH

HOLDOUT = 0.1  # of the training images, for choosing among candidates


class Job(NamedTuple):
  """One command.

  Attributes:
    program: 'search' or 'train'.
    words: the rest of its command line.
    folders: of its runs, one for each seed; a `result.json` in each says that it is done.
    needs: folders that must be done before.
  """

  program: str
  words: tuple[str, ...]
  folders: tuple[pathlib.Path, ...]
  needs: tuple[pathlib.Path, ...] = ()

  @property
  def command(self):
    return shlex.join(['python', '-m', f'stretchnas_jax.{self.program}', *self.words])

  @property
  def finished(self):
    return all(is_done(folder) for folder in self.folders)


class Setting(NamedTuple):
  """How an experiment is to be run.

  Attributes:
    scale: a `scales.Scale`.
    folder: of all runs; experiments that use the same folder share their searches and trainings.
    seeds: whole numbers.
    data_path: where the images are, or None.
    imagenet_path: where those of ImageNet are, or None.
    split: whether each seed is a command of its own.
  """

  scale: scales.Scale
  folder: pathlib.Path
  seeds: tuple[int, ...]
  data_path: str | None = None
  imagenet_path: str | None = None
  split: bool = False


class Trial(NamedTuple):
  """What one seed of a run consists of.

  Attributes:
    seed: its seed.
    search: folder of the search whose cell it uses, or None.
    candidates: folders of the short trainings that choose the cell.
    training: folder of the training, or None where the search alone is looked at.
  """

  seed: int
  search: pathlib.Path | None
  candidates: tuple[pathlib.Path, ...]
  training: pathlib.Path | None


def is_done(folder):
  return (folder / 'result.json').exists()


def jobs_of(experiment, setting, keys):
  """The `Job`s of some runs of an experiment, each once, searches before what needs them."""
  jobs = {}
  for key in keys:
    run = experiment.runs[key]
    for job in run_jobs(experiment, run, setting):
      jobs[job.words] = job
  return list(jobs.values())


def run_jobs(experiment, run, setting):
  """The jobs of one run: its search, the choice of its cell, its training."""
  if run.cell is None:
    return
  run, found = shared(experiment, run, setting.scale), trials(experiment, run, setting)
  if (name := search_of(run.cell, experiment.searches)) is not None:
    yield from search_jobs(name, experiment.searches[name], setting)
  if run.layers is None:
    return
  texts = [cell_text(run, experiment.searches, trial, setting) for trial in found]
  for trial in found:
    yield from candidate_jobs(run, trial, setting)
  # A cell of the zoo is the same for all seeds, and one compilation serves them.
  same = search_of(run.cell, experiment.searches) is None and not run.cell.startswith('random')
  if same and not setting.split:
    yield train_job(run, texts[0], found, setting, several=True)
    return
  for text, trial in zip(texts, found):
    yield train_job(run, text, [trial], setting, several=same)


def trials(experiment, run, setting):
  """The `Trial`s of a run, one for each seed."""
  run = shared(experiment, run, setting.scale)
  name = search_of(run.cell, experiment.searches)
  found = []
  for seed in setting.seeds:
    training, candidates = None, ()
    if run.layers is not None:
      training = setting.folder / 'trainings' / slug(run) / f'seed_{seed}'
    if run.cell.startswith('random') and setting.scale.candidates > 1:
      folder = setting.folder / 'candidates' / slug(run) / f'seed_{seed}'
      candidates = tuple(folder / str(i) for i in range(setting.scale.candidates))
    search = None if name is None else setting.folder / 'searches' / name / f'seed_{seed}'
    found.append(Trial(seed, search, candidates, training))
  return found


def search_of(cell, searches):
  """The name of the search that a run's cell comes from, or None."""
  name = cell.removeprefix('random_ops:').split('@')[0]
  return name if name in searches else None


def shared(experiment, run, scale):
  """A run under the first of all names that its cell has, so that nothing is done twice."""
  searches = experiment.searches
  if (name := search_of(run.cell, searches)) is None:
    return run
  same = resolved(searches[name], scale)
  first = next(other for other, search in searches.items() if resolved(search, scale) == same)
  cell = run.cell.replace(name, first).removesuffix(f'@{scales.PAPER.epochs}')
  return run._replace(cell=cell)


def resolved(search, scale):
  """A search as it is made at a scale."""
  config, _ = scale.stand_ins.get(search.config, (search.config, ''))
  return search._replace(config=config, layers=scale.layers.get(search.layers, search.layers))


def slug(run):
  """A folder name that says all in which trainings of one scale differ."""
  recipe = '' if run.recipe == scales.CIFAR10 else '-imagenet'
  cell = re.sub('[^A-Za-z0-9_.]', '-', run.cell)
  return f'{cell}-L{run.layers}-{run.params:g}M{recipe}'


def cell_text(run, searches, trial, setting):
  """What `--genotype` is given."""
  if trial.candidates:
    return f'best:{trial.candidates[0].parent}'
  if run.cell.startswith('random'):
    return random_text(trial, trial.seed)
  if trial.search is None:
    return run.cell
  _, _, epoch = run.cell.partition('@')
  return f'{trial.search}@{scaled_epoch(int(epoch), setting.scale)}' if epoch else str(trial.search)


def scaled_epoch(epoch, scale):
  """Of the paper's 50 epochs, the same part of ours."""
  return max(1, round(epoch * scale.epochs / scales.PAPER.epochs))


def search_jobs(name, search, setting):
  scale, folder = setting.scale, setting.folder / 'searches' / name
  search = resolved(search, scale)
  fields = {**search.overrides, **scale.search}
  if search.config == IMAGENET_SEARCH:
    fields |= scale.imagenet_search
  fields |= data_field(setting, search.config, fields)
  fields['model.num_layers'] = search.layers
  fields['search.epochs'] = scale.epochs
  groups = [(seed,) for seed in setting.seeds] if setting.split else [setting.seeds]
  for seeds in groups:
    words = (f'--config={search.config}', f'--workdir={folder}', seeds_word(seeds))
    yield Job(
      'search', (*words, *override_words(fields)), tuple(folder / f'seed_{s}' for s in seeds)
    )


def candidate_jobs(run, trial, setting):
  """Short trainings of random cells, with images held out; each seed draws its own."""
  scale = setting.scale
  for i, folder in enumerate(trial.candidates):
    number = trial.seed * scale.candidates + i
    cell = random_text(trial, number)
    more = {'train.epochs': scale.candidate_epochs, 'data.holdout': HOLDOUT, 'seed': trial.seed}
    needs = () if trial.search is None else (trial.search,)
    yield Job('train', train_words(run, cell, folder, setting, more), (folder,), needs)


def random_text(trial, number):
  return f'random:{number}' if trial.search is None else f'random_ops:{trial.search}:{number}'


def train_job(run, cell, trials_, setting, several):
  """One training, or with `several` one command for those of all seeds."""
  folders = tuple(trial.training for trial in trials_)
  needs = [(trial.search,) * (trial.search is not None) + trial.candidates for trial in trials_]
  needs = tuple(dict.fromkeys(folder for part in needs for folder in part))
  if several:
    words = train_words(run, cell, folders[0].parent, setting, {})
    words = (*words, seeds_word([trial.seed for trial in trials_]))
  else:
    words = train_words(run, cell, folders[0], setting, {'seed': trials_[0].seed})
  return Job('train', words, folders, needs)


def train_words(run, cell, folder, setting, more):
  scale = setting.scale
  recipe = scale.recipes[run.recipe]
  fields = {**recipe.overrides, **data_field(setting, recipe.config, recipe.overrides), **more}
  fields['model.num_layers'] = scale.layers.get(run.layers, run.layers)
  words = (f'--config={recipe.config}', f'--workdir={folder}', f'--genotype={cell}')
  target = f'--target-params={run.params * scale.params * 1e6:.6g}'
  return (*words, target, *override_words(fields))


def data_field(setting, config, fields):
  """Where the images are, if the setting tells it."""
  imagenet = config in (IMAGENET, IMAGENET_SEARCH) and 'data.name' not in fields
  path = setting.imagenet_path if imagenet else setting.data_path
  return {} if path is None else {'data.path': path}


def seeds_word(seeds):
  return f'--seeds={",".join(map(str, seeds))}'


def override_words(fields):
  return tuple(f'--config.{name}={value}' for name, value in fields.items())
