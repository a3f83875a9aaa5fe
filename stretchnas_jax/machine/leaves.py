"""The leaves of a state by their paths, as plain numbers; typed keys are their words."""

import jax
import numpy as np

from stretchnas_jax.machine import devices


def flatten(tree):
  """`{"['params']['kernel']": leaf, ...}`"""
  return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def is_key(leaf):
  return hasattr(leaf, 'dtype') and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def raw(leaf):
  """A leaf as numbers: a typed key as its words."""
  return jax.random.key_data(leaf) if is_key(leaf) else leaf


def wrap(numbers, like):
  if not is_key(like):
    return numbers
  kinds = []
  jax.eval_shape(lambda key: kinds.append(jax.random.key_impl(key)), like)
  return jax.random.wrap_key_data(numbers, impl=kinds[0])


def describe(leaf):
  """`(shape, name of the type)`"""
  leaf = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
  return list(leaf.shape), str(leaf.dtype)


def abstract(leaf):
  """What orbax is to restore for a leaf: numbers, and where they go."""
  leaf = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
  sharding = getattr(leaf, 'sharding', None)
  numbers = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
  if sharding is not None and is_key(leaf) and isinstance(leaf, jax.Array):
    sharding = jax.random.key_data(leaf).sharding
  default = jax.sharding.SingleDeviceSharding(devices.of_this_process()[0])
  return jax.ShapeDtypeStruct(numbers.shape, numbers.dtype, sharding=sharding or default)
