"""Relaxations of the choice of an operation.

A relaxation is any function `(alpha, key, temperature) -> weights`, `[E, O] -> [E, O]`: the
weights of the operations of each edge. `key` is there for those that draw.
"""

import jax
import jax.numpy as jnp


def softmax(alpha, key=None, temperature=1.0):
  """Softmax over the operations of each edge (Eq. 1); draws nothing, so `key` is not used."""
  del key
  return jax.nn.softmax(alpha / temperature, axis=-1)


def entropy(alpha):
  """Mean entropy of the operations of an edge, in nats; 0 where every edge has decided."""
  log_probs = jax.nn.log_softmax(alpha, axis=-1)
  return -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
