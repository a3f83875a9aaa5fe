"""The compiled parts of a training."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stretchnas_jax.networks import initializers
from stretchnas_jax.runs import steps

SUMS = ('train_loss', 'train_accuracy')


class Best(NamedTuple):
  """The weights after the epoch with the highest validation accuracy, the first of equal ones."""

  params: Any
  batch_stats: Any
  accuracy: jax.Array  # [], float32; -1 before the first epoch is done
  step: jax.Array  # [], int32


class Programs(NamedTuple):
  """The compiled parts of a training; they compile when they are first called."""

  init: Any  # key -> position
  train: Any  # (position, data, batch, key) -> position
  val: Any  # (state, data, part, valid) -> sums, or None
  test: Any  # likewise
  called: set  # names of those that have been called


def first_position(training, key, keep_best):
  """The `Position` before the first step, with room for the best weights where they are kept."""
  state, best = training.init(key), None
  if keep_best:
    nothing = jax.tree.map(jnp.zeros_like, (state.params, state.batch_stats))
    best = Best(*nothing, jnp.float32(-1), jnp.int32(0))
  return steps.Position(state, steps.zero_sums(SUMS), best)


def better(best, state, accuracy):
  """`best`, or copies of the weights of a `TrainState` where these are more accurate."""
  accuracy = np.float32(accuracy)
  if accuracy <= np.asarray(best.accuracy):
    return best
  # Copies: the next step reuses the memory of its state.
  params, batch_stats, step = jax.tree.map(jnp.copy, (state.params, state.batch_stats, state.step))
  return Best(params, batch_stats, accuracy, step)


def compile_programs(plan):
  """The `Programs` of a `train_plan.Plan`; those of one seed serve every other."""
  training, feeds, backend = plan.training, plan.feeds, plan.settings.backend
  step = lambda state, examples, key, *, axis_name: training.step(
    state, examples['train'], key, axis_name=axis_name
  )
  evaluation = lambda feed: (
    None if feed is None else steps.compile_evaluation(training.evaluate, feed, backend)
  )
  return Programs(
    initializers.compiled(lambda key: first_position(training, key, feeds.val is not None)),
    steps.compile_step(step, feeds.train, backend),
    evaluation(feeds.val),
    evaluation(feeds.test),
    set(),
  )
