"""The leaves of a state by their paths, as plain numbers; a typed key becomes its words."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from stretchnas_jax.machine import devices


def flatten(tree: PyTree) -> dict[str, Any]:
  """Returns `{path: leaf}`, for example `{"['params']['kernel']": leaf}`."""
  return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def is_key(leaf: Any) -> bool:
  """Returns True for an array of typed random keys, or for the shape of one."""
  return hasattr(leaf, 'dtype') and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def raw(leaf: Any) -> Any:
  """Returns a leaf as numbers: the words of a typed key, any other leaf as it is."""
  return jax.random.key_data(leaf) if is_key(leaf) else leaf


def wrap(numbers: Any, like: Any) -> Any:
  """Returns a leaf of the kind of another one; undoes `raw`.

  Args:
    numbers: a result of `raw`.
    like: a leaf that says if the numbers are the words of keys, and of which generator.
  """
  if not is_key(like):
    return numbers
  generators = []
  # The shape of a leaf has no generator; a traced leaf has one.
  jax.eval_shape(lambda key: generators.append(jax.random.key_impl(key)), like)
  return jax.random.wrap_key_data(numbers, impl=generators[0])


def describe(leaf: Any) -> tuple[list[int], str]:
  """Returns shape and name of the dtype of a leaf."""
  leaf = _with_dtype(leaf)
  return list(leaf.shape), str(leaf.dtype)


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  """Returns shape, dtype and place of the numbers that are to be restored for a leaf.

  They go to the devices of the leaf, or to the first device where the leaf is only a shape.
  """
  leaf = _with_dtype(leaf)
  sharding = getattr(leaf, 'sharding', None)
  numbers = leaf
  if is_key(leaf):
    numbers = jax.eval_shape(jax.random.key_data, leaf)
    if sharding is not None and isinstance(leaf, jax.Array):
      sharding = jax.random.key_data(leaf).sharding
  default = jax.sharding.SingleDeviceSharding(devices.of_this_process()[0])
  return jax.ShapeDtypeStruct(numbers.shape, numbers.dtype, sharding=sharding or default)


def _with_dtype(leaf: Any) -> Any:
  return leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
