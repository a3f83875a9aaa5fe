"""The costs of a network, read off its modules as they are traced."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from stretchnas_jax.networks import initializers, layers
from stretchnas_jax.networks.fixed_cell import FixedCell


class Costs(NamedTuple):
  """The costs of a network for one image.

  Attributes:
    params: the number of parameters, without running averages.
    macs: multiply-adds of convolutions and linear maps.
    further: the operations that papers add to them.
  """

  params: int
  macs: int
  further: int


def trace_costs(net: nn.Module, image_shape: tuple[int, ...]) -> Costs:
  """Returns the costs of a network, without those of an auxiliary head's computation.

  Args:
    net: a `FixedNetwork`.
    image_shape: `(H, W, C)`.
  """
  watch = _Watch()
  with nn.intercept_methods(watch):
    params = count_params(net, image_shape)
  macs = sum(cost.macs for cost in watch.costs)
  return Costs(params + watch.untraced_params, macs, sum(cost.further for cost in watch.costs))


def count_params(net: nn.Module, image_shape: tuple[int, ...]) -> int:
  """Returns the number of parameters of a network, without running averages.

  Args:
    net: a linen module that takes images.
    image_shape: `(H, W, C)`.
  """
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  return _count_leaves(initializers.trace_shapes(net, images).get('params', {}))


def _count_leaves(params: PyTree) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


class _Cost(NamedTuple):
  """The cost of one layer for one image; `further` are the operations that papers add."""

  macs: int
  further: int


def _layer_cost(module: nn.Module, x: Array, y: PyTree[Array]) -> _Cost:
  """Counts as the counter behind the published tables does.

  Its further operations are twice the outputs of a batch norm, outputs of a ReLU, inputs of a pool,
  and biases.
  """
  if isinstance(module, layers.Conv | nn.Conv | nn.Dense):
    kernel = module.get_variable('params', 'kernel').shape
    biases = y.size if getattr(module, 'use_bias', False) else 0
    return _Cost(y.size * math.prod(kernel[:-1]), biases)
  if isinstance(module, nn.BatchNorm):
    return _Cost(0, 2 * y.size)
  if isinstance(module, layers.Relu | layers.Pool | layers.GlobalMean):
    return _Cost(0, x.size)
  return _Cost(0, 0)


class _TracedCell(NamedTuple):
  """A cell that has been traced."""

  output: Array
  params: int
  costs: list[_Cost]


class _Watch:
  """Collects the costs of a network while it is traced; an interceptor of linen methods.

  Of cells with equal sizes only the first is traced, and the others give zeros.
  """

  def __init__(self) -> None:
    self.costs: list[_Cost] = []
    self.untraced_params = 0
    self._seen: dict[tuple[Any, ...], _TracedCell] = {}
    self._at_work: set[tuple[str, ...]] = set()  # modules by their paths

  def __call__(
    self,
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    context: nn.module.InterceptorContext,
  ) -> Any:
    module = context.module
    if context.method_name == '__call__' and isinstance(module, FixedCell):
      return self._cell(call, args, kwargs, module)
    # A layer that extends one of linen's calls that one, and counts once.
    counts = context.method_name == '__call__' and module.path not in self._at_work
    if not counts or 'auxiliary_head' in module.path:
      return call(*args, **kwargs)
    self._at_work.add(module.path)
    y = call(*args, **kwargs)
    self._at_work.remove(module.path)
    self.costs.append(_layer_cost(module, args[0], y))
    return y

  def _cell(
    self,
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    cell: FixedCell,
  ) -> Array:
    shapes = args[0].shape, args[1].shape
    key = cell.channels, cell.reduction, cell.after_reduction, shapes
    if key in self._seen:
      seen = self._seen[key]
      self.untraced_params += seen.params
      self.costs += seen.costs
      return jnp.zeros_like(seen.output)
    before = len(self.costs)
    y = call(*args, **kwargs)
    self._seen[key] = _TracedCell(y, _count_leaves(cell.variables['params']), self.costs[before:])
    return y
