"""Small states, and checkpoints of them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stretchnas_jax.machine import leaves
from stretchnas_jax.runs import checkpoint


class State(NamedTuple):
  step: jax.Array
  params: dict
  opt: tuple
  key: jax.Array


def make_state(seed=0):
  params = {
    'kernel': jax.random.normal(jax.random.key(seed), (40, 50)),
    'half': jnp.arange(6, dtype=jnp.bfloat16) / 7 + seed,
    'flags': jnp.array([True, False]),
    'empty': jnp.zeros((0, 4)),
  }
  opt = optax.adam(0.1).init({'kernel': params['kernel']})
  return State(jnp.int32(seed), params, opt, jax.random.split(jax.random.key(seed + 1), 3))


def raw(leaf):
  return np.asarray(jax.random.key_data(leaf) if leaves.is_key(leaf) else leaf)


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert x.dtype == y.dtype and x.shape == y.shape
    assert raw(x).tobytes() == raw(y).tobytes()


def saved(path, steps, keep=10):
  """Saves a checkpoint of `make_state(step)` for each step."""
  with checkpoint.Checkpoints(path, keep) as manager:
    for step in steps:
      manager.save(step, make_state(step), {'step': step, 'note': 'x'})
  return path


def data_file(path, step):
  """Returns the largest file of a checkpoint, which holds the numbers."""
  files = [f for f in (path / str(step) / 'state').rglob('*') if f.is_file()]
  return max(files, key=lambda f: (f.stat().st_size, str(f)))
