"""Exact sizes of networks: parameters, multiply-adds, and FLOPs as papers on cells print them.

Everything is read off the real modules: they are traced without computing anything, and every layer
that costs something is watched as it runs.
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from stretchnas_jax.networks import network, stems_and_heads, supernet
from stretchnas_jax.networks import operations as ops

IMAGE_SHAPES = {'cifar': (32, 32, 3), 'imagenet': (224, 224, 3)}


class Sizes(NamedTuple):
  """Sizes of one network; `macs` and `flops_ptflops` are per image."""

  params: int
  macs: int
  flops_ptflops: int


def layer_cost(module, x, y):
  """(multiply-adds, further operations that papers count) of one layer for one image.

  The further ones are those of the counter behind the published tables: twice the outputs of a
  batch norm, outputs of a ReLU, inputs of a pool, biases.
  """
  if isinstance(module, ops.Conv):
    height, width, inputs, _ = module.get_variable('params', 'kernel').shape
    return y.size * height * width * inputs, 0
  if isinstance(module, nn.Dense):
    return y.size * x.size, y.size
  if isinstance(module, nn.BatchNorm):
    return 0, 2 * y.size
  if isinstance(module, ops.Relu | ops.Pool | ops.GlobalMean):
    return 0, x.size
  return 0, 0


def count_leaves(params):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def shapes_of(net, image_shape):
  """Shapes of all variables of a network; nothing is computed."""
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  return jax.eval_shape(net.init, jax.random.key(0), images)


class Watch:
  """Collects the costs of a network while it is traced; an interceptor of linen methods.

  Cells that are equal in all that counts are traced once: the others give zeros.
  """

  def __init__(self):
    self.costs, self.untraced_params, self.seen = [], 0, {}

  def __call__(self, call, args, kwargs, context):
    module = context.module
    if context.method_name == '__call__' and isinstance(module, network.FixedCell):
      return self._cell(call, args, kwargs, module)
    y = call(*args, **kwargs)
    if context.method_name == '__call__' and 'auxiliary_head' not in module.path:
      self.costs.append(layer_cost(module, args[0], y))
    return y

  def _cell(self, call, args, kwargs, cell):
    shapes = args[0].shape, args[1].shape
    key = cell.channels, cell.reduction, cell.after_reduction, shapes
    if key not in self.seen:
      before = len(self.costs)
      y = call(*args, **kwargs)
      params = count_leaves(cell.variables['params'])
      self.seen[key] = y, params, self.costs[before:]
      return y
    y, params, costs = self.seen[key]
    self.untraced_params += params
    self.costs += costs
    return jnp.zeros_like(y)


@functools.lru_cache(maxsize=1024)
def measure(genotype, channels, num_layers, num_classes, stem, auxiliary, image_shape):
  """The `Sizes` of a `FixedNetwork`; its costs are without the auxiliary head's."""
  sizes = channels, num_layers, num_classes
  # The form does not matter for what is counted; this one is traced sooner.
  net = network.FixedNetwork(genotype, *sizes, stem, auxiliary, form='plain')
  watch = Watch()
  with nn.intercept_methods(watch):
    variables = shapes_of(net, image_shape or IMAGE_SHAPES[stem])
  macs, further = (sum(column) for column in zip(*watch.costs))
  return Sizes(count_leaves(variables['params']) + watch.untraced_params, macs, macs + further)


def count_params(
  genotype, *, channels, num_layers, num_classes, stem='cifar', auxiliary=False, image_shape=None
):
  """Number of parameters of a `FixedNetwork`, without running averages.

  Args:
    genotype: the cells.
    channels: C of the first cells.
    num_layers: number of cells.
    num_classes: number of classes.
    stem: 'cifar' or 'imagenet'.
    auxiliary: whether the auxiliary head counts.
    image_shape: `(H, W, C)`; by default 32x32x3 or 224x224x3, after the stem.
  """
  shape = image_shape and tuple(image_shape)
  return measure(genotype, channels, num_layers, num_classes, stem, auxiliary, shape).params


def count_macs(
  genotype, *, channels, num_layers, num_classes, stem='cifar', auxiliary=False, image_shape=None
):
  """Multiply-adds of convolutions and classifier, per image, as `count_params` takes them.

  The auxiliary head never counts: it is not there when the network is used.
  """
  shape = image_shape and tuple(image_shape)
  return measure(genotype, channels, num_layers, num_classes, stem, auxiliary, shape).macs


def count_flops_ptflops(
  genotype, *, channels, num_layers, num_classes, stem='cifar', auxiliary=False, image_shape=None
):
  """What papers on cells print as FLOPs, per image, as `count_params` takes it.

  Multiply-adds, twice the outputs of batch norms, outputs of ReLUs, inputs of pools and of the
  global mean, biases; without the auxiliary head.
  """
  shape = image_shape and tuple(image_shape)
  return measure(genotype, channels, num_layers, num_classes, stem, auxiliary, shape).flops_ptflops


def channels_for(
  genotype,
  target_params,
  *,
  num_layers,
  num_classes,
  stem='cifar',
  auxiliary=False,
  image_shape=None,
):
  """The C whose network has the number of parameters nearest to `target_params`.

  For comparisons at equal size: "similar parameters by controlling C". C is even where the stem
  needs it. The rest as `count_params`.
  """
  if not 0 < target_params < math.inf:
    raise ValueError(f'target_params is {target_params!r}; it must be a positive number')
  unit = 1 + stems_and_heads.needs_even(stem)
  count = lambda units: count_params(
    genotype,
    channels=unit * units,
    num_layers=num_layers,
    num_classes=num_classes,
    stem=stem,
    auxiliary=auxiliary,
    image_shape=image_shape,
  )
  # Bisection, but counts grow about as C ** 2: a guess by that is nearly right at once.
  low, high, units = 0, math.inf, 32 // unit
  while high - low > 1:
    low, high = (units, high) if count(units) < target_params else (low, units)
    guess = round(units * math.sqrt(target_params / count(units)))
    units = max(low + 1, min(high - 1, guess))
  return unit * min((low or high, high), key=lambda units: abs(count(units) - target_params))


def count_supernet_params(
  space, *, channels, num_layers, num_classes, image_channels=3, stem='cifar'
):
  """Number of weights of a `Supernet`, without alpha, beta and running averages."""
  net = supernet.Supernet(space, channels, num_layers, num_classes, stem)
  return count_leaves(shapes_of(net, (32, 32, image_channels))['params'])
