"""Partial channels: operations see C / K channels, and the rest pass an edge by (Xu et al. 2020).

A node is kept as the sum of its edges leaves it: the channels of the operations stand first. Its
channels are shuffled where it is read, so that the next operations see some of both. Shuffling is
linear and equal for all edges, so that once for each node is enough. Inputs of a cell are not
shuffled.
"""

import functools

import jax.numpy as jnp
from jaxtyping import Array

from stretchnas_jax.networks.forms.layouts import FeatureMap


def shuffle(x: FeatureMap, split: int, axis: int) -> FeatureMap:
  """Returns the channels in another order: channel `g * C / K + c` moves to `c * K + g`.

  Args:
    x: feature maps of C channels.
    split: K.
    axis: the axis of the channels.
  """
  return x if split == 1 else _transpose(x, (split, x.shape[axis] // split), axis)


def unshuffle(x: FeatureMap, split: int, axis: int) -> FeatureMap:
  """Returns the channels as they were before `shuffle`.

  Args:
    x: feature maps of C channels.
    split: K.
    axis: the axis of the channels.
  """
  return x if split == 1 else _transpose(x, (x.shape[axis] // split, split), axis)


def front(x: Array, split: int, axis: int) -> Array:
  """Returns the C / K channels that operations see.

  Args:
    x: feature maps of C channels.
    split: K.
    axis: the axis of the channels.
  """
  return x if split == 1 else jnp.split(x, [x.shape[axis] // split], axis)[0]


def bypass(x: FeatureMap, split: int, stride: int, axis: int) -> FeatureMap:
  """Returns the other channels, at stride 2 the maxima of 2x2 pixels.

  Args:
    x: feature maps of C channels; rows and columns are axes 1 and 2.
    split: K, more than 1.
    stride: 1 or 2; an odd side of H pixels becomes `(H + 1) / 2`.
    axis: the axis of the channels.
  """
  rest = jnp.split(x, [x.shape[axis] // split], axis)[1]
  if stride == 1:
    return rest
  padding = [(0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)]
  rest = jnp.pad(rest, padding, constant_values=-jnp.inf)
  corners = [rest[:, i::2, j::2] for i in range(2) for j in range(2)]
  return functools.reduce(jnp.maximum, corners)


def join(fronts: FeatureMap, rest: FeatureMap, axis: int) -> FeatureMap:
  """Returns all channels side by side, those of the operations first.

  Args:
    fronts: the channels of the operations.
    rest: the others.
    axis: the axis of the channels.
  """
  return jnp.concatenate([fronts, rest], axis)


def add_front(node: FeatureMap, y: FeatureMap, split: int, axis: int) -> FeatureMap:
  """Returns a node with more maps added to the channels of the operations.

  Args:
    node: feature maps of C channels.
    y: feature maps of C / K channels.
    split: K.
    axis: the axis of the channels.
  """
  if split == 1:
    return node + y
  fronts, rest = jnp.split(node, [node.shape[axis] // split], axis)
  return join(fronts + y, rest, axis)


def _transpose(x: FeatureMap, sides: tuple[int, int], axis: int) -> FeatureMap:
  """Exchanges the two factors of the axis of the channels."""
  axis %= x.ndim
  apart = x.reshape(*x.shape[:axis], *sides, *x.shape[axis + 1 :])
  return apart.swapaxes(axis, axis + 1).reshape(x.shape)
