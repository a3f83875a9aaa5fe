"""Update rules: the gradients that alpha and beta descend (Eq. 16-18).

A `Rule` says how these gradients are computed, and whether the weights move first. There are two
kinds. A weighted sum of losses at the present weights lists its `passes`, so that `make_search` can
run all of them through one compiled body. Any other rule is a function, `gradients`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree, ScalarLike

from stretchnas_jax.cells.relaxation import Knobs
from stretchnas_jax.data.batches.examples import Batch
from stretchnas_jax.learning import second_order as second_order_lib
from stretchnas_jax.learning.state import Arch, Context, LossFn

WEIGHTS_DRAW = 0
"""The number of the random draws of the pass that moves the weights; a rule's own count from 1."""


class Pass(NamedTuple):
  """One loss of a weighted sum.

  Attributes:
    part: the field of the `Batch` on which the loss is taken.
    for_alpha: the factor of its gradients for alpha.
    for_beta: the factor of its gradients for beta.
  """

  part: str
  for_alpha: ScalarLike
  for_beta: ScalarLike


class Rule(NamedTuple):
  """An update rule; it has either `gradients` or `passes`.

  Attributes:
    gradients: `gradients(loss_fn, params, arch, batch, context) -> Arch`, which alpha and beta
      descend; `loss_fn` is a `state.LossFn`.
    passes: `passes(batch, knobs)`, the list of the losses of a weighted sum.
    simultaneous: whether weights and architecture move at the same time, both from gradients at the
      state before the step. Otherwise the architecture moves first.
    weights_first: whether the weights move first, and alpha and beta from gradients at the new
      weights.
  """

  gradients: Callable[..., Arch] | None = None
  passes: Callable[[Batch, Knobs], list[Pass]] | None = None
  simultaneous: bool = False
  weights_first: bool = False

  def __call__(
    self, loss_fn: LossFn, params: PyTree, arch: Arch, batch: Batch, context: Context | None = None
  ) -> Arch:
    """Computes the gradients of alpha and beta.

    Args:
      loss_fn: the task loss.
      params: the weights.
      arch: the architecture parameters.
      batch: the examples of the step.
      context: knobs, the virtual step and the mean over devices. None where the rule needs none.

    Returns:
      Gradients, an `Arch` of the same shapes as `arch`.
    """
    context = context or Context({}, _no_virtual_step)
    if self.gradients is not None:
      return self.gradients(loss_fn, params, arch, batch, context)
    total = jax.tree.map(jnp.zeros_like, arch)
    for draw, one in zip(self.draws(batch, context.knobs), self.passes(batch, context.knobs)):
      gradients = jax.grad(loss_fn, 1)(params, arch, batch.part(one.part), draw)
      total = add_scaled(total, gradients, one.for_alpha, one.for_beta)
    return total

  @property
  def may_run_together(self) -> bool:
    """Whether its passes can be one batch: there are some, and none moves the weights too."""
    return self.passes is not None and not self.simultaneous

  def draws(self, batch: Batch, knobs: Knobs) -> list[int]:
    """Numbers the passes of a weighted sum: 1, 2, ...

    Args:
      batch: the examples of the step.
      knobs: the knobs of the step.

    Returns:
      A number for each pass. It is 0, the number of the pass that moves the weights, for the
      training loss of a simultaneous rule: both are one pass.
    """
    passes = enumerate(self.passes(batch, knobs), start=1)
    return [WEIGHTS_DRAW if self.simultaneous and one.part == 'train' else i for i, one in passes]


def first_order() -> Rule:
  """Builds DARTS' first-order rule: alpha and beta descend the validation loss (Eq. 17).

  Example:
    >>> part = snas.Examples(jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, int))
    >>> batch = snas.Batch(train=part, val_alpha=part, val_beta=part)
    >>> [tuple(one) for one in first_order().passes(batch, {})]
    [('val_alpha', 1.0, 0.0), ('val_beta', 0.0, 1.0)]
  """
  return weighted_sum(train=0.0, val=1.0)


def mixed(val_weight: float = 1.0) -> Rule:
  """Builds MiLeNAS' mixed level: `L_train + val_weight * L_val` is descended (Eq. 18).

  Example:
    >>> part = snas.Examples(jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, int))
    >>> batch = snas.Batch(train=part, val_alpha=part, val_beta=part)
    >>> [tuple(one) for one in mixed(0.5).passes(batch, {})]
    [('train', 1.0, 1.0), ('val_alpha', 0.5, 0.0), ('val_beta', 0.0, 0.5)]
  """
  return weighted_sum(train=1.0, val=val_weight)


def one_level() -> Rule:
  """Builds the rule by which weights, alpha and beta descend one training loss, in one pass.

  Example:
    >>> part = snas.Examples(jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, int))
    >>> batch = snas.Batch(train=part, val_alpha=part, val_beta=part)
    >>> [tuple(one) for one in one_level().passes(batch, {})]
    [('train', 1.0, 1.0)]
  """
  return weighted_sum(train=1.0, val=0.0, simultaneous=True)


def second_order(step_size: ScalarLike = 0.01) -> Rule:
  """Builds DARTS' second-order rule: alpha and beta see the next step of the weights.

  A central difference stands for the product with the Hessian. It moves the weights by `step_size`
  in norm, there and back, from where they are, not from w' (Liu et al. 2018, Eq. 8). Its error is
  `step_size^2 / 6` times a third derivative of the gradient along the way, plus a rounding error of
  about `eps / step_size`. A ReLU or a maximum that changes sides on the way adds its own error.

  Args:
    step_size: Liu et al. have 0.01.

  Returns:
    The rule.

  Example:
    >>> part = snas.Examples(jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, int))
    >>> batch = snas.Batch(train=part, val_alpha=part, val_beta=part)
    >>> loss = lambda w, arch, examples, draw: ((w - arch.alpha['normal']) ** 2).sum()
    >>> arch = Arch({'normal': jnp.ones((1, 1))}, {})
    >>> context = Context({}, lambda w, gradients: w - 0.1 * gradients)
    >>> found = second_order()(loss, jnp.zeros((1, 1)), arch, batch, context)
    >>> round(float(found.alpha['normal'][0, 0]), 2)
    1.28
  """
  difference = functools.partial(second_order_lib.differenced, step_size=step_size)
  return Rule(second_order_lib.LookAhead(difference))


def exact_second_order() -> Rule:
  """Builds the second-order rule by automatic differentiation: more memory, no error.

  Example:
    >>> part = snas.Examples(jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, int))
    >>> batch = snas.Batch(train=part, val_alpha=part, val_beta=part)
    >>> loss = lambda w, arch, examples, draw: ((w - arch.alpha['normal']) ** 2).sum()
    >>> arch = Arch({'normal': jnp.ones((1, 1))}, {})
    >>> context = Context({}, lambda w, gradients: w - 0.1 * gradients)
    >>> found = exact_second_order()(loss, jnp.zeros((1, 1)), arch, batch, context)
    >>> round(float(found.alpha['normal'][0, 0]), 2)
    1.28
  """
  return Rule(second_order_lib.LookAhead(second_order_lib.differentiated))


def weighted_sum(train: float, val: float, simultaneous: bool = False) -> Rule:
  """Builds the rule that descends `train * L_train + val * L_val` at the present weights.

  Args:
    train: the factor of the training loss; at 0 it is not computed.
    val: the factor of the validation losses, `val_alpha` for alpha and `val_beta` for beta; at 0
      they are not computed.
    simultaneous: whether the weights move at the same time.

  Returns:
    The rule.

  Example:
    >>> part = snas.Examples(jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, int))
    >>> batch = snas.Batch(train=part, val_alpha=part, val_beta=part)
    >>> [tuple(one) for one in weighted_sum(train=1.0, val=2.0).passes(batch, {})]
    [('train', 1.0, 1.0), ('val_alpha', 2.0, 0.0), ('val_beta', 0.0, 2.0)]
  """
  return Rule(passes=_WeightedSum(train, val), simultaneous=simultaneous)


def as_rule(rule: Rule | Callable[..., Arch]) -> Rule:
  """Returns a `Rule`, from a rule or from a researcher's own function.

  Args:
    rule: a `Rule`, or a function `(loss_fn, params, arch, batch) -> Arch` of gradients. Each call
      of its `loss_fn` without a number of its own has other random draws.

  Returns:
    The rule.

  Raises:
    ValueError: the rule has not exactly one of `gradients` and `passes`, or is not a function, or
      has an attribute that version 0.1 read.

  Example:
    >>> own = lambda loss_fn, params, arch, batch: jax.grad(loss_fn, 1)(params, arch, batch.train)
    >>> as_rule(own).passes is None
    True
  """
  if isinstance(rule, Rule):
    if (rule.gradients is None) == (rule.passes is None):
      raise ValueError('a Rule has either gradients or passes; this one has both or neither')
    if rule.simultaneous and rule.weights_first:
      raise ValueError('a Rule is simultaneous or has weights_first; this one is both')
    return rule
  if not callable(rule):
    raise ValueError(f'the rule is a {type(rule).__name__}; it must be a Rule or a function')
  for name in ('looks_ahead', 'simultaneous'):
    if hasattr(rule, name):
      raise ValueError(
        f'the rule is a function with the attribute {name}; make a Rule of it, which has the field '
        'simultaneous and a context with the virtual step'
      )

  def gradients(
    loss_fn: LossFn, params: PyTree, arch: Arch, batch: Batch, context: Context
  ) -> Arch:
    del context
    return rule(_numbered(loss_fn), params, arch, batch)

  return Rule(gradients)


def add_scaled(total: Arch, gradients: Arch, for_alpha: ScalarLike, for_beta: ScalarLike) -> Arch:
  """Returns `total` plus gradients times the factors of their pass.

  Args:
    total: the sum so far.
    gradients: the gradients of one pass.
    for_alpha: the factor of the gradients for alpha.
    for_beta: the factor of the gradients for beta.

  Returns:
    The new sum.

  Example:
    >>> arch = Arch({'normal': jnp.ones(2)}, {})
    >>> add_scaled(arch, arch, 2.0, 0.0).alpha['normal'].tolist()
    [3.0, 3.0]
  """

  def add(factor: ScalarLike, total: PyTree, gradients: PyTree) -> PyTree:
    return jax.tree.map(lambda t, g: t + factor * g, total, gradients)

  return Arch(
    add(for_alpha, total.alpha, gradients.alpha), add(for_beta, total.beta, gradients.beta)
  )


class _WeightedSum(NamedTuple):
  """The passes of `weighted_sum`."""

  train: float
  val: float

  def __call__(self, batch: Batch, knobs: Knobs) -> list[Pass]:
    del knobs
    passes = [Pass('train', self.train, self.train)] if self.train else []
    if not self.val:
      return passes
    if batch.val_beta is None:
      return [*passes, Pass('val_alpha', self.val, self.val)]
    return [*passes, Pass('val_alpha', self.val, 0.0), Pass('val_beta', 0.0, self.val)]


def _no_virtual_step(params: PyTree, gradients: PyTree) -> PyTree:
  raise ValueError('this rule looks ahead; call it with a Context that has a virtual step')


def _numbered(loss_fn: LossFn) -> LossFn:
  """Returns a loss that gives each call another number, in the order of tracing."""
  calls = 0

  def numbered(params: PyTree, arch: Arch, examples: Any, draw: Any = None) -> Any:
    nonlocal calls
    calls += 1
    return loss_fn(params, arch, examples, calls if draw is None else draw)

  return numbered
