"""The time that steps and evaluations of a run take: the programs of the run itself, timed."""

import logging
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from stretchnas_jax.machine import measure, parallel
from stretchnas_jax.runs import steps
from stretchnas_jax.runs import task as task_lib
from stretchnas_jax.runs.settings import Span
from stretchnas_jax.runs.task import Plan, Task

# A call of fewer steps would be timed with the host's work for it, which a run does once for many.
_LEAST_SECONDS = 0.5
# The memory of a process settles in its first steps. Those of a small network are many a second.
_WARM_SECONDS, _WARM_STEPS = 3.0, 6


class Timer:
  """A planned run, at work as in its loop."""

  def __init__(self, task: Task, plan: Plan) -> None:
    """Compiles nothing yet.

    Args:
      task: the kind of run.
      plan: of the run.
    """
    self.task, self.plan, self.programs = task, plan, task.compile(plan)
    position, self.work = task_lib.begin(plan, self.programs)
    self.position = plan.settings.devices.replicate(position)
    self.step = 0

  def run(self, count: int, before: Callable[..., None] | None = None) -> float:
    """Runs steps in one call; returns the seconds that they take.

    Args:
      count: how many steps.
      before: see `steps.Work.advance`.
    """
    begin, settings = time.perf_counter(), self.plan.settings
    # Each call goes on where the last one ended, since a stream works ahead of the steps.
    epoch, done = divmod(self.step, settings.steps_per_epoch)
    if done + count > settings.steps_per_epoch:
      epoch, done = epoch + 1, 0
    chunk = self.work.feed.chunk(epoch, done, count, settings.longest_call)
    self.step = epoch * settings.steps_per_epoch + done + count
    self.position = self.work.advance(self.position, chunk, count, before)
    float(self.position.sums['train_loss'])  # waits for the steps
    return time.perf_counter() - begin

  def time_steps(self, times: int) -> dict[str, Any]:
    """Takes the time of a step several times; returns the figures, for a program.

    Args:
      times: how often.
    """
    logging.info('compiling the step ...')
    memory: list[Any] = []

    def keep_memory(program: parallel.Program, *args: PyTree) -> None:
      memory.append(program.memory(*args))

    with measure.compilation() as compiled:
      first = self.run(1, keep_memory)
    first_step_at = time.time()
    logging.info('first step after %.1f s', first)
    count = int(_LEAST_SECONDS / self._warm_up())
    count = max(1, min(self.plan.settings.longest_call, count))
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
      'images_per_second': self.plan.settings.batch_size / median,
      'peak_memory_mb': measure.peak_memory_mb(),
      'step_memory_mb': memory[0] and memory[0].total / 2**20,
      'first_step_at': first_step_at,
    }

  def time_evaluation(self, part: str, batches: int) -> tuple[float, float]:
    """Returns seconds of the first call, which compiles, and of a pass over a part of the data.

    Args:
      part: 'val' or 'test'.
      batches: how many are timed; the pass is reckoned from them.
    """
    logging.info('compiling the evaluation ...')
    feed, program = getattr(self.plan.feeds, part), self.programs.evaluate[part]
    train = self.work.feed.data, self.work.data
    data = self.plan.settings.devices.place(feed.data, *train)
    begin = time.perf_counter()
    some = next(iter(feed.chunks(batches)))
    reading = time.perf_counter() - begin
    first, again = (self._evaluate(program, data, *some) for _ in range(2))
    # The next batches are read while the devices compute: the slower of the two counts.
    return first, max(again, reading) * feed.count / some[1].size

  def _warm_up(self) -> float:
    """Returns the seconds of the last of some steps, each in a call of its own."""
    begin, last = time.perf_counter(), 0.0
    for _ in range(_WARM_STEPS):
      last = self.run(1)
      if time.perf_counter() - begin > _WARM_SECONDS:
        break
    return last

  def _evaluate(
    self, program: parallel.Program, data: PyTree, part: PyTree, valid: PyTree
  ) -> float:
    begin = time.perf_counter()
    state = self.position.state
    parallel.fetch(
      [program(state, data, steps.one_of(part, t), valid[t]) for t in range(len(valid))]
    )
    return time.perf_counter() - begin


def _seconds_of_steps(found: dict[str, Any], span: Span) -> float:
  """Returns the seconds of the compilation and of all steps of a phase."""
  steps_of_phase = span.epochs * span.steps_per_epoch
  compiling = found['compile_seconds'] + found['trace_seconds']
  return compiling + steps_of_phase * found['median_step_seconds']


def time_run(
  task: Task,
  plan: Plan,
  times: int,
  profile: pathlib.Path | str | None = None,
  evaluation: bool = True,
  later: Sequence[Plan] = (),
) -> dict[str, Any]:
  """Takes all figures of a run.

  Args:
    task: the kind of run.
    plan: of the run.
    times: how often the time of a step is taken.
    profile: a folder for a trace of one more call, or None.
    evaluation: times evaluations too; else the whole run is reckoned without them.
    later: the plans of the later phases, whose steps take other times.

  Returns:
    The result of `Timer.time_steps`, `evaluation_seconds` of all passes of the run (or None), the
    `seconds` of the whole run with its compilation, and the number of weights as `params`.
  """
  timer = Timer(task, plan)
  found = timer.time_steps(times)
  if profile is not None:
    with measure.trace(profile):
      timer.run(found['steps_per_measurement'])
    logging.info('traces: %s', ', '.join(map(str, measure.traces(profile))))
  spans = plan.settings.all_spans
  whole = _seconds_of_steps(found, spans[0])
  for one, span in zip(later, spans[1:]):
    whole += _seconds_of_steps(Timer(task, one).time_steps(times), span)
  found['evaluation_seconds'] = 0.0 if evaluation else None
  for part, passes in task.evaluations(plan).items() if evaluation else ():
    first, one = timer.time_evaluation(part, times)
    found['evaluation_seconds'] += passes * one
    whole += first + passes * one
  params = sum(leaf.size for leaf in jax.tree.leaves(timer.position.state.params))
  return found | {'seconds': whole, 'params': params}
