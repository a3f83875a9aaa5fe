"""Compiled steps and evaluations, and how the host runs many of them.

A batch is made on the device, by a feed's `examples` (see `data.batches.feeds`). Steps are sent to
the devices one by one, without waiting. On a CPU XLA runs the same step slower inside a compiled
loop.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from stretchnas_jax.cells.promotion import with_usual_promotion
from stretchnas_jax.data.batches import feeds as feeds_lib
from stretchnas_jax.data.datasets import images
from stretchnas_jax.machine import parallel


class Position(NamedTuple):
  """The content of a checkpoint.

  Attributes:
    state: of the run; it has a field `step`.
    sums: over the steps of the unfinished epoch, by name.
    best: the weights of the best epoch, of a training with a hold-out. No step sees them.
  """

  state: Any
  sums: dict[str, Any]
  best: Any = None


class Work(NamedTuple):
  """The steps of a run: the compiled step with everything that it needs.

  Attributes:
    feed: gives the batches.
    program: `(position, data, batch, key) -> position`.
    data: of the feed, on the devices.
    key: the root key, on the devices.
  """

  feed: feeds_lib.TrainingFeed
  program: parallel.Program
  data: PyTree
  key: PRNGKeyArray

  def advance(
    self,
    position: Position,
    chunk: PyTree,
    count: int,
    before: Callable[..., None] | None = None,
  ) -> Position:
    """Runs the first steps of a chunk; does not wait for them.

    Args:
      position: where they begin.
      chunk: of the feed.
      count: how many steps.
      before: called with the program and the arguments of the first step.
    """
    best, position = position.best, position._replace(best=None)
    for t in range(count):
      args = position, self.data, one_of(chunk, t), self.key
      if before is not None and t == 0:
        before(self.program, *args)
      position = self.program(*args)
    return position._replace(best=best)


def zero_sums(names: Sequence[str]) -> dict[str, Float[Array, '']]:
  """Returns the sums before the first step of an epoch."""
  return {name: jnp.zeros(()) for name in names}


def compile_step(
  step: Callable[..., tuple[Any, dict]],
  batch_of: Callable[[dict], Any],
  feed: feeds_lib.TrainingFeed,
  devices: parallel.Devices,
) -> parallel.Program:
  """Returns one step as `(position, data, batch, key) -> position`; it compiles when called.

  Args:
    step: `step(state, batch, key, *, axis_name) -> state, values`.
    batch_of: makes the batch that `step` takes from `{field: Examples}`.
    feed: gives the examples on the device.
    devices: of the run.
  """
  bound = functools.partial(_run_step, step, batch_of, feed.examples)
  return devices.compile(bound, in_axes=(None, None, 0, None))


def compile_evaluation(
  evaluate: Callable[..., dict], feed: feeds_lib.EvaluationFeed, devices: parallel.Devices
) -> parallel.Program:
  """Returns an evaluation as `(state, data, part [B, ...], valid [B]) -> sums` of one batch.

  Args:
    evaluate: `evaluate(state, examples, valid, *, axis_name) -> sums`.
    feed: gives the examples on the device.
    devices: of the run.
  """

  @with_usual_promotion
  def run(
    state: Any, data: PyTree, part: PyTree, valid: Float[Array, 'B'], *, axis_name: str | None
  ) -> dict:
    return evaluate(state, feed.examples(data, part), valid, axis_name=axis_name)

  return devices.compile(run, in_axes=(None, None, 0, 0), donate=())


def measure(
  program: Callable[..., dict],
  state: Any,
  data: PyTree,
  feed: feeds_lib.EvaluationFeed,
  length: int,
) -> dict[str, float]:
  """Returns means over all images of a feed. Images that cannot be read do not count.

  Args:
    program: see `compile_evaluation`.
    state: of the run, on the devices.
    data: of the feed, on the devices.
    feed: gives the batches.
    length: how many batches are sent at once.

  Returns:
    `loss`, `accuracy`, `top5_accuracy` where the program counts it, and the number of images,
    `count`.

  Raises:
    BadImage: no image can be read.
  """
  totals: dict[str, float] = {}
  for part, valid in feed.chunks(length):
    sent = [program(state, data, one_of(part, t), valid[t]) for t in range(len(valid))]
    for sums in parallel.fetch(sent):
      totals = {name: totals.get(name, 0.0) + float(value) for name, value in sums.items()}
  if not totals['count']:
    raise images.BadImage(f'none of the {feed.count} images of the evaluation is readable')
  means = {name: totals[name] / totals['count'] for name in totals}
  names = {'loss': 'loss', 'correct': 'accuracy', 'correct_top5': 'top5_accuracy'}
  found = {names[name]: mean for name, mean in means.items() if name in names}
  return {**found, 'count': round(totals['count'])}


def one_of(chunk: PyTree, t: int) -> PyTree:
  """Returns the batch of step t of a chunk."""
  return jax.tree.map(lambda x: x[t], chunk)


@with_usual_promotion
def _run_step(
  step: Callable[..., tuple[Any, dict]],
  batch_of: Callable[[dict], Any],
  examples: Callable[..., Any],
  position: Position,
  data: PyTree,
  indices: dict[str, PyTree],
  key: PRNGKeyArray,
  *,
  axis_name: str | None,
) -> Position:
  """Runs one step. A draw depends on the key, the step, the field and the place in the batch."""
  place = parallel.positions(jax.tree.leaves(indices)[0].shape[0], axis_name)
  step_key = jax.random.fold_in(key, position.state.step)
  made = {
    field: examples(data, indices[field], jax.random.fold_in(step_key, i), place)
    for i, field in enumerate(sorted(indices))
  }
  state, values = step(position.state, batch_of(made), key, axis_name=axis_name)
  return Position(state, {name: total + values[name] for name, total in position.sums.items()})
