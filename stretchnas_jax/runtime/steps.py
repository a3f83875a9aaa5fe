"""What is compiled: many steps in one call, and the evaluation of many batches.

Both take a feed's `examples` (see `data.feeds`), so that batches are made on the device.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stretchnas_jax.runtime import parallel


class Position(NamedTuple):
  """What a checkpoint holds: the state of a run, and the sums of the epoch under way."""

  state: Any  # with a field `step`
  sums: dict[str, jax.Array]


def zero_sums(names):
  return {name: jnp.zeros(()) for name in names}


def run_chunk(step, examples, position, data, chunk, key, count, *, axis_name):
  """The first `count` of the steps of a chunk: one call, no host in between.

  Args:
    step: `step(state, {field: Examples}, key, *, axis_name) -> state, values`.
    examples: of a feed.
    position: a `Position`.
    data: of the feed.
    chunk: `{field: [T, B, ...]}`.
    key: the root key; every draw depends on it, the step, the field and the place in the batch.
    count: how many of the T steps are to be run.
    axis_name: see `parallel`.
  """
  fields = sorted(chunk)
  local_batch = jax.tree.leaves(chunk)[0].shape[1]

  def body(t, position):
    place = parallel.positions(local_batch, axis_name)
    step_key = jax.random.fold_in(key, position.state.step)
    batch = {
      field: examples(
        data, jax.tree.map(lambda x: x[t], chunk[field]), jax.random.fold_in(step_key, i), place
      )
      for i, field in enumerate(fields)
    }
    state, values = step(position.state, batch, key, axis_name=axis_name)
    return Position(state, {name: total + values[name] for name, total in position.sums.items()})

  return jax.lax.fori_loop(0, count, body, position)


def evaluate_chunk(evaluate, examples, state, data, part, valid, *, axis_name):
  """Sums over each of the batches `part` `[n, B, ...]`: `{name: [n]}`.

  Args:
    evaluate: `evaluate(state, examples, valid, *, axis_name) -> {'loss', 'correct', 'count'}`.
    examples: of a feed of evaluation.
    state: of the run.
    data: of the feed.
    part: the batches.
    valid: `[n, B]`, 0 for what does not count.
    axis_name: see `parallel`.
  """

  def body(_, batch):
    part, valid = batch
    return None, evaluate(state, examples(data, part), valid, axis_name=axis_name)

  return jax.lax.scan(body, None, (part, valid))[1]


def compile_steps(step, feed, backend):
  """`run_chunk` as `(position, data, chunk, key, count) -> position`; compiles when called."""
  bound = functools.partial(run_chunk, step, feed.examples)
  return parallel.data_parallel(bound, in_axes=(None, None, 1, None, None), backend=backend)


def compile_evaluation(evaluate, feed, backend):
  """`evaluate_chunk` as `(state, data, part, valid) -> sums`; compiles when called."""
  bound = functools.partial(evaluate_chunk, evaluate, feed.examples)
  return parallel.data_parallel(bound, in_axes=(None, None, 1, 1), backend=backend, donate=())


def place(feed, other, placed, backend):
  """A feed's data on the devices; `placed` where it is the data of the feed `other`."""
  return placed if feed.data is other.data else parallel.replicate(feed.data, backend)


def measure(program, state, data, feed, length):
  """Mean loss and accuracy over all of a feed of evaluation, `length` batches a call."""
  totals = {'loss': 0.0, 'correct': 0.0, 'count': 0.0}
  for part, valid in feed.chunks(length):
    sums = parallel.fetch(program(state, data, part, valid))
    # Batch by batch, so that the result does not depend on how many are in a call.
    for i in range(len(valid)):
      totals = {name: total + float(sums[name][i]) for name, total in totals.items()}
  return {
    'loss': totals['loss'] / totals['count'],
    'accuracy': totals['correct'] / totals['count'],
  }
