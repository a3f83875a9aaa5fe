"""The mathematics of second-order rules: alpha and beta see the next step of the weights.

They descend `L_val(w'(arch), arch)`, where `w'` are the weights after a step on the training loss
(Liu et al. 2018, Eq. 6-8). The gradient has a direct part, at `w'`, and a part that comes through
`w'`, which needs second derivatives. Batch norm takes the moments of each batch; the running
averages that the losses would leave behind are dropped.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, ScalarLike

from stretchnas_jax.data.batches.examples import Batch, Examples
from stretchnas_jax.learning.state import Arch, Context, LossFn

_TRAIN_DRAW = 1  # both uses of the training loss are one pass


class LookAhead(NamedTuple):
  """Gradients of the validation loss after the next step of the weights, as a `Rule` has them.

  Attributes:
    derivative: `derivative(function, point, direction) -> d function(point + t direction) / dt`
      at t = 0. It is taken of the architecture's gradients along a direction of the weights: a
      product with the Hessian.
  """

  derivative: Callable[[Callable[[PyTree], PyTree], PyTree, PyTree], PyTree]

  def __call__(
    self, loss_fn: LossFn, params: PyTree, arch: Arch, batch: Batch, context: Context
  ) -> Arch:
    """Computes the gradients of alpha and beta.

    Args:
      loss_fn: the task loss.
      params: the weights.
      arch: the architecture parameters.
      batch: the examples of the step.
      context: gives the virtual step.

    Returns:
      Gradients of the shapes of `arch`.
    """
    gradients = jax.grad(loss_fn)(params, arch, batch.train, _TRAIN_DRAW)
    ahead, transpose = jax.vjp(functools.partial(context.virtual_step, params), gradients)

    def to_arch(params: PyTree) -> Arch:
      return jax.grad(loss_fn, 1)(params, arch, batch.train, _TRAIN_DRAW)

    def gradient(examples: Examples, draw: Int[Array, ''] | int) -> Arch:
      to_weights, direct = jax.grad(loss_fn, (0, 1))(ahead, arch, examples, draw)
      # For plain SGD `-learning_rate * to_weights`. The mean over devices that `virtual_step` takes
      # is its own transpose, so that every device has the same direction.
      (direction,) = transpose(to_weights)
      through_weights = self.derivative(to_arch, params, direction)
      return jax.tree.map(jnp.add, direct, through_weights)

    if batch.val_beta is None:
      return gradient(batch.val_alpha, _TRAIN_DRAW + 1)
    # In a loop: the second part of the data costs no second compilation.
    parts = jax.tree.map(lambda *x: jnp.stack(x), batch.val_alpha, batch.val_beta)
    draws = _TRAIN_DRAW + jnp.array([1, 2])
    both = lax.map(lambda inputs: gradient(*inputs), (parts, draws))
    first, second = (jax.tree.map(lambda x, i=i: x[i], both) for i in (0, 1))
    return Arch(first.alpha, second.beta)


def differentiated(
  function: Callable[[PyTree], PyTree], point: PyTree, direction: PyTree
) -> PyTree:
  """Returns `d function(point + t direction) / dt` at t = 0 by automatic differentiation.

  Args:
    function: from a pytree to a pytree.
    point: where the derivative is taken.
    direction: a pytree as `point`.

  Returns:
    A pytree as the function's results.
  """
  return jax.jvp(function, (point,), (direction,))[1]


def differenced(
  function: Callable[[PyTree], PyTree], point: PyTree, direction: PyTree, step_size: ScalarLike
) -> PyTree:
  """Returns the same derivative from a central difference (Liu et al. 2018, Eq. 8).

  Both ends are computed in full float32: TF32, and the bfloat16 of a TPU, round by more than the
  ends differ.

  Args:
    function: from a pytree to a pytree.
    point: where the derivative is taken.
    direction: a pytree as `point`.
    step_size: the distance of both ends from `point`, in norm.

  Returns:
    A pytree as the function's results.
  """
  norm = optax.tree.norm(direction)
  step = step_size / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)

  def at(sign: Float[Array, '']) -> PyTree:
    moved = jax.tree.map(lambda p, d: p + (sign * step * d).astype(p.dtype), point, direction)
    with jax.default_matmul_precision('highest'):
      return function(moved)

  ends = lax.map(at, jnp.array([1, -1], norm.dtype))
  return jax.tree.map(lambda x: (x[0] - x[1]) / (2 * step).astype(x.dtype), ends)


def virtual_step(
  tx: optax.GradientTransformation,
  opt: PyTree,
  axis_name: str | None,
  params: PyTree,
  gradients: PyTree,
) -> PyTree:
  """Returns the weights after the next step of an optimizer; nothing of that step is kept.

  Args:
    tx: the optimizer.
    opt: its state.
    axis_name: the parallel axis over which gradients are averaged, or None.
    params: the weights.
    gradients: their gradients.

  Returns:
    The moved weights.
  """
  if axis_name is not None:
    gradients = lax.pmean(gradients, axis_name)
  updates, _ = tx.update(gradients, opt, params)
  return optax.apply_updates(params, updates)
