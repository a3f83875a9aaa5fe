"""How long the steps and evaluations of a run take: the programs of the run itself, timed."""

import logging
import statistics
import time
from typing import Any, NamedTuple

import jax

from stretchnas_jax.machine import measure, parallel
from stretchnas_jax.runs import loop, steps

# A call of fewer steps would be timed with the host's work for it, which a run does once for many.
LEAST_SECONDS = 0.5
# The memory of a process settles in its first steps; those of a small network are many a second.
WARM_SECONDS, WARM_STEPS = 3.0, 6


class Evaluation(NamedTuple):
  """A pass over a part of the data."""

  program: Any  # (state, data, part, valid) -> sums
  feed: Any
  times: int  # in the whole run


class Subject(NamedTuple):
  """What is timed: a search or a training."""

  settings: loop.Settings
  seed: int
  feed: Any  # of learning
  init: Any  # key -> position
  train: Any  # (position, data, batch, key) -> position
  evaluations: tuple[Evaluation, ...]

  def close(self):
    for feed in (self.feed, *(evaluation.feed for evaluation in self.evaluations)):
      feed.close()


class Timer:
  """A `Subject` at work, as `loop.Loop` would run it."""

  def __init__(self, subject):
    self.subject, settings = subject, subject.settings
    init_key, self.key = jax.random.split(jax.random.key(subject.seed))
    self.key = parallel.replicate(self.key, settings.backend)
    self.position = parallel.replicate(subject.init(init_key), settings.backend)
    self.data = parallel.replicate(subject.feed.data, settings.backend)
    self.longest_call = min(settings.steps_per_call, settings.steps_per_epoch)
    self.step = 0

  def run(self, count, compiled=None):
    """So many steps, in one call; returns the seconds that they take. See `steps.run_chunk`."""
    begin, subject = time.perf_counter(), self.subject
    # Each call goes on where the last one ended, as a stream works ahead of the steps.
    epoch, done = divmod(self.step, subject.settings.steps_per_epoch)
    if done + count > subject.settings.steps_per_epoch:
      epoch, done = epoch + 1, 0
    chunk = subject.feed.chunk(epoch, done, count, self.longest_call)
    self.step = epoch * subject.settings.steps_per_epoch + done + count
    self.position = steps.run_chunk(
      subject.train, self.position, self.data, chunk, self.key, count, compiled
    )
    float(self.position.sums['train_loss'])  # waits for the steps
    return time.perf_counter() - begin

  def time_steps(self, times):
    """Takes the time so often, and returns what that gives, for a program."""
    logging.info('compiling the step ...')
    memory = []
    with measure.compilation() as compiled:
      first = self.run(1, lambda program, *args: memory.append(program.memory(*args)))
    first_step_at = time.time()
    logging.info('first step after %.1f s', first)
    count = max(1, min(self.longest_call, int(LEAST_SECONDS / self.warm_up())))
    seconds = []
    for i in range(times):
      seconds.append(self.run(count) / count)
      logging.info('%d/%d: %.4g s a step', i + 1, times, seconds[-1])
    median, compiling = statistics.median(seconds), sum(compiled.seconds)
    return {
      'compile_seconds': compiling,
      'trace_seconds': max(0.0, first - compiling - median),
      'compiled_from_cache': compiled.from_cache,
      'step_seconds': seconds,
      'median_step_seconds': median,
      'steps_per_measurement': count,
      'images_per_second': self.subject.settings.batch_size / median,
      'peak_memory_mb': measure.peak_memory_mb(),
      'step_memory_mb': memory[0] and memory[0].total / 2**20,
      'first_step_at': first_step_at,
    }

  def warm_up(self):
    """Seconds of the last of some steps, each in a call of its own."""
    begin = time.perf_counter()
    for _ in range(WARM_STEPS):
      last = self.run(1)
      if time.perf_counter() - begin > WARM_SECONDS:
        break
    return last

  def time_evaluation(self, evaluation, batches):
    """(seconds of the first call, which compiles; of a whole pass, reckoned from some batches)."""
    logging.info('compiling the evaluation ...')
    feed = evaluation.feed
    shared = feed.data is self.subject.feed.data
    data = self.data if shared else parallel.replicate(feed.data, self.subject.settings.backend)
    begin = time.perf_counter()
    some = next(iter(feed.chunks(batches)))
    reading = time.perf_counter() - begin
    first, again = (self._evaluate(evaluation.program, data, *some) for _ in range(2))
    # The next batches are read while the devices compute: the slower of the two counts.
    return first, max(again, reading) * feed.count / some[1].size

  def _evaluate(self, program, data, part, valid):
    begin = time.perf_counter()
    state = self.position.state
    parallel.fetch(
      [program(state, data, steps.one_of(part, t), valid[t]) for t in range(len(valid))]
    )
    return time.perf_counter() - begin


def time_subject(subject, times, profile=None, evaluation=True):
  """All figures of a subject.

  Args:
    subject: a `Subject`.
    times: how often the time of a step is taken.
    profile: a folder for a trace of one more call, or None.
    evaluation: whether evaluations are timed too; else the whole run is reckoned without them.

  Returns:
    What `Timer.time_steps` gives, `evaluation_seconds` of all passes of the run (or None), the
    `seconds` of the whole run, compilation included, and the number of weights as `params`.
  """
  timer = Timer(subject)
  found = timer.time_steps(times)
  if profile is not None:
    with measure.trace(profile):
      timer.run(found['steps_per_measurement'])
    logging.info('traces: %s', ', '.join(map(str, measure.traces(profile))))
  whole = found['compile_seconds'] + found['trace_seconds']
  whole += subject.settings.num_steps * found['median_step_seconds']
  found['evaluation_seconds'] = 0.0 if evaluation else None
  for each in subject.evaluations if evaluation else ():
    first, one = timer.time_evaluation(each, times)
    found['evaluation_seconds'] += each.times * one
    whole += first + each.times * one
  params = sum(leaf.size for leaf in jax.tree.leaves(timer.position.state.params))
  return found | {'seconds': whole, 'params': params}
