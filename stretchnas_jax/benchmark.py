"""Times a search or a training here: `python -m stretchnas_jax.benchmark --config=FILE --steps=5`.

It runs the very programs that the run itself would, on random images in the shape of the data set,
and prints one JSON object on one line; words go to stderr. It needs no data.
"""

import contextlib
import json
import logging
import os
import platform
import sys

import jax

from stretchnas_jax import config as config_lib
from stretchnas_jax.cli import app
from stretchnas_jax.data.datasets import synthetic
from stretchnas_jax.machine import devices, parallel
from stretchnas_jax.runs import (
  build,
  find_cell,
  record,
  search_plan,
  search_steps,
  timing,
  train_plan,
  train_steps,
)
from stretchnas_jax.runs import plan as plan_lib

OPTIONS = (
  app.Option('steps', 5, 'how often the time is taken, after a first step that compiles'),
  app.Option('genotype', None, 'of a training: a name of the zoo, a file, or a search folder'),
  app.Option('profile', None, 'folder for a trace that TensorBoard and Perfetto open'),
  app.Option('evaluation', True, 'time evaluations too, which compile, for the hours'),
)


def random_data(config, like):
  """(a data set of noise as a checked config wants it, what was assumed about the real one)."""
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
    count, classes = len(dataset.train_labels), len(dataset.class_names)
    assumed |= {'train_images': count, 'classes': classes}
  return dataset, assumed


def search_subject(config):
  """(`Subject` of a search, words about it, what was assumed of its data)."""
  dataset, assumed = random_data(config, config_lib.search_config())
  plan = search_plan.plan_search(config, dataset)
  programs, settings = search_steps.compile_programs(plan), plan.settings
  validation = timing.Evaluation(programs.evaluate, plan.feeds.val, settings.epochs)
  subject = timing.Subject(
    settings, config.seed, plan.feeds.train, programs.init, programs.train, (validation,)
  )
  return subject, search_plan.describe_plan(plan), assumed


def train_subject(config, genotype):
  """As `search_subject`, for the training of a `Genotype`."""
  dataset, assumed = random_data(config, config_lib.train_config())
  plan = train_plan.plan_train(config, genotype, dataset)
  programs, settings = train_steps.compile_programs(plan), plan.settings
  tests = settings.epochs if config.train.test_every_epoch else 1
  evaluations = [
    timing.Evaluation(program, feed, times)
    for program, feed, times in (
      (programs.val, plan.feeds.val, settings.epochs),
      (programs.test, plan.feeds.test, tests),
    )
    if feed is not None
  ]
  subject = timing.Subject(
    settings, config.seed, plan.feeds.train, programs.init, programs.train, tuple(evaluations)
  )
  return subject, train_plan.describe_plan(plan), assumed


def subject_of(config, genotype):
  """What a config of either kind describes, as `search_subject` gives it."""
  if 'search' in config:
    if genotype is not None:
      raise ValueError(f'--genotype is {genotype!r}; it goes with a config of training only')
    return search_subject(config)
  if 'train' not in config:
    raise ValueError('--config has neither a group search nor a group train')
  if not genotype:
    raise ValueError('--genotype=CELL is required: a name of the zoo, a file, or a search folder')
  return train_subject(config, find_cell.genotype_from(genotype))


def report(subject, searches, **options):
  """What is printed, but for the command and the machine; `options` as of `time_subject`.

  A search and a training have names of their own for weights and hours; the others' are None.
  """
  found = timing.time_subject(subject, **options)
  params, hours = found.pop('params'), found.pop('seconds') / 3600
  names = ('supernet_params', 'hours_for_whole_search'), ('params', 'hours_for_whole_training')
  return found | dict.fromkeys(sum(names, ())) | dict(zip(names[not searches], (params, hours)))


def rounded(value):
  """Floats to a millionth, in lists too."""
  if isinstance(value, list):
    return [rounded(item) for item in value]
  return round(value, 6) if isinstance(value, float) else value


def prepare(args):
  if args.steps < 1:
    raise ValueError(f'--steps is {args.steps}; it must be at least 1')
  subject, about, assumed = subject_of(args.config, args.genotype)
  if args.profile is not None:
    os.makedirs(args.profile, exist_ok=True)

  def work():
    print(about, file=sys.stderr)
    if assumed:
      words = ', '.join(f'{value} {name}' for name, value in assumed.items())
      logging.info('assumed of the images: %s', words)
    found = {'config': args.config_file, 'overrides': args.overrides, 'genotype': args.genotype}
    with contextlib.closing(subject):
      found |= report(
        subject, 'search' in args.config, times=args.steps, profile=args.profile,
        evaluation=args.evaluation,
      )  # fmt: skip
    found |= {
      'assumed': assumed,
      'device': devices.kind(),
      'devices': parallel.device_count(subject.settings.backend),
      'versions': {'python': platform.python_version(), **record.versions()},
    }
    if jax.process_index() == 0:
      print(json.dumps({name: rounded(value) for name, value in found.items()}))

  return work


def main():
  app.run(prepare, workdir=False, options=OPTIONS)


if __name__ == '__main__':
  main()
