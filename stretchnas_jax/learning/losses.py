"""The task loss, its sums in an evaluation, and one step of an optimizer."""

from typing import TypeVar

import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from stretchnas_jax.cells.arrays import AnyArray

_Tree = TypeVar('_Tree')


def scores(
  logits: Float[Array, 'B M'], labels: Int[AnyArray, ' B']
) -> tuple[Float[Array, ''], Float[Array, '']]:
  """Returns the mean cross entropy and the accuracy of a batch.

  Args:
    logits: of M classes.
    labels: the right classes.

  Returns:
    Two scalars.
  """
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
  return loss, (logits.argmax(-1) == labels).mean(dtype=jnp.float32)


def evaluation_sums(
  logits: Float[Array, 'B M'], labels: Int[AnyArray, ' B'], valid: Float[AnyArray, ' B']
) -> dict[str, Float[Array, '']]:
  """Returns sums over the examples that count.

  Args:
    logits: of M classes.
    labels: the right classes.
    valid: 1 for an example that counts, else 0.

  Returns:
    The sums of the cross entropy, 'loss', of the right answers, 'correct', and of `valid`, 'count'.
  """
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  correct = (logits.argmax(-1) == labels).astype(jnp.float32)
  return {'loss': (loss * valid).sum(), 'correct': (correct * valid).sum(), 'count': valid.sum()}


def pmean(tree: _Tree, axis_name: str | None) -> _Tree:
  """Returns the mean of a pytree over devices.

  Args:
    tree: the values of this device.
    axis_name: the parallel axis; None on one device, where the tree is returned as it is.

  Returns:
    The mean.
  """
  return tree if axis_name is None else lax.pmean(tree, axis_name)


def move(
  tx: optax.GradientTransformation, gradients: PyTree, opt: PyTree, values: _Tree
) -> tuple[_Tree, PyTree]:
  """Makes one step of an optimizer.

  Args:
    tx: the optimizer.
    gradients: of the values.
    opt: the state of the optimizer.
    values: any pytree of arrays.

  Returns:
    The moved values and the new state of the optimizer.
  """
  updates, opt = tx.update(gradients, opt, values)
  return optax.apply_updates(values, updates), opt
