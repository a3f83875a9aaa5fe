"""One step of a search, in two forms that give the same numbers.

The unrolled form runs any rule. The scanned form runs a weighted sum of losses in a loop, whose one
compiled body serves every loss of the step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from stretchnas_jax.cells.relaxation import Knobs
from stretchnas_jax.data.batches.examples import Batch
from stretchnas_jax.learning.losses import move, pmean
from stretchnas_jax.learning.rules import WEIGHTS_DRAW, Pass, Rule, add_scaled
from stretchnas_jax.learning.state import Arch, Context, SearchState

Metrics = dict[str, Float[Array, '']]

_Carry = tuple[SearchState, Arch, Float[Array, ' _']]
_Values = tuple[Float[Array, ''], Float[Array, '']]
_MOVES_ARCH = 'moves_arch'


class Optimizers(NamedTuple):
  """The optimizers of a search."""

  weights: optax.GradientTransformation
  alpha: optax.GradientTransformation
  beta: optax.GradientTransformation


class StepParts(NamedTuple):
  """The parts of one step.

  Attributes:
    rule: the update rule.
    optimizers: of weights, alpha and beta.
    loss: `loss(params, arch, examples, draw, learning=1.0)` returns the task loss and
      `(accuracy, batch_stats)`.
    penalty_gradients: from an `Arch` to the gradients of r(beta) and of the other penalties, or
      None without other penalties.
    knobs: numbers that change with the step, by name. Where 'moves_arch' is 0, alpha and beta rest.
    context: from the state of the weights' optimizer to the context of the rule.
    axis_name: the parallel axis, or None.
  """

  rule: Rule
  optimizers: Optimizers
  loss: Callable[..., Any]
  penalty_gradients: Callable[[Arch], tuple[PyTree, Arch | None]]
  knobs: Knobs
  context: Callable[[PyTree], Context]
  axis_name: str | None


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


def unrolled_step(
  parts: StepParts, state: SearchState, batch: Batch
) -> tuple[SearchState, Metrics]:
  """Moves alpha and beta by any rule, then the weights.

  Each gradient is its own part of the program.

  Args:
    parts: the parts of the step.
    state: before the step.
    batch: its examples.

  Returns:
    The state after the step, its number aside, and the metrics of the training loss.
  """

  def task_loss(params: PyTree, arch: Arch, examples: Any, draw: Any = 1) -> Float[Array, '']:
    return parts.loss(params, arch, examples, draw)[0]

  def learn_arch(state: SearchState) -> SearchState:
    context = parts.context(state.weights_opt)
    gradients = parts.rule(task_loss, state.params, state.arch, batch, context)
    _check_gradients(gradients, state.arch)
    return _move_arch(parts, state, pmean(gradients, parts.axis_name))

  def learn_weights(state: SearchState, arch: Arch) -> tuple[SearchState, Metrics]:
    (value, (accuracy, batch_stats)), gradients = jax.value_and_grad(parts.loss, has_aux=True)(
      state.params, arch, batch.train, WEIGHTS_DRAW
    )
    after = _move_weights(parts, state, pmean(gradients, parts.axis_name), batch_stats)
    return after, {'train_loss': value, 'train_accuracy': accuracy}

  def may_learn_arch(state: SearchState) -> SearchState:
    if _MOVES_ARCH not in parts.knobs:
      return learn_arch(state)
    return lax.cond(
      jnp.asarray(parts.knobs[_MOVES_ARCH]) > 0, learn_arch, lambda state: state, state
    )

  if parts.rule.weights_first:
    after, metrics = learn_weights(state, state.arch)
    return may_learn_arch(after), metrics
  after = may_learn_arch(state)
  return learn_weights(after, state.arch if parts.rule.simultaneous else after.arch)


def scanned_step(parts: StepParts, state: SearchState, batch: Batch) -> tuple[SearchState, Metrics]:
  """Makes the same step of a rule with passes as one loop.

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
    state = _select(now.moves_arch, _move_arch(parts, state, total), state)
    if parts.rule.weights_first:
      state = lax.cond(
        now.moves_weights,
        lambda state: _move_weights(parts, state, to_weights, batch_stats),
        lambda state: state,
        state,
      )
    return (state, total, ravel_pytree((to_weights, batch_stats))[0]), (value, accuracy)

  start = state, jax.tree.map(jnp.zeros_like, state.arch), none_found
  if _MOVES_ARCH in parts.knobs:
    (after, _, found), value, accuracy = _loop(body, start, schedule, parts)
  else:
    (after, _, found), (values, accuracies) = lax.scan(body, start, schedule)
    at = 0 if parts.rule.weights_first else -1
    value, accuracy = values[at], accuracies[at]
  if not parts.rule.weights_first:
    after = _move_weights(parts, after, *apart(found))
  return after, {'train_loss': value, 'train_accuracy': accuracy}


def _select(moves: Bool[Array, ''], moved: SearchState, state: SearchState) -> SearchState:
  """Returns a state with the alpha and beta of `moved` if these move; a branch would copy them."""
  learned = lambda state: (state.arch, state.alpha_opt, state.beta_opt)
  keep = lambda new, old: jnp.where(moves, new, old)
  arch, alpha_opt, beta_opt = jax.tree.map(keep, learned(moved), learned(state))
  return state._replace(arch=arch, alpha_opt=alpha_opt, beta_opt=beta_opt)


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
  moves, count = jnp.asarray(parts.knobs[_MOVES_ARCH]) > 0, len(schedule.part)
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


def _check_gradients(gradients: Any, arch: Arch) -> None:
  """Raises ValueError unless a rule's gradients are an `Arch` of the shapes of `arch`."""
  if not isinstance(gradients, Arch):
    raise ValueError(f'the rule returns a {type(gradients).__name__}; it must be an Arch')
  found, expected = (
    {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}
    for tree in (gradients, arch)
  )
  if found.keys() != expected.keys():
    name = sorted(found.keys() ^ expected.keys())[0]
    state = 'lack' if name in expected else 'have the unknown part'
    raise ValueError(f"the rule's gradients {state} {name}; they must be those of alpha and beta")
  for name, shape in expected.items():
    if found[name] != shape:
      raise ValueError(
        f"the rule's gradients of {name} have the shape {list(found[name])}; it must be "
        f'{list(shape)}'
      )


def _schedule(parts: StepParts, batch: Batch) -> tuple[_Scheduled, PyTree]:
  """Returns the passes of a step, each field with a leading axis, and the stacked examples."""
  rule, knobs = parts.rule, parts.knobs
  passes = list(zip(rule.passes(batch, knobs), rule.draws(batch, knobs)))
  if not passes:
    raise ValueError('the rule has no passes; alpha and beta need at least one loss')
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
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *[getattr(batch, field) for field in fields])
  schedule = _Scheduled(
    jnp.array([fields.index(one.part) for one, _ in passes]),
    jnp.array([one.for_alpha for one, _ in passes], jnp.float32),
    jnp.array([one.for_beta for one, _ in passes], jnp.float32),
    jnp.array([draw for _, draw in passes]),
    jnp.arange(len(passes)) == arch_moves_at,
    jnp.arange(len(passes)) == weights_move_at,
  )
  return schedule, stacked


def _move_arch(parts: StepParts, state: SearchState, gradients: Arch) -> SearchState:
  """Makes one step of alpha and one of beta, with the gradients of the penalties."""
  arch = state.arch
  for_validity, others = parts.penalty_gradients(arch)
  if others is not None:
    gradients = jax.tree.map(jnp.add, gradients, others)
  for_beta = jax.tree.map(jnp.add, gradients.beta, for_validity)
  alpha, alpha_opt = move(parts.optimizers.alpha, gradients.alpha, state.alpha_opt, arch.alpha)
  beta, beta_opt = move(parts.optimizers.beta, for_beta, state.beta_opt, arch.beta)
  return state._replace(arch=Arch(alpha, beta), alpha_opt=alpha_opt, beta_opt=beta_opt)


def _move_weights(
  parts: StepParts, state: SearchState, gradients: PyTree, batch_stats: PyTree
) -> SearchState:
  """Makes one step of the weights."""
  params, opt = move(parts.optimizers.weights, gradients, state.weights_opt, state.params)
  return state._replace(params=params, weights_opt=opt, batch_stats=batch_stats)
