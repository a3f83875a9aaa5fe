"""Exact sizes of networks: parameters, multiply-adds, and FLOPs as papers on cells print them.

All numbers are read off the real modules. They are traced without computing anything, and every
layer that costs something is watched as it runs. Of a researcher's own operations the layers of
`networks.layers` and linen's `Conv`, `Dense` and `BatchNorm` count.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn

from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.networks import costs, stems_and_heads, trained_network
from stretchnas_jax.networks.own_operations import OwnOperations
from stretchnas_jax.networks.search_network import network_class

IMAGE_SHAPES = {'cifar': (32, 32, 3), 'imagenet': (224, 224, 3)}
"""The usual `(H, W, C)` of an image for each stem."""

_ImageShape = tuple[int, int, int] | list[int]


class Sizes(NamedTuple):
  """Sizes of one network.

  Attributes:
    params: the number of parameters, without running averages.
    macs: multiply-adds per image.
    flops_ptflops: FLOPs per image as papers on cells print them.
  """

  params: int
  macs: int
  flops_ptflops: int


def measure(
  genotype: AnyGenotype,
  channels: int,
  num_layers: int,
  num_classes: int,
  stem: str = 'cifar',
  auxiliary: bool = False,
  image_shape: _ImageShape | None = None,
  operations: OwnOperations | None = None,
) -> Sizes:
  """Returns the sizes of a `FixedNetwork`.

  The auxiliary head counts among the parameters only: it is not there when the network is used.

  Args:
    genotype: the cells.
    channels: C of the first cells.
    num_layers: the number of cells.
    num_classes: the number of classes.
    stem: 'cifar' or 'imagenet'.
    auxiliary: whether the auxiliary head counts.
    image_shape: `(H, W, C)`; by default 32x32x3 or 224x224x3, after the stem.
    operations: a researcher's own operations, as for `FixedNetwork`.

  Example:
    >>> cell = snas.zoo.GENOTYPES['DARTS_V2']
    >>> measure(cell, channels=36, num_layers=20, num_classes=10)
    Sizes(params=3349342, macs=528359040, flops_ptflops=547473034)
  """
  shape = tuple(IMAGE_SHAPES.get(stem, ()) if image_shape is None else image_shape)
  own = tuple(sorted((operations or {}).items()))
  return _measure(genotype, channels, num_layers, num_classes, stem, auxiliary, shape, own)


@functools.lru_cache(maxsize=1024)
def _measure(
  genotype: AnyGenotype,
  channels: int,
  num_layers: int,
  num_classes: int,
  stem: str,
  auxiliary: bool,
  image_shape: tuple[int, ...],
  own: tuple[tuple[str, Callable[[int, int], nn.Module]], ...],
) -> Sizes:
  # The form does not matter for the counts; this one is traced sooner.
  net = trained_network.network_class(genotype)(
    genotype, channels, num_layers, num_classes, stem, auxiliary, dict(own), form='plain'
  )
  found = costs.trace_costs(net, image_shape)
  return Sizes(found.params, found.macs, found.macs + found.further)


def count_params(
  genotype: AnyGenotype,
  *,
  channels: int,
  num_layers: int,
  num_classes: int,
  stem: str = 'cifar',
  auxiliary: bool = False,
  image_shape: _ImageShape | None = None,
  operations: OwnOperations | None = None,
) -> int:
  """Returns the number of parameters of a `FixedNetwork`, without running averages.

  Args:
    genotype: the cells.
    channels: C of the first cells.
    num_layers: the number of cells.
    num_classes: the number of classes.
    stem: 'cifar' or 'imagenet'.
    auxiliary: whether the auxiliary head counts.
    image_shape: `(H, W, C)`; by default 32x32x3 or 224x224x3, after the stem.
    operations: a researcher's own operations.

  Example:
    >>> cell = snas.zoo.GENOTYPES['DARTS_V2']
    >>> count_params(cell, channels=36, num_layers=20, num_classes=10)
    3349342
  """
  return measure(
    genotype, channels, num_layers, num_classes, stem, auxiliary, image_shape, operations
  ).params


def count_macs(
  genotype: AnyGenotype,
  *,
  channels: int,
  num_layers: int,
  num_classes: int,
  stem: str = 'cifar',
  auxiliary: bool = False,
  image_shape: _ImageShape | None = None,
  operations: OwnOperations | None = None,
) -> int:
  """Returns the multiply-adds of convolutions and classifier, per image.

  Args:
    genotype: the cells.
    channels: C of the first cells.
    num_layers: the number of cells.
    num_classes: the number of classes.
    stem: 'cifar' or 'imagenet'.
    auxiliary: changes nothing, because the auxiliary head never counts here.
    image_shape: `(H, W, C)`; by default 32x32x3 or 224x224x3, after the stem.
    operations: a researcher's own operations.

  Example:
    >>> cell = snas.zoo.GENOTYPES['DARTS_V2']
    >>> round(count_macs(cell, channels=36, num_layers=20, num_classes=10) / 1e6, 2)
    528.36
  """
  return measure(
    genotype, channels, num_layers, num_classes, stem, auxiliary, image_shape, operations
  ).macs


def count_flops_ptflops(
  genotype: AnyGenotype,
  *,
  channels: int,
  num_layers: int,
  num_classes: int,
  stem: str = 'cifar',
  auxiliary: bool = False,
  image_shape: _ImageShape | None = None,
  operations: OwnOperations | None = None,
) -> int:
  """Returns the FLOPs per image as papers on cells print them.

  They are multiply-adds, twice the outputs of batch norms, outputs of ReLUs, inputs of pools and of
  the global mean, and biases.

  Args:
    genotype: the cells.
    channels: C of the first cells.
    num_layers: the number of cells.
    num_classes: the number of classes.
    stem: 'cifar' or 'imagenet'.
    auxiliary: changes nothing, because the auxiliary head never counts here.
    image_shape: `(H, W, C)`; by default 32x32x3 or 224x224x3, after the stem.
    operations: a researcher's own operations.

  Example:
    >>> cell = snas.zoo.GENOTYPES['DARTS_V2']
    >>> round(count_flops_ptflops(cell, channels=36, num_layers=20, num_classes=10) / 1e6)
    547
  """
  return measure(
    genotype, channels, num_layers, num_classes, stem, auxiliary, image_shape, operations
  ).flops_ptflops


def channels_for(
  genotype: AnyGenotype,
  target_params: float | int,
  *,
  num_layers: int,
  num_classes: int,
  stem: str = 'cifar',
  auxiliary: bool = False,
  image_shape: _ImageShape | None = None,
  operations: OwnOperations | None = None,
) -> int:
  """Returns the C whose network has the number of parameters nearest to a target.

  For comparisons at equal size. C is even where the stem needs it.

  Args:
    genotype: the cells.
    target_params: the wanted number of parameters.
    num_layers: the number of cells.
    num_classes: the number of classes.
    stem: 'cifar' or 'imagenet'.
    auxiliary: whether the auxiliary head counts.
    image_shape: `(H, W, C)`; by default 32x32x3 or 224x224x3, after the stem.
    operations: a researcher's own operations.

  Raises:
    ValueError: the target is not a positive number.

  Example:
    >>> cell = snas.zoo.GENOTYPES['DARTS_V2']
    >>> channels_for(cell, 3.5e6, num_layers=20, num_classes=10)
    37
  """
  if not 0 < target_params < math.inf:
    raise ValueError(f'target_params is {target_params!r}; it must be a positive number')
  unit = 2 if stems_and_heads.needs_even(stem) else 1

  def count(units: int) -> int:
    return measure(
      genotype, unit * units, num_layers, num_classes, stem, auxiliary, image_shape, operations
    ).params

  # Bisection, but counts grow about as C ** 2: a guess by that is nearly right at once.
  low, high, units = 0, None, 32 // unit
  while high is None or high - low > 1:
    if count(units) < target_params:
      low = units
    else:
      high = units
    guess = round(units * math.sqrt(target_params / count(units)))
    units = max(low + 1, guess if high is None else min(high - 1, guess))
  return unit * min((low or high, high), key=lambda units: abs(count(units) - target_params))


def count_supernet_params(
  space: SearchSpace,
  *,
  channels: int,
  num_layers: int,
  num_classes: int,
  image_channels: int = 3,
  stem: str = 'cifar',
  operations: OwnOperations | None = None,
  partial_channels: int = 1,
  auxiliary_skip: bool = False,
  final_norm: bool = False,
) -> int:
  """Returns the number of weights of a supernet, without alpha, beta and running averages.

  Args:
    space: the search space, of DARTS or of NAS-Bench-201.
    channels: C of the first cells.
    num_layers: the number of cells; in NAS-Bench-201 that of each stage.
    num_classes: the number of classes.
    image_channels: the channels of an image.
    stem: 'cifar' or 'imagenet'.
    operations: a researcher's own operations.
    partial_channels: K, as for `Supernet`.
    auxiliary_skip: as for `Supernet`.
    final_norm: as for `Supernet`.

  Example:
    >>> space = snas.darts_space(with_none=True)
    >>> count_supernet_params(space, channels=16, num_layers=8, num_classes=10)
    1930618
  """
  net = network_class(space)(
    space, channels, num_layers, num_classes, stem, operations=operations,
    partial_channels=partial_channels, auxiliary_skip=auxiliary_skip, final_norm=final_norm,
  )  # fmt: skip
  return count_net_params(net, (32, 32, image_channels))


def count_net_params(net: nn.Module, image_shape: _ImageShape) -> int:
  """Returns the number of parameters of any network, without running averages.

  Args:
    net: a linen module, for example a `Supernet`.
    image_shape: `(H, W, C)`.

  Example:
    >>> count_net_params(snas.Supernet(snas.darts_space(1), 4, 1, 10), (8, 8, 3))
    3158
  """
  return costs.count_params(net, tuple(image_shape))
