"""What is compiled: one step, and the evaluation of one batch; and how many of them are run.

Both take a feed's `examples` (see `data.feeds`), so that batches are made on the device. Steps are
sent to the devices one by one, without waiting: on a CPU XLA runs the same step slower inside a
compiled loop.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stretchnas_jax.machine import parallel


class Position(NamedTuple):
  """What a checkpoint holds: the state of a run, and the sums of the epoch under way."""

  state: Any  # with a field `step`
  sums: dict[str, jax.Array]
  best: Any = None  # what is kept of an earlier step; no step sees it


def zero_sums(names):
  return {name: jnp.zeros(()) for name in names}


def run_step(step, examples, position, data, batch, key, *, axis_name):
  """One step.

  Args:
    step: `step(state, {field: Examples}, key, *, axis_name) -> state, values`.
    examples: of a feed.
    position: a `Position`.
    data: of the feed.
    batch: one step of a chunk, `{field: [B, ...]}`.
    key: the root key; every draw depends on it, the step, the field and the place in the batch.
    axis_name: see `parallel`.
  """
  place = parallel.positions(jax.tree.leaves(batch)[0].shape[0], axis_name)
  step_key = jax.random.fold_in(key, position.state.step)
  made = {
    field: examples(data, batch[field], jax.random.fold_in(step_key, i), place)
    for i, field in enumerate(sorted(batch))
  }
  state, values = step(position.state, made, key, axis_name=axis_name)
  return Position(state, {name: total + values[name] for name, total in position.sums.items()})


def compile_step(step, feed, backend):
  """`run_step` as `(position, data, batch, key) -> position`; compiles when called."""
  bound = functools.partial(run_step, step, feed.examples)
  return parallel.data_parallel(bound, in_axes=(None, None, 0, None), backend=backend)


def run_chunk(program, position, data, chunk, key, count, compiled=None):
  """The first `count` steps of a chunk of a feed; does not wait for them.

  `compiled(program, *args)` is called before the first of them, with its arguments.
  """
  best, position = position.best, position._replace(best=None)
  for t in range(count):
    args = position, data, one_of(chunk, t), key
    if compiled is not None and t == 0:
      compiled(program, *args)
    position = program(*args)
  return position._replace(best=best)


def one_of(chunk, t):
  return jax.tree.map(lambda x: x[t], chunk)


def compile_evaluation(evaluate, feed, backend):
  """`(state, data, part [B, ...], valid [B]) -> {'loss', 'correct', ...}`, sums of a batch.

  Args:
    evaluate: `evaluate(state, examples, valid, *, axis_name) -> sums`.
    feed: a feed of evaluation.
    backend: see `parallel`.
  """

  def run(state, data, part, valid, *, axis_name):
    return evaluate(state, feed.examples(data, part), valid, axis_name=axis_name)

  return parallel.data_parallel(run, in_axes=(None, None, 0, 0), backend=backend, donate=())


def place(feed, other, placed, backend):
  """A feed's data on the devices; `placed` where it is the data of the feed `other`."""
  return placed if feed.data is other.data else parallel.replicate(feed.data, backend)


def measure(program, state, data, feed, length):
  """Means over all of a feed of evaluation, `length` batches at once.

  Images that cannot be read count for nothing.

  Returns:
    `loss`, `accuracy`, `top5_accuracy` where the program counts it, and of how many images these
    are the means, `count`.
  """
  totals = {}
  for part, valid in feed.chunks(length):
    sent = [program(state, data, one_of(part, t), valid[t]) for t in range(len(valid))]
    for sums in parallel.fetch(sent):
      totals = {name: totals.get(name, 0.0) + float(value) for name, value in sums.items()}
  means = {name: totals[name] / totals['count'] for name in totals}
  names = {'loss': 'loss', 'correct': 'accuracy', 'correct_top5': 'top5_accuracy'}
  found = {names[name]: mean for name, mean in means.items() if name in names}
  return {**found, 'count': round(totals['count'])}
