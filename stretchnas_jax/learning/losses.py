"""The task loss, its sums in an evaluation, and one move of an optimizer."""

import jax.numpy as jnp
import optax
from jax import lax


def scores(logits, labels):
  """Mean cross entropy and accuracy."""
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
  return loss, (logits.argmax(-1) == labels).mean(dtype=jnp.float32)


def evaluation_sums(logits, labels, valid):
  """Sums over the examples that count: {'loss', 'correct', 'count'}; `valid` [B] is 0 or 1."""
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  correct = (logits.argmax(-1) == labels).astype(jnp.float32)
  return {'loss': (loss * valid).sum(), 'correct': (correct * valid).sum(), 'count': valid.sum()}


def pmean(tree, axis_name):
  return tree if axis_name is None else lax.pmean(tree, axis_name)


def move(tx, gradients, opt, values):
  updates, opt = tx.update(gradients, opt, values)
  return optax.apply_updates(values, updates), opt
