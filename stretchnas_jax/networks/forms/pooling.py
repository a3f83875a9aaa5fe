"""3x3 pooling windows, padded by one, as shifted copies: one axis, then the other."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

_AXES = (1, 2)  # rows and columns, in either layout


def pooled(x: Float[Array, 'p H W q'], kind: str, stride: int) -> Float[Array, 'p h w q']:
  """Returns the maxima, or the averages without the padding, of all windows.

  Args:
    x: a feature map in either layout.
    kind: 'max_pool_3x3' or 'avg_pool_3x3'.
    stride: 1 or 2; a side of H pixels becomes `ceil(H / stride)`.
  """
  if kind == 'max_pool_3x3':
    return _reduce_windows(x, jnp.maximum, -jnp.inf, stride)
  total = _reduce_windows(x, jnp.add, 0.0, stride)
  for axis in _AXES:
    counts = _window_counts(x.shape[axis], stride).astype(x.dtype)
    total /= counts.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
  return total


def _reduce_windows(
  x: Float[Array, 'p H W q'], reduce: Callable[..., Array], fill: float, stride: int
) -> Float[Array, 'p h w q']:
  """Reduces each window with a function of two arrays; outside the image stands `fill`."""
  for axis in _AXES:
    last = (-(-x.shape[axis] // stride) - 1) * stride + 1
    padding = [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)]
    padded = jnp.pad(x, padding, constant_values=fill)
    shifted = (lax.slice_in_dim(padded, d, d + last, stride, axis) for d in range(3))
    x = functools.reduce(reduce, shifted)
  return x


def _window_counts(length: int, stride: int) -> Float[np.ndarray, 'n']:
  """Counts, for each output, how many of a window's three positions lie inside the image."""
  at = np.arange(0, length, stride)
  return 3.0 - (at == 0) - (at == length - 1)
