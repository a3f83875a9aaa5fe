"""Second-order rules: alpha and beta see what the weights' next step makes of them.

They descend `L_val(w'(arch), arch)`, where `w'` are the weights after a step on the training loss
(Liu et al. 2018, Eq. 6-8). The gradient has a direct part, at `w'`, and a part that comes through
`w'`, which needs second derivatives. Batch norm takes the moments of each batch; the running
averages that the losses would leave behind are dropped.

A rule that looks ahead has a true attribute `looks_ahead` and is called with a fifth argument,
`virtual_step(params, gradients) -> params`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from stretchnas_jax.learning.state import Arch


class SecondOrderRule(NamedTuple):
  """Gradients of the validation loss after the next step of the weights.

  Attributes:
    derivative: `(function, point, direction) -> d function(point + t direction) / dt`, of the
      architecture's gradients along a direction of the weights: a product with the Hessian.
  """

  derivative: Callable

  looks_ahead = True

  def __call__(self, loss_fn, params, arch, batch, virtual_step):
    gradients = jax.grad(loss_fn)(params, arch, batch.train)
    ahead, transpose = jax.vjp(functools.partial(virtual_step, params), gradients)
    to_arch = lambda params: jax.grad(loss_fn, 1)(params, arch, batch.train)

    def gradient(examples):
      to_weights, direct = jax.grad(loss_fn, (0, 1))(ahead, arch, examples)
      # For plain SGD `-learning_rate * to_weights`. The mean over devices that `virtual_step` takes
      # is its own transpose, so that every device has the same direction.
      (direction,) = transpose(to_weights)
      through_weights = self.derivative(to_arch, params, direction)
      return jax.tree.map(jnp.add, direct, through_weights)

    if batch.val_beta is None:
      return gradient(batch.val_alpha)
    # In a loop: the second part of the data costs no second compilation.
    parts = jax.tree.map(lambda *x: jnp.stack(x), batch.val_alpha, batch.val_beta)
    both = lax.map(gradient, parts)
    first, second = (jax.tree.map(lambda x, i=i: x[i], both) for i in (0, 1))
    return Arch(first.alpha, second.beta)


def second_order(step_size=0.01):
  """DARTS' second-order rule, with a central difference for the product with the Hessian.

  The weights are moved by `step_size` in norm, there and back, from where they are, not from w'
  (Liu et al. 2018, Eq. 8). Its error is `step_size^2 / 6` times a third derivative of the gradient
  along the way, plus a rounding error of about `eps / step_size`; a ReLU or a maximum that changes
  sides on the way adds its own.

  Args:
    step_size: Liu et al. have 0.01.
  """
  return SecondOrderRule(functools.partial(differenced, step_size=step_size))


def exact_second_order():
  """The same gradients by automatic differentiation: more memory, no error."""
  return SecondOrderRule(differentiated)


def differentiated(function, point, direction):
  """`d function(point + t direction) / dt` at t = 0, as it is defined."""
  return jax.jvp(function, (point,), (direction,))[1]


def differenced(function, point, direction, step_size):
  """The same from two points `step_size` away."""
  norm = optax.tree.norm(direction)
  step = step_size / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)

  def at(sign):
    return function(
      jax.tree.map(lambda p, d: p + (sign * step * d).astype(p.dtype), point, direction)
    )

  ends = lax.map(at, jnp.array([1, -1], norm.dtype))
  return jax.tree.map(lambda x: (x[0] - x[1]) / (2 * step).astype(x.dtype), ends)


def virtual_step(tx, opt, axis_name, params, gradients):
  """The weights after an optimiser's next step, of which nothing is kept.

  Args:
    tx: its optax transformation.
    opt: its state.
    axis_name: the parallel axis over which gradients are averaged, or None.
    params: the weights.
    gradients: their gradients.
  """
  if axis_name is not None:
    gradients = lax.pmean(gradients, axis_name)
  updates, _ = tx.update(gradients, opt, params)
  return optax.apply_updates(params, updates)


def with_virtual_step(rule, step):
  """A rule as a function of four arguments, whether it looks ahead or not."""
  if not getattr(rule, 'looks_ahead', False):
    return rule
  bound = functools.partial(rule, virtual_step=step)
  bound.simultaneous = getattr(rule, 'simultaneous', False)
  return bound
