"""The way of a run through its phases; a training, and most searches, have one phase.

The checkpoint after the last step of a phase belongs to that phase. The next phase begins from it
by a pure function. So a run that is stopped at a border, or inside a phase, goes on bit for bit.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import PyTree

from stretchnas_jax.runs import loop as loop_lib
from stretchnas_jax.runs import steps
from stretchnas_jax.runs import task as task_lib
from stretchnas_jax.runs.task import Plan, Programs, Stage, Task

_FACTS, _NUMBER, _STEPS = 'phase', 'number', 'steps_per_epoch'


class Walk:
  """The phases of a run, one after the other.

  Attributes:
    stage: the phase at work.
    data: by part, the images of the phase that are on the devices.
  """

  def __init__(self, task: Task, plan: Plan, programs: Programs) -> None:
    """Begins in the first phase.

    Args:
      task: the kind of run.
      plan: of the run.
      programs: the compiled parts of the first phase.
    """
    self._task, self._plan = task, plan
    self._programs = programs
    self.stage, self.data = Stage(0, plan, programs), {}
    spans = plan.settings.all_spans
    ends = itertools.accumulate(span.epochs * span.steps_per_epoch for span in spans)
    self._starts = [0, *ends][:-1]

  def restore(self, loop: loop_lib.Loop) -> steps.Work:
    """Takes up the run where its newest checkpoint left it; returns the steps of that phase.

    Args:
      loop: of the run.
    """
    position = task_lib.first_position(self._plan, self._programs)
    meta = loop.restore(position, self._like if len(self._starts) > 1 else None)
    self._take_up(*decided(meta))
    loop.facts = self._facts()
    loop.finished = self._task.has_ended(loop.position.state)
    return self._work()

  def borders(
    self, loop: loop_lib.Loop, begun: Callable[[], None]
  ) -> Mapping[int, Callable[[], steps.Work]]:
    """Returns, by the number of steps before a phase, a function that begins the phase.

    Args:
      loop: of the run.
      begun: called when a phase has begun; the task writes there what belongs to the phase.
    """
    cross = functools.partial(self._cross, loop, begun)
    return dict.fromkeys(self._starts[1:], cross)

  def _cross(self, loop: loop_lib.Loop, begun: Callable[[], None]) -> steps.Work:
    """Begins the phase after the present one; returns its steps."""
    before, devices = self.stage, self._plan.settings.devices
    position = devices.fetch(loop.position)
    phases = _phases_of(self._task)
    facts = phases.decide(before, before.number + 1, position.state)
    self._take_up(before.number + 1, facts)
    state = phases.cross(before, self.stage, position.state, self._key())
    loop.position = devices.replicate(position._replace(state=state))
    loop.facts = self._facts()
    loop.progress.message(phases.describe(self.stage))
    begun()
    return self._work()

  def _take_up(self, number: int, facts: dict) -> None:
    """Puts a phase to work, with the decisions that stand at its beginning."""
    if number != self.stage.number:
      feeds = self.stage.plan.feeds
      self.stage = _phases_of(self._task).stage(self._plan, self._programs, number, facts)
      self.data = self.data if self.stage.plan.feeds is feeds else {}

  def _like(self, step: int, meta: Mapping[str, Any]) -> PyTree:
    """Returns the shapes of a checkpoint."""
    del step
    (number, facts), plan = decided(meta), self._plan
    if number:
      plan = _phases_of(self._task).stage(plan, self._programs, number, facts).plan
    return jax.eval_shape(self._task.first(plan), jax.random.key(0))

  def _facts(self) -> dict:
    """Returns the facts that each checkpoint of the present phase keeps."""
    number, facts = self.stage.number, self.stage.facts
    kept = {_STEPS: self.stage.plan.feeds.train.steps_per_epoch}
    return {**kept, _FACTS: {_NUMBER: number, **facts}} if number else kept

  def _key(self) -> jax.Array:
    """Returns the key of the initial values of the present phase."""
    init_key, _ = task_lib.keys_of(self._plan)
    return jax.random.fold_in(init_key, self.stage.number)

  def _work(self) -> steps.Work:
    feed, devices = self.stage.plan.feeds.train, self._plan.settings.devices
    if 'train' not in self.data:
      self.data['train'] = devices.replicate(feed.data)
    key = devices.replicate(task_lib.keys_of(self._plan)[1])
    return steps.Work(feed, self.stage.programs.step, self.data['train'], key)


def decided(meta: Mapping[str, Any]) -> tuple[int, dict]:
  """Returns the phase to which a checkpoint belongs, and the facts with which the phase began.

  Args:
    meta: of the checkpoint.
  """
  facts = dict(meta.get(_FACTS, {}))
  return facts.pop(_NUMBER, 0), facts


def steps_per_epoch(meta: Mapping[str, Any], otherwise: int) -> int:
  """Returns the steps of an epoch in the phase of a checkpoint, by which its temperatures fall.

  Args:
    meta: of the checkpoint.
    otherwise: for a checkpoint of version 0.1, which does not tell.
  """
  return meta.get(_STEPS, otherwise)


def _phases_of(task: Task) -> task_lib.Phases:
  """Returns the functions of a task that has phases."""
  assert task.phases is not None  # only a plan of such a task has several spans
  return task.phases
