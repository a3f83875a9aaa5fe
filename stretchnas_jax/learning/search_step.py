"""One step of a search, in forms that give the same numbers.

The unrolled form runs any rule, and each of its gradients is a part of the program. Or the passes
of a rule for alpha and beta are one batch of the network. `scanned_step` is a loop over all passes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from stretchnas_jax.cells.relaxation import Knobs
from stretchnas_jax.data.batches.examples import Batch
from stretchnas_jax.learning.losses import move, pmean
from stretchnas_jax.learning.rules import WEIGHTS_DRAW, Rule, add_scaled
from stretchnas_jax.learning.state import Arch, Context, SearchState

Metrics = dict[str, Float[Array, '']]
Learned = tuple[Arch, PyTree, PyTree]

MOVES_ARCH = 'moves_arch'
"""The knob that lets alpha and beta rest where it is 0."""
NO_PASSES = 'the rule has no passes; alpha and beta need at least one loss'
"""The sentence on a rule with an empty list of passes."""


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
    together: whether the losses for alpha and beta pass the network as one batch.
  """

  rule: Rule
  optimizers: Optimizers
  loss: Callable[..., Any]
  penalty_gradients: Callable[[Arch], tuple[PyTree, Arch | None]]
  knobs: Knobs
  context: Callable[[PyTree], Context]
  axis_name: str | None
  together: bool = False


def unrolled_step(
  parts: StepParts, state: SearchState, batch: Batch
) -> tuple[SearchState, Metrics]:
  """Moves alpha and beta by any rule, then the weights.

  Each gradient is its own part of the program, or all those for alpha and beta are one part.

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
    if parts.together:
      gradients = _gradients_together(parts, state, batch)
    else:
      context = parts.context(state.weights_opt)
      gradients = parts.rule(task_loss, state.params, state.arch, batch, context)
      _check_gradients(gradients, state.arch)
    return move_arch(parts, state, pmean(gradients, parts.axis_name))

  def learn_weights(state: SearchState, arch: Arch) -> tuple[SearchState, Metrics]:
    (value, (accuracy, batch_stats)), gradients = jax.value_and_grad(parts.loss, has_aux=True)(
      state.params, arch, batch.train, WEIGHTS_DRAW
    )
    after = move_weights(parts, state, pmean(gradients, parts.axis_name), batch_stats)
    return after, {'train_loss': value, 'train_accuracy': accuracy}

  def may_learn_arch(state: SearchState) -> SearchState:
    if MOVES_ARCH not in parts.knobs:
      return learn_arch(state)
    moves = jnp.asarray(parts.knobs[MOVES_ARCH]) > 0
    # The weights stay outside of the branches, whose results are copied.
    moved = lambda: learned(learn_arch(state))
    return with_learned(state, lax.cond(moves, moved, lambda: learned(state)))

  if parts.rule.weights_first:
    after, metrics = learn_weights(state, state.arch)
    return may_learn_arch(after), metrics
  after = may_learn_arch(state)
  return learn_weights(after, state.arch if parts.rule.simultaneous else after.arch)


def _gradients_together(parts: StepParts, state: SearchState, batch: Batch) -> Arch:
  """Returns the gradients of a rule with passes; all passes are one batch of the network.

  Each keeps its own random draws and its own moments in batch norms. So a GPU starts as many
  kernels as for one pass.
  """
  passes, draws = parts.rule.passes(batch, parts.knobs), parts.rule.draws(batch, parts.knobs)
  if not passes:
    raise ValueError(NO_PASSES)
  examples = jax.tree.map(lambda *x: jnp.stack(x), *[batch.part(one.part) for one in passes])

  def loss(arch: Arch, examples: Any, draw: Int[Array, '']) -> Float[Array, '']:
    return parts.loss(state.params, arch, examples, draw)[0]

  gradients = jax.vmap(jax.grad(loss), (None, 0, 0))(state.arch, examples, jnp.array(draws))
  total = jax.tree.map(jnp.zeros_like, state.arch)
  for i, one in enumerate(passes):
    of_pass = jax.tree.map(lambda x, i=i: x[i], gradients)
    total = add_scaled(total, of_pass, one.for_alpha, one.for_beta)
  return total


def learned(state: SearchState) -> Learned:
  """Returns alpha and beta, and the states of their optimizers."""
  return state.arch, state.alpha_opt, state.beta_opt


def with_learned(state: SearchState, found: Learned) -> SearchState:
  """Returns a state with other alpha and beta, and other states of their optimizers."""
  arch, alpha_opt, beta_opt = found
  return state._replace(arch=arch, alpha_opt=alpha_opt, beta_opt=beta_opt)


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


def move_arch(parts: StepParts, state: SearchState, gradients: Arch) -> SearchState:
  """Makes one step of alpha and one of beta, with the gradients of the penalties."""
  arch = state.arch
  for_validity, others = parts.penalty_gradients(arch)
  if others is not None:
    gradients = jax.tree.map(jnp.add, gradients, others)
  for_beta = jax.tree.map(jnp.add, gradients.beta, for_validity)
  alpha, alpha_opt = move(parts.optimizers.alpha, gradients.alpha, state.alpha_opt, arch.alpha)
  beta, beta_opt = move(parts.optimizers.beta, for_beta, state.beta_opt, arch.beta)
  return state._replace(arch=Arch(alpha, beta), alpha_opt=alpha_opt, beta_opt=beta_opt)


def move_weights(
  parts: StepParts, state: SearchState, gradients: PyTree, batch_stats: PyTree
) -> SearchState:
  """Makes one step of the weights."""
  params, opt = move(parts.optimizers.weights, gradients, state.weights_opt, state.params)
  return state._replace(params=params, weights_opt=opt, batch_stats=batch_stats)
