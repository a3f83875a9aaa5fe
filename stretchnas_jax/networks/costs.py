"""The costs of a network, read off its modules as they are traced."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
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
  return trace_edges(net, image_shape)[0]


Edge = tuple[bool, int]
"""Whether an edge is of the reduction cell, and its place among the edges of the cell."""


def trace_edges(net: nn.Module, image_shape: tuple[int, ...]) -> tuple[Costs, dict[Edge, Costs]]:
  """Returns the costs of a network, and the part of each edge of a cell in all cells of its type.

  Args:
    net: a `FixedNetwork`.
    image_shape: `(H, W, C)`.

  Returns:
    The costs, and those of the edges.
  """
  watch = _Watch()
  with nn.intercept_methods(watch):
    params = count_params(net, image_shape)
  edges: dict[Edge, Costs] = {}
  for edge, found in watch.edges:
    edges[edge] = added(edges.get(edge, Costs(0, 0, 0)), found)
  return _total(params + watch.untraced_params, watch.costs), edges


def added(first: Costs, second: Costs, times: int = 1) -> Costs:
  """Returns the sum of two costs.

  Args:
    first: counts once.
    second: counts so many times.
    times: how many.
  """
  return Costs(*(a + times * b for a, b in zip(first, second)))


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


def _total(params: int, found: Sequence[_Cost]) -> Costs:
  return Costs(params, sum(cost.macs for cost in found), sum(cost.further for cost in found))


def _layer_cost(module: nn.Module, x: Array, y: PyTree) -> _Cost:
  """Counts as the counter behind the published tables does.

  Its further operations are twice the outputs of a batch norm, outputs of a ReLU, inputs of a pool,
  and biases.
  """
  if isinstance(module, layers.Conv | nn.Conv | nn.Dense):
    kernel = module.get_variable('params', 'kernel').shape
    biases = y.size if getattr(module, 'use_bias', False) else 0
    return _Cost(y.size * math.prod(kernel[:-1]), biases)
  if isinstance(module, layers.BatchNorm | nn.BatchNorm):
    return _Cost(0, 2 * y.size)
  if isinstance(module, layers.Relu | layers.Pool | layers.HalfMean | layers.GlobalMean):
    return _Cost(0, x.size)
  return _Cost(0, 0)


class _Traced(NamedTuple):
  """A cell or an operation that has been traced."""

  output: Any
  params: int
  costs: list[_Cost]
  edges: list[tuple[Edge, Costs]]


# Operations of cells that have been traced, for all networks of this process.
_OPERATIONS: dict[tuple[Any, ...], _Traced] = {}
_MOST_OPERATIONS = 4096


class _Watch:
  """Collects the costs of a network while it is traced; an interceptor of linen methods.

  Of cells with equal sizes only the first is traced, and the others give zeros. So it is with equal
  operations, even of other networks.
  """

  def __init__(self) -> None:
    self.costs: list[_Cost] = []
    self.edges: list[tuple[Edge, Costs]] = []
    self.untraced_params = 0
    self._cells: dict[tuple[Any, ...], _Traced] = {}
    self._at_work: set[tuple[str, ...]] = set()  # modules by their paths

  def __call__(
    self,
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    context: nn.module.InterceptorContext,
  ) -> Any:
    module = context.module
    if context.method_name != '__call__' or 'auxiliary_head' in module.path:
      return call(*args, **kwargs)
    work = functools.partial(call, *args, **kwargs)
    if isinstance(module, FixedCell):
      shapes = args[0].shape, args[1].shape
      key = module.channels, module.reduction, module.after_reduction, shapes
      return self._once(self._cells, key, module, work)
    if isinstance(cell := module.parent, FixedCell):
      return self._operation(module, cell, args, work)
    return self._layer(module, args, work)

  def _operation(
    self, module: nn.Module, cell: FixedCell, args: tuple[Any, ...], work: Callable[[], Any]
  ) -> Array:
    """Traces an operation of a cell, unless an equal one was traced, and notes the cost of it."""
    key = _key(module, args)
    seen = _OPERATIONS if key else {}
    y = self._once(seen, key, module, functools.partial(self._layer, module, args, work))
    kind, _, place = str(module.name).partition('_')
    if kind == 'edge':
      found = _total(seen[key].params, seen[key].costs)
      self.edges.append(((cell.reduction, int(place)), found))
    return y

  def _layer(self, module: nn.Module, args: tuple[Any, ...], work: Callable[[], Any]) -> Any:
    """Traces a module and counts its own cost."""
    # A layer that extends one of linen's calls that one, and counts once.
    if module.path in self._at_work:
      return work()
    self._at_work.add(module.path)
    y = work()
    self._at_work.remove(module.path)
    self.costs.append(_layer_cost(module, args[0], y))
    return y

  def _once(
    self,
    seen: dict[tuple[Any, ...], _Traced],
    key: tuple[Any, ...],
    module: nn.Module,
    work: Callable[[], Any],
  ) -> Array:
    """Traces a module, or gives zeros in place of its output where an equal one was traced."""
    if key in seen:
      found = seen[key]
      self.untraced_params += found.params
      self.costs += found.costs
      self.edges += found.edges
      return jnp.zeros(found.output.shape, found.output.dtype)
    before = len(self.costs), len(self.edges), self.untraced_params
    y = work()
    params = _count_leaves(module.variables.get('params', {}))
    params += self.untraced_params - before[2]
    if len(seen) >= _MOST_OPERATIONS:
      seen.clear()
    output = jax.ShapeDtypeStruct(y.shape, y.dtype)
    seen[key] = _Traced(output, params, self.costs[before[0] :], self.edges[before[1] :])
    return y


def _key(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
  """Returns a key that equal operations have in common; () where one cannot be compared."""
  names = [field.name for field in dataclasses.fields(module) if field.name not in _OF_PLACE]
  shape, dtype = args[0].shape, args[0].dtype
  key = type(module), tuple(getattr(module, name) for name in names), shape, dtype, args[1:]
  try:
    hash(key)
  except TypeError:
    return ()
  return key


# The fields of a module that say where it stands.
_OF_PLACE = ('parent', 'name')
