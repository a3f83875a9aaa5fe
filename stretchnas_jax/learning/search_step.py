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
from jaxtyping import Array, Bool, Float, Int, PyTree

from stretchnas_jax.data.batches.examples import Batch
from stretchnas_jax.learning.losses import move, pmean
from stretchnas_jax.learning.rules import WEIGHTS_DRAW, Pass, Rule, add_scaled
from stretchnas_jax.learning.state import Arch, Context, SearchState

Metrics = dict[str, Float[Array, '']]


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
    context: gives knobs and the virtual step to the rule.
    axis_name: the parallel axis, or None.
  """

  rule: Rule
  optimizers: Optimizers
  loss: Callable[..., Any]
  penalty_gradients: Callable[[Arch], tuple[PyTree, Arch | None]]
  context: Context
  axis_name: str | None


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

  gradients = parts.rule(task_loss, state.params, state.arch, batch, parts.context)
  _check_gradients(gradients, state.arch)
  after = _move_arch(parts, state, pmean(gradients, parts.axis_name))
  arch = state.arch if parts.rule.simultaneous else after.arch
  (value, (accuracy, batch_stats)), gradients = jax.value_and_grad(parts.loss, has_aux=True)(
    state.params, arch, batch.train, WEIGHTS_DRAW
  )
  after = _move_weights(parts, after, pmean(gradients, parts.axis_name), batch_stats)
  return after, {'train_loss': value, 'train_accuracy': accuracy}


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

  def body(
    carry: tuple[SearchState, Arch], now: _Scheduled
  ) -> tuple[tuple[SearchState, Arch], tuple[Float[Array, ''], Float[Array, '']]]:
    state, total = carry
    examples = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, now.part, 0, False), stacked)
    (value, (accuracy, batch_stats)), gradients = jax.value_and_grad(
      parts.loss, (0, 1), has_aux=True
    )(state.params, state.arch, examples, now.draw, now.moves_weights.astype(jnp.float32))
    to_weights, to_arch = pmean(gradients, parts.axis_name)
    total = add_scaled(total, to_arch, now.for_alpha, now.for_beta)
    state = lax.cond(
      now.moves_arch, lambda state: _move_arch(parts, state, total), lambda state: state, state
    )
    state = lax.cond(
      now.moves_weights,
      lambda state: _move_weights(parts, state, to_weights, batch_stats),
      lambda state: state,
      state,
    )
    return (state, total), (value, accuracy)

  start = state, jax.tree.map(jnp.zeros_like, state.arch)
  (after, _), (values, accuracies) = lax.scan(body, start, schedule)
  return after, {'train_loss': values[-1], 'train_accuracy': accuracies[-1]}


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


def _schedule(parts: StepParts, batch: Batch) -> tuple[_Scheduled, PyTree]:
  """Returns the passes of a step, each field with a leading axis, and the stacked examples."""
  rule, knobs = parts.rule, parts.context.knobs
  passes = list(zip(rule.passes(batch, knobs), rule.draws(batch, knobs)))
  if not passes:
    raise ValueError('the rule has no passes; alpha and beta need at least one loss')
  # The pass that moves the weights comes last; a simultaneous rule may share it.
  passes.sort(key=lambda numbered: numbered[1] == WEIGHTS_DRAW)
  if passes[-1][1] != WEIGHTS_DRAW:
    passes.append((Pass('train', 0.0, 0.0), WEIGHTS_DRAW))
  last = len(passes) - 1
  arch_moves_at = last if rule.simultaneous else last - 1
  fields = sorted({one.part for one, _ in passes})
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *[getattr(batch, field) for field in fields])
  schedule = _Scheduled(
    jnp.array([fields.index(one.part) for one, _ in passes]),
    jnp.array([one.for_alpha for one, _ in passes], jnp.float32),
    jnp.array([one.for_beta for one, _ in passes], jnp.float32),
    jnp.array([draw for _, draw in passes]),
    jnp.arange(len(passes)) == arch_moves_at,
    jnp.arange(len(passes)) == last,
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
