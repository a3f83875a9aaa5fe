"""A step as one loop, whose one compiled body serves all losses: the form that compiles fastest."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from stretchnas_jax.data.batches.examples import Batch
from stretchnas_jax.learning.losses import pmean
from stretchnas_jax.learning.rules import WEIGHTS_DRAW, Pass, add_scaled
from stretchnas_jax.learning.search_step import (
  MOVES_ARCH,
  NO_PASSES,
  Metrics,
  StepParts,
  learned,
  move_arch,
  move_weights,
  with_learned,
)
from stretchnas_jax.learning.state import Arch, SearchState

_Carry = tuple[SearchState, Arch, Float[Array, ' _']]
_Values = tuple[Float[Array, ''], Float[Array, '']]


class _Scheduled(NamedTuple):
  """One pass of the loop, or the arrays of all passes.

  Attributes:
    part: the place of its examples in the stacked parts of the batch.
    for_alpha: the factor of its gradients for alpha.
    for_beta: the factor of its gradients for beta.
    draw: the number of its random draws.
    moves_arch: whether alpha and beta move after it.
    moves_weights: whether the weights move after it.
  """

  part: Int[Array, '...']
  for_alpha: Float[Array, '...']
  for_beta: Float[Array, '...']
  draw: Int[Array, '...']
  moves_arch: Bool[Array, '...']
  moves_weights: Bool[Array, '...']


def scanned_step(parts: StepParts, state: SearchState, batch: Batch) -> tuple[SearchState, Metrics]:
  """Makes a step of a rule with passes as one loop.

  A program of several thousand operations compiles once instead of two to four times. Each pass
  computes the gradients of weights and architecture alike, which costs time at every step. Those
  for the weights that take longest are left out where they move nothing (`learning`).

  Args:
    parts: the parts of the step.
    state: before the step.
    batch: its examples.

  Returns:
    The state after the step, its number aside, and the metrics of the training loss.
  """
  schedule, stacked = _schedule(parts, batch)
  nothing = jax.tree.map(jnp.zeros_like, (state.params, state.batch_stats))
  # A loop copies each array that it carries, so all that the weights need crosses it as one vector.
  none_found, apart = ravel_pytree(nothing)

  def body(carry: _Carry, now: _Scheduled) -> tuple[_Carry, _Values]:
    state, total, _ = carry
    examples = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, now.part, 0, False), stacked)
    (value, (accuracy, batch_stats)), gradients = jax.value_and_grad(
      parts.loss, (0, 1), has_aux=True
    )(state.params, state.arch, examples, now.draw, now.moves_weights.astype(jnp.float32))
    to_weights, to_arch = pmean(gradients, parts.axis_name)
    total = add_scaled(total, to_arch, now.for_alpha, now.for_beta)
    state = _select(now.moves_arch, move_arch(parts, state, total), state)
    if parts.rule.weights_first:
      state = lax.cond(
        now.moves_weights,
        lambda state: move_weights(parts, state, to_weights, batch_stats),
        lambda state: state,
        state,
      )
    return (state, total, ravel_pytree((to_weights, batch_stats))[0]), (value, accuracy)

  start = state, jax.tree.map(jnp.zeros_like, state.arch), none_found
  if MOVES_ARCH in parts.knobs:
    (after, _, found), value, accuracy = _loop(body, start, schedule, parts)
  else:
    (after, _, found), (values, accuracies) = lax.scan(body, start, schedule)
    at = 0 if parts.rule.weights_first else -1
    value, accuracy = values[at], accuracies[at]
  if not parts.rule.weights_first:
    after = move_weights(parts, after, *apart(found))
  return after, {'train_loss': value, 'train_accuracy': accuracy}


def _select(moves: Bool[Array, ''], moved: SearchState, state: SearchState) -> SearchState:
  """Returns a state with the alpha and beta of `moved` if these move; a branch would copy them."""
  keep = lambda new, old: jnp.where(moves, new, old)
  return with_learned(state, jax.tree.map(keep, learned(moved), learned(state)))


def _loop(
  body: Callable[..., tuple[_Carry, _Values]], start: _Carry, schedule: _Scheduled, parts: StepParts
) -> tuple[_Carry, Float[Array, ''], Float[Array, '']]:
  """Runs the passes of a step; those for alpha and beta do not run where these rest.

  Args:
    body: of `scanned_step`.
    start: the values that it carries at first.
    schedule: the passes.
    parts: of the step.

  Returns:
    The values that it carries at last; loss and accuracy of the pass that moves the weights.
  """
  moves, count = jnp.asarray(parts.knobs[MOVES_ARCH]) > 0, len(schedule.part)
  schedule = schedule._replace(moves_arch=schedule.moves_arch & moves)

  def one(i: Int[Array, ''], carry: tuple[_Carry, _Values]) -> tuple[_Carry, _Values]:
    now = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 0, False), schedule)
    inner, values = body(carry[0], now)
    keep = lambda new, old: jnp.where(now.moves_weights, new, old)
    return inner, jax.tree.map(keep, values, carry[1])

  # The pass that moves the weights is at one end.
  first, end = jnp.where(moves, 0, count - 1), count
  if parts.rule.weights_first:
    first, end = 0, jnp.where(moves, count, 1)
  (inner, values) = lax.fori_loop(first, end, one, (start, (jnp.zeros(()), jnp.zeros(()))))
  return inner, *values


def _schedule(parts: StepParts, batch: Batch) -> tuple[_Scheduled, PyTree]:
  """Returns the passes of a step, each field with a leading axis, and the stacked examples."""
  rule, knobs = parts.rule, parts.knobs
  passes = list(zip(rule.passes(batch, knobs), rule.draws(batch, knobs)))
  if not passes:
    raise ValueError(NO_PASSES)
  # The pass that moves the weights comes last; a simultaneous rule may share it.
  passes.sort(key=lambda numbered: numbered[1] == WEIGHTS_DRAW)
  if passes[-1][1] != WEIGHTS_DRAW:
    passes.append((Pass('train', 0.0, 0.0), WEIGHTS_DRAW))
  weights_move_at = last = len(passes) - 1
  arch_moves_at = last if rule.simultaneous else last - 1
  if rule.weights_first:
    passes = [passes[-1], *passes[:-1]]
    weights_move_at, arch_moves_at = 0, last
  fields = sorted({one.part for one, _ in passes})
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *[batch.part(field) for field in fields])
  schedule = _Scheduled(
    jnp.array([fields.index(one.part) for one, _ in passes]),
    jnp.array([one.for_alpha for one, _ in passes], jnp.float32),
    jnp.array([one.for_beta for one, _ in passes], jnp.float32),
    jnp.array([draw for _, draw in passes]),
    jnp.arange(len(passes)) == arch_moves_at,
    jnp.arange(len(passes)) == weights_move_at,
  )
  return schedule, stacked
