"""A researcher's own operations: linen modules by name, checked where they are plugged in."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
from jaxtyping import Array, Float

from stretchnas_jax.networks.cell_plan import is_built_in

OwnOperations: TypeAlias = Mapping[str, Callable[[int, int], nn.Module]]
"""For each name a function `(channels, stride) -> linen module`.

The call `module(x, train)` maps `[B, H, W, C]` to `[B, ceil(H / stride), ceil(W / stride), C]` of
the same type. A module with a field `axis_name` gets the name of the parallel axis there, or None,
for the batch norms in it.
"""


def check_names(operations: OwnOperations | None) -> None:
  """Raises ValueError where an own operation has the name of a built-in one.

  A supernet would compute the built-in one, and a network of a fixed cell the own one.

  Args:
    operations: the researcher's operations.
  """
  for name in operations or {}:
    if is_built_in(name):
      raise ValueError(
        f'operations has {name!r}, the name of a built-in operation; choose another name'
      )


def build(
  operations: OwnOperations, name: str, channels: int, stride: int, axis_name: str | None = None
) -> nn.Module:
  """Returns the module of an operation.

  Args:
    operations: the researcher's operations.
    name: the name of one of them.
    channels: C, of input and output.
    stride: 1 or 2.
    axis_name: the parallel axis over which batch statistics are taken, or None. It is the field
      `axis_name` of the module, where the module has one.

  Raises:
    ValueError: the function does not return a linen module.
  """
  module = operations[name](channels, stride)
  if not isinstance(module, nn.Module):
    raise ValueError(
      f'the operation {name!r} is built as {_shown(module)}; its function (channels, stride) must '
      'return a linen module'
    )
  if any(field.name == 'axis_name' for field in dataclasses.fields(module)):
    return module.clone(axis_name=axis_name)
  return module


def apply(
  module: nn.Module, name: str, stride: int, x: Float[Array, 'B H W C'], train: bool
) -> Float[Array, 'B h w C']:
  """Returns the output of an operation's module.

  Args:
    module: the module, bound to the cell that calls it.
    name: the name of the operation.
    stride: 1 or 2.
    x: its input.
    train: whether to normalise with the moments of the batch.

  Raises:
    ValueError: the output has a wrong shape or type.
  """
  y = module(x, train)
  batch, height, width, channels = x.shape
  expected = (batch, -(-height // stride), -(-width // stride), channels)
  where = f'the operation {name!r} ({type(module).__name__}) returns'
  if getattr(y, 'shape', None) != expected:
    raise ValueError(f'{where} {_shown(y)} at stride {stride}; it must return {list(expected)}')
  if y.dtype != x.dtype:
    raise ValueError(
      f'{where} {y.dtype} for an input of {x.dtype}; it must return {x.dtype}, '
      'for example by .astype(x.dtype)'
    )
  return y


def _shown(value: Any) -> str:
  """Returns the shape of an array, or the kind of anything else."""
  shape = getattr(value, 'shape', None)
  return f'a {type(value).__name__}' if shape is None else str(list(shape))
