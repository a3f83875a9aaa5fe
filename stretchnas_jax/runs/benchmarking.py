"""A search or a training to be timed: its own compiled programs, on random images.

The images have the shape of the data set, so that nothing has to be downloaded or read.
"""

from typing import Any

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.data.datasets import encoded, loading, synthetic
from stretchnas_jax.runs import (
  build,
  find_cell,
  search_plan,
  search_steps,
  timing,
  train_plan,
  train_steps,
)
from stretchnas_jax.runs import plan as plan_lib

# The names of the number of weights and of the hours, by the kind of the run.
_NAMES = {
  'search': ('supernet_params', 'hours_for_whole_search'),
  'train': ('params', 'hours_for_whole_training'),
}

# The subject, words about it, and the assumptions about its data.
_Prepared = tuple[timing.Subject, str, dict[str, Any]]


def prepare(config: config_lib.ConfigDict, genotype: str | None) -> _Prepared:
  """Builds the subject of a benchmark from a config of either kind.

  Args:
    config: a search config or a training config.
    genotype: the cell of a training, as `find_cell.genotype_from` takes it; None for a search.

  Returns:
    The subject, a text about it, and what was assumed about its data.

  Raises:
    ValueError, OSError: one sentence that names the field or the flag.
  """
  if 'search' in config:
    if genotype is not None:
      raise ValueError(f'--genotype is {genotype!r}; it goes with a config of training only')
    return prepare_search(config)
  if 'train' not in config:
    raise ValueError('--config has neither a group search nor a group train')
  if not genotype:
    raise ValueError('--genotype=CELL is required: a name of the zoo, a file, or a search folder')
  return prepare_train(config, find_cell.genotype_from(genotype))


def prepare_search(config: config_lib.ConfigDict) -> _Prepared:
  """Builds the subject of a search; returns the same as `prepare`."""
  dataset, assumed = random_data(config, config_lib.search_config())
  plan = search_plan.plan_search(config, dataset)
  programs, settings = search_steps.compile_programs(plan), plan.settings
  validation = timing.Evaluation(programs.evaluate, plan.feeds.val, settings.epochs)
  subject = timing.Subject(
    settings, config.seed, plan.feeds.train, programs.init, programs.train, (validation,)
  )
  return subject, search_plan.describe_plan(plan), assumed


def prepare_train(config: config_lib.ConfigDict, genotype: Genotype) -> _Prepared:
  """Builds the subject of a training.

  Args:
    config: a training config.
    genotype: the cell.

  Returns:
    The same as `prepare`.
  """
  dataset, assumed = random_data(config, config_lib.train_config())
  plan = train_plan.plan_train(config, genotype, dataset)
  programs, settings = train_steps.compile_programs(plan), plan.settings
  tests = settings.epochs if config.train.test_every_epoch else 1
  evaluations = []
  if plan.feeds.val is not None:
    evaluations.append(timing.Evaluation(programs.val, plan.feeds.val, settings.epochs))
  if plan.feeds.test is not None:
    evaluations.append(timing.Evaluation(programs.test, plan.feeds.test, tests))
  subject = timing.Subject(
    settings, config.seed, plan.feeds.train, programs.init, programs.train, tuple(evaluations)
  )
  return subject, train_plan.describe_plan(plan), assumed


def random_data(
  config: config_lib.ConfigDict, like: config_lib.ConfigDict
) -> tuple[loading.Dataset | encoded.EncodedDataset, dict[str, Any]]:
  """Makes a data set of random images for a config.

  Args:
    config: the config, which is checked here.
    like: the default config of its kind.

  Returns:
    The data set, and what was assumed about the real one.
  """
  config_lib.validate(config, like, build.CHOICES)
  data, assumed = config.data, {}
  if plan_lib.is_stream(data):
    dataset = synthetic.encoded_dataset(data.name, path=data.path)
    assumed['file_pixels'] = 'x'.join(map(str, synthetic.FILE))
  else:
    dataset = synthetic.dataset(data.name, path=data.path, image_size=data.image_size)
    if data.name == 'folder':
      assumed['channels'] = dataset.train_images.shape[-1]
  if data.name == 'folder' and not data.path:
    assumed['train_images'] = len(dataset.train_labels)
    assumed['classes'] = len(dataset.class_names)
  return dataset, assumed


def report(
  subject: timing.Subject, kind: str, times: int, profile: str | None, evaluation: bool
) -> dict[str, Any]:
  """Times a subject; returns the figures under the names of a search or a training.

  Args:
    subject: the search or training.
    kind: 'search' or 'train'. The figures of the other kind are None.
    times: how often the time of a step is taken.
    profile: a folder for a trace, or None.
    evaluation: True to time evaluations too.
  """
  found = timing.time_subject(subject, times, profile, evaluation)
  params, hours = found.pop('params'), found.pop('seconds') / 3600
  for names in _NAMES.values():
    found |= dict.fromkeys(names)
  return found | dict(zip(_NAMES[kind], (params, hours)))
