"""The compiled parts of a search, and what its epochs say."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from stretchnas_jax.cells import relaxation, topology
from stretchnas_jax.data.batches.examples import Batch
from stretchnas_jax.networks import initializers
from stretchnas_jax.runs import steps

SUMS = ('train_loss', 'train_accuracy', 'penalty')


class Programs(NamedTuple):
  """The compiled parts of a search; they compile when they are first called."""

  init: Any  # key -> position
  train: Any  # (position, data, batch, key) -> position
  evaluate: Any  # (state, data, part, valid) -> sums
  called: set  # names of those that have been called


def first_position(search, key):
  """The `Position` before the first step."""
  return steps.Position(search.init(key), steps.zero_sums(SUMS))


def compile_programs(plan):
  """The `Programs` of a `search_plan.Plan`; those of one seed serve every other."""
  search, backend = plan.search, plan.settings.backend

  def step(state, examples, key, *, axis_name):
    batch = Batch(examples['train'], examples['val_alpha'], examples.get('val_beta'))
    return search.step(state, batch, key, axis_name=axis_name)

  return Programs(
    initializers.compiled(lambda key: first_position(search, key)),
    steps.compile_step(step, plan.feeds.train, backend),
    steps.compile_evaluation(search.evaluate, plan.feeds.val, backend),
    set(),
  )


def architecture_metrics(arch, table, op_weights, primitives=()):
  """How far alpha and beta have decided, and how much `none` weighs where it may be chosen."""
  mean = lambda values: float(sum(values) / len(values))
  return {
    'penalty': float(
      sum(topology.invalid_topology_penalty(beta, table) for beta in arch.beta.values())
    ),
    'alpha_entropy': mean([relaxation.entropy(weights) for weights in op_weights.values()]),
    'beta_entropy': mean([topology.beta_entropy(beta, table) for beta in arch.beta.values()]),
    **none_weights(op_weights, primitives),
  }


def none_weights(op_weights, primitives):
  """The mean and the largest weight of `none` over the edges of both cells; {} without it."""
  if 'none' not in primitives:
    return {}
  i = primitives.index('none')
  found = jnp.concatenate([weights[:, i] for weights in op_weights.values()])
  return {'none_weight_mean': float(found.mean()), 'none_weight_max': float(found.max())}
