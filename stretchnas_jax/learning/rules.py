"""Update rules: the gradients that alpha and beta descend (Eq. 16-18)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from stretchnas_jax.learning import second_order as second_order_lib
from stretchnas_jax.learning.state import Arch

second_order = second_order_lib.second_order
exact_second_order = second_order_lib.exact_second_order


class FirstOrderRule(NamedTuple):
  """Gradients of `train * L_train + val * L_val` at the present weights.

  As the rule is a weighted sum, `make_search` can run all its losses through one compiled body.
  """

  train: float
  val: float
  simultaneous: bool = False  # weights move at the same time, from the same pass

  def passes(self, batch):
    """(field of the batch, factor for alpha, factor for beta) of each loss that has a factor."""
    train = [('train', self.train, self.train)] if self.train else []
    if not self.val:
      return train
    if batch.val_beta is None:
      return train + [('val_alpha', self.val, self.val)]
    return train + [('val_alpha', self.val, 0.0), ('val_beta', 0.0, self.val)]

  def __call__(self, loss_fn, params, arch, batch):
    total = jax.tree.map(jnp.zeros_like, arch)
    for field, for_alpha, for_beta in self.passes(batch):
      gradients = jax.grad(loss_fn, 1)(params, arch, getattr(batch, field))
      total = add_scaled(total, gradients, for_alpha, for_beta)
    return total


def first_order():
  """DARTS' first-order rule: alpha and beta descend the validation loss (Eq. 17)."""
  return FirstOrderRule(train=0.0, val=1.0)


def mixed(val_weight=1.0):
  """MiLeNAS' mixed level: they descend `L_train + val_weight * L_val` (Eq. 18)."""
  return FirstOrderRule(train=1.0, val=val_weight)


def one_level():
  """Weights, alpha and beta descend the training loss together, in one pass."""
  return FirstOrderRule(train=1.0, val=0.0, simultaneous=True)


def add_scaled(total, gradients, for_alpha, for_beta):
  scaled = lambda factor: lambda t, g: t + factor * g
  return Arch(
    jax.tree.map(scaled(for_alpha), total.alpha, gradients.alpha),
    jax.tree.map(scaled(for_beta), total.beta, gradients.beta),
  )
