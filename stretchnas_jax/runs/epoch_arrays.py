"""The arrays of several epochs, and trees of them: as JSON holds them, and read again.

In a search with phases a shape may change on the way, as with logits of their own for more layers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree

Stacked = Float[np.ndarray, 'n ...'] | list[np.ndarray]
"""An array that begins with an axis of n epochs; a list of n arrays where their shapes differ."""


def nested_tree(tree: PyTree, convert: Callable[[Any], Any]) -> Any:
  """Returns a pytree as JSON holds it; of a node of an own class the list of its leaves.

  Args:
    tree: of arrays.
    convert: gives an array as JSON holds it.
  """
  if isinstance(tree, Mapping):
    return {name: nested_tree(part, convert) for name, part in tree.items()}
  if isinstance(tree, (list, tuple)):
    return [nested_tree(part, convert) for part in tree]
  leaves = jax.tree.leaves(tree)
  is_leaf = len(leaves) == 1 and leaves[0] is tree
  return convert(tree) if is_leaf else [convert(leaf) for leaf in leaves]


def nested(array: Any, convert: Callable[[Any], Any]) -> Any:
  """Returns an array as nested lists of converted numbers; without an axis, as a number.

  Args:
    array: of NumPy.
    convert: of a number.
  """
  return [nested(part, convert) for part in array] if array.ndim else convert(array)


def stacked(arrays: Sequence[np.ndarray]) -> Stacked:
  """Returns the arrays of some epochs as one; a list of them where their shapes differ.

  Args:
    arrays: one for each epoch.
  """
  same = len({array.shape for array in arrays}) == 1
  return np.stack(arrays) if same else list(arrays)


def stacked_tree(values: Sequence[Any]) -> PyTree:
  """Returns nested dicts and lists, with the numbers of some epochs as one array.

  Args:
    values: one tree for each epoch, as JSON holds it. A list is an array if it can be one.

  Returns:
    The tree. Where its structure changes from epoch to epoch, it holds a list of n trees.

  Raises:
    ValueError: a value is not a number.
  """
  first = values[0]
  if all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
    return {name: stacked_tree([value[name] for value in values]) for name in first}
  arrays = [_array(value) for value in values]
  if all(array is not None for array in arrays):
    return stacked([array for array in arrays if array is not None])
  if all(isinstance(value, list) and len(value) == len(first) for value in values):
    return [stacked_tree(items) for items in zip(*values)]
  if len(values) == 1:
    raise ValueError(f'{str(first)[:100]!r} is not a number')
  return [jax.tree.map(lambda leaf: leaf[0], stacked_tree([value])) for value in values]


def _array(value: Any) -> Float[np.ndarray, '...'] | None:
  """Returns nested lists of numbers as an array; None where their lengths differ."""
  try:
    return np.array(value, np.float32)
  except (TypeError, ValueError):
    return None
