"""The compiled parts of a training."""

from typing import Any, NamedTuple

import jax

from stretchnas_jax.runtime import steps

SUMS = ('train_loss', 'train_accuracy')


class Programs(NamedTuple):
  """The compiled parts of a training; they compile when they are first called."""

  init: Any  # key -> position
  train: Any  # (position, data, batch, key) -> position
  val: Any  # (state, data, part, valid) -> sums, or None
  test: Any  # likewise
  called: set  # names of those that have been called


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
    jax.jit(lambda key: steps.Position(training.init(key), steps.zero_sums(SUMS))),
    steps.compile_step(step, feeds.train, backend),
    evaluation(feeds.val),
    evaluation(feeds.test),
    set(),
  )
