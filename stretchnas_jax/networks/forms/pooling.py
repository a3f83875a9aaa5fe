"""3x3 pooling windows, padded by one, as shifted copies: one axis, then the other."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax


def pooled(x, name, stride, axes=(1, 2)):
  """Max pooling, or average pooling that does not count the padding.

  Args:
    x: a feature map.
    name: 'max_pool_3x3' or 'avg_pool_3x3'.
    stride: 1 or 2; a side of H becomes `ceil(H / stride)`.
    axes: rows and columns of x.
  """
  if name == 'max_pool_3x3':
    return pool(x, jnp.maximum, -jnp.inf, stride, axes)
  total = pool(x, jnp.add, 0.0, stride, axes)
  for axis in axes:
    counts = window_counts(x.shape[axis], stride).astype(x.dtype)
    total /= counts.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
  return total


def pool(x, reduce, fill, stride, axes):
  for axis in axes:
    last = (-(-x.shape[axis] // stride) - 1) * stride + 1
    padding = [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)]
    padded = jnp.pad(x, padding, constant_values=fill)
    shifted = (lax.slice_in_dim(padded, d, d + last, stride, axis) for d in range(3))
    x = functools.reduce(reduce, shifted)
  return x


def window_counts(length, stride):
  """How many of the three positions of a window lie inside the image, for each output."""
  at = np.arange(0, length, stride)
  return 3.0 - (at == 0) - (at == length - 1)
