"""Times a search on this machine: `python -m stretchnas_jax.benchmark --config=FILE --steps=5`.

It runs the very programs that the search runs, on random images in the shape of the data set, and
prints one JSON object on one line; words go to stderr.
"""

import functools
import json
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from stretchnas_jax import app
from stretchnas_jax import config as config_lib
from stretchnas_jax import plan as plan_lib
from stretchnas_jax.data import noise
from stretchnas_jax.models import sizes
from stretchnas_jax.runtime import measure, parallel
from stretchnas_jax.runtime import workdir as workdir_lib

OPTIONS = (
  app.Option('steps', 5, 'how often the time is taken, after a first step that compiles'),
  app.Option('profile', None, 'folder for a trace that TensorBoard and Perfetto open'),
  app.Option('evaluation', True, 'time an evaluation too, which compiles, for the hours'),
)

# A call of fewer steps would be timed with the host's work for it, which a run does once for many.
LEAST_SECONDS = 0.5


class Subject(NamedTuple):
  """What is timed."""

  about: str  # what it does, for a person
  params: int  # weights
  batch_size: int  # training images of a step
  longest_call: int  # steps of one call, at most
  num_steps: int  # of the whole run
  num_evaluations: int  # of the whole run
  evaluation_batches: int  # of one evaluation
  start: Callable  # () -> state
  run: Callable  # (state, count) -> state; so many steps, done when it returns
  evaluate: Callable  # (state, count) -> None; so many batches of an evaluation


def of_search(plan):
  """The `Subject` that a `plan.Plan` of a search makes."""
  config, data = plan.config, plan.dataset
  init_key, step_key = jax.random.split(jax.random.key(config.seed))
  programs, validation = plan_lib.compile_programs(plan), plan_lib.validation_batches(plan)
  batches = plan_lib.epoch_batches(plan, 0)
  length = min(config.search.steps_per_call, plan.steps_per_epoch)
  put = functools.partial(parallel.replicate, backend=config.parallel.backend)
  on_device = functools.cache(lambda: put(plan_lib.Data(data.train_images, data.train_labels)))

  def start():
    on_device()
    return put(plan_lib.Position(jax.jit(plan.search.init)(init_key), plan_lib.zero_sums()))

  def run(position, count):
    indices = plan_lib.chunk_of(batches, 0, count, length)
    position = programs.train(position, on_device(), indices, step_key, np.int32(count))
    float(position.sums['train_loss'])  # waits, as the search does
    return position

  def evaluate(position, count):
    some = [x[:count] for x in validation]
    parallel.fetch(programs.evaluate(position.search, on_device(), *some))

  params = sizes.count_leaves(jax.eval_shape(plan.search.init, init_key).params)
  return Subject(
    plan_lib.describe_plan(plan), params, config.search.batch_size, length, plan.num_steps,
    config.search.epochs, len(validation[0]), start, run, evaluate,
  )  # fmt: skip


# ---- the clock -----------------------------------------------------------------------------------


def timed(work, *args):
  begin = time.perf_counter()
  return work(*args), time.perf_counter() - begin


def time_steps(subject, steps):
  """Runs the subject; returns its state and what `report` says of its steps.

  Args:
    subject: a `Subject`.
    steps: how often the time is taken.
  """
  state = subject.start()
  logging.info('compiling the step ...')
  with measure.compilation() as compiled:
    state, first = timed(subject.run, state, 1)
  first_step_at = time.time()
  logging.info('first step after %.1f s', first)
  state, once = timed(subject.run, state, 1)  # the first one without the compiler warms up
  count = max(1, min(subject.longest_call, int(LEAST_SECONDS / once)))
  seconds = []
  for i in range(steps):
    state, taken = timed(subject.run, state, count)
    seconds.append(taken / count)
    logging.info('%d/%d: %.4g s a step', i + 1, steps, seconds[-1])
  median = statistics.median(seconds)
  return state, {
    'compile_seconds': sum(compiled.seconds),
    'trace_seconds': max(0.0, first - sum(compiled.seconds) - median),
    'compiled_from_cache': compiled.from_cache,
    'step_seconds': seconds,
    'median_step_seconds': median,
    'steps_per_measurement': count,
    'images_per_second': subject.batch_size / median,
    'peak_memory_mb': measure.peak_memory_mb(),
    'first_step_at': first_step_at,
  }


def time_evaluation(subject, state, steps):
  """(seconds of the first call, which compiles; seconds of a whole evaluation thereafter).

  The latter is reckoned from no more than `steps` batches of it.
  """
  logging.info('compiling the evaluation ...')
  batches = min(steps, subject.evaluation_batches)
  _, first = timed(subject.evaluate, state, batches)
  _, again = timed(subject.evaluate, state, batches)
  return first, again / batches * subject.evaluation_batches


def report(subject, steps, profile=None, evaluation=True):
  """The object that `benchmark` prints, but for what it says of the config and the machine."""
  state, found = time_steps(subject, steps)
  if profile is not None:
    with measure.trace(profile):
      state = subject.run(state, found['steps_per_measurement'])
    logging.info('traces: %s', ', '.join(map(str, measure.traces(profile))))
  whole = found['compile_seconds'] + found['trace_seconds']
  whole += subject.num_steps * found['median_step_seconds']
  found |= {'evaluation_seconds': None}
  if evaluation:
    first, found['evaluation_seconds'] = time_evaluation(subject, state, steps)
    whole += first + subject.num_evaluations * found['evaluation_seconds']
  return found | {'supernet_params': subject.params, 'hours_for_whole_search': whole / 3600}


def rounded(value):
  """Floats to a millionth, in lists too."""
  if isinstance(value, list):
    return [rounded(item) for item in value]
  return round(value, 6) if isinstance(value, float) else value


# ---- the program ---------------------------------------------------------------------------------


def subject_of(config):
  """The `Subject` of a config, and what had to be assumed about its data."""
  if 'search' not in config:
    raise ValueError('--config is no config of a search: it has no group config.search')
  config_lib.validate(config, config_lib.search_config())
  data = config.data
  dataset = noise.dataset(data.name, path=data.path, image_size=data.image_size)
  assumed = {}
  if data.name == 'folder':
    assumed['channels'] = dataset.train_images.shape[-1]
    if not data.path:
      count, classes = len(dataset.train_images), len(dataset.class_names)
      assumed |= {'train_images': count, 'classes': classes}
  return of_search(plan_lib.plan_search(config, dataset)), assumed


def prepare(args):
  if args.steps < 1:
    raise ValueError(f'--steps is {args.steps}; it must be at least 1')
  subject, assumed = subject_of(args.config)
  if args.profile is not None:
    os.makedirs(args.profile, exist_ok=True)
  devices = parallel.device_count(args.config.parallel.backend)

  def work():
    print(subject.about, file=sys.stderr)
    if assumed:
      logging.info('assumed of the data: %s', ', '.join(f'{k} {v}' for k, v in assumed.items()))
    found = report(subject, args.steps, args.profile, args.evaluation)
    about = {'config': args.config_file, 'overrides': args.overrides}
    found |= {'assumed': assumed, 'device': jax.devices()[0].device_kind, 'devices': devices}
    found |= {'versions': {'python': platform.python_version(), **workdir_lib.versions()}}
    if jax.process_index() == 0:
      print(json.dumps({k: rounded(v) for k, v in (about | found).items()}))

  return work


def main():
  app.run(prepare, workdir=False, options=OPTIONS)


if __name__ == '__main__':
  main()
