"""Sizes of many networks after a few traces equal those that are traced one by one."""

import flax.linen as nn
import pytest
from helpers import TINY_CELL

from stretchnas_jax import sizes
from stretchnas_jax.cells import genotype, nas_bench_201, random_cells, zoo
from stretchnas_jax.networks.quick_sizes import measure_many

LOOSE = genotype.Genotype(
  (('sep_conv_5x5', 0, 2), ('sep_conv_5x5', 0, 2), ('max_pool_3x3', 2, 5), ('dil_conv_3x3', 1, 7)),
  (7, 5),
  (('avg_pool_3x3', 1, 3), ('conv_7x1_1x7', 3, 4), ('sep_conv_7x7', 0, 4)),
  (4,),
)
CELLS = [TINY_CELL, LOOSE, zoo.GENOTYPES['DARTS_V2'], random_cells.random_cell(0)]


@pytest.mark.parametrize(
  'channels, layers, classes, stem, shape',
  [
    (4, 3, 5, 'cifar', (9, 11, 1)),
    (2, 1, 3, 'cifar', None),
    (3, 2, 3, 'cifar', (8, 8, 3)),
    (4, 5, 7, 'imagenet', (40, 40, 3)),
  ],
)
def test_they_equal_the_sizes_of_each_network(channels, layers, classes, stem, shape):
  found = measure_many(CELLS, channels, layers, classes, stem, shape)
  given = {'stem': stem, 'image_shape': shape}
  assert found == [sizes.measure(cell, channels, layers, classes, **given) for cell in CELLS]


def test_cells_of_nas_bench_201_have_their_own_sizes():
  cells = [nas_bench_201.from_code(code) for code in (0, 1234, 9999, 15624)]
  for depth in (1, 3):
    found = measure_many(cells, 4, depth, 5, 'cifar', (12, 8, 1))
    assert found == [sizes.measure(cell, 4, depth, 5, image_shape=(12, 8, 1)) for cell in cells]


class Own(nn.Module):
  """A convolution of a list of sizes, which has no hash."""

  channels: int
  stride: int
  sizes: list

  @nn.compact
  def __call__(self, x, train=False):
    strides = (self.stride, self.stride)
    return nn.Conv(self.channels, tuple(self.sizes), strides, use_bias=False)(x)


def test_own_operations_count_too():
  operations = {'own': lambda channels, stride: Own(channels, stride, [3, 1])}
  edges = (('own', 0, 2), ('own', 2, 3), ('skip_connect', 1, 3))
  cell = genotype.Genotype(edges, (2, 3), edges, (3,))
  given = {'image_shape': (8, 8, 3), 'operations': operations}
  found = measure_many([cell, TINY_CELL], 2, 3, 4, **given)
  assert found == [sizes.measure(g, 2, 3, 4, **given) for g in (cell, TINY_CELL)]
