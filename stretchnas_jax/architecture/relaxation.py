"""Relaxations of the choice of an operation: `(alpha, key, temperature) -> [E, O]`."""

import jax


def softmax(alpha, key=None, temperature=1.0):
  """Softmax over the operations of each edge (Eq. 1); no draw, so `key` is not used."""
  del key
  return jax.nn.softmax(alpha / temperature, axis=-1)


def entropy(alpha):
  """Mean entropy of the operations of an edge, in nats."""
  log_probs = jax.nn.log_softmax(alpha, axis=-1)
  return -(jax.numpy.exp(log_probs) * log_probs).sum(-1).mean()
