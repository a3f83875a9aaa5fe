"""Sizes against published numbers, the compiled program, and counts by hand."""

import math

import jax
import numpy as np
import pytest
from helpers import count_multiply_adds

from stretchnas_jax.cells import genotype, graph, space, zoo
from stretchnas_jax.networks import network, operations, sizes

CIFAR = {'channels': 36, 'num_layers': 20, 'num_classes': 10}
IMAGENET = {'channels': 48, 'num_layers': 14, 'num_classes': 1000, 'stem': 'imagenet'}

PARAMS = {
  'DARTS_V1': 3_169_414,
  'DARTS_V2': 3_349_342,
  'DOTS_C10': 3_526_030,
  'ISTA_twostage': 3_316_726,
}

# What was published, in millions and in so many digits.
PUBLISHED_PARAMS = {
  'MiLeNAS_3.87M': 3.87,
  'MiLeNAS_2.87M': 2.87,
  'MiLeNAS_2.86M': 2.86,
  'MiLeNAS_2.09M': 2.09,
  'PC_DARTS_cifar': 3.6,
  'PDARTS': 3.4,
  'DrNAS_cifar10': 4.1,
}

FLOPS = [
  ('DARTS_V1', CIFAR, 519),
  ('DARTS_V2', CIFAR, 547),
  ('PC_DARTS_cifar', CIFAR, 576),
  ('PDARTS', CIFAR, 551),
  ('MiLeNAS_3.87M', CIFAR, 629),
  ('PC_DARTS_cifar', IMAGENET, 586),
  ('PC_DARTS_image', IMAGENET, 597),
  ('PDARTS', IMAGENET, 557),
]


@pytest.mark.parametrize('name', PARAMS)
def test_params_to_the_last_one(name):
  assert sizes.count_params(zoo.GENOTYPES[name], **CIFAR) == PARAMS[name]


@pytest.mark.parametrize('name', PUBLISHED_PARAMS)
def test_params_as_published(name):
  published = PUBLISHED_PARAMS[name]
  digits = len(str(published).split('.')[1])
  assert round(sizes.count_params(zoo.GENOTYPES[name], **CIFAR) / 1e6, digits) == published


def test_params_on_imagenet():
  assert sizes.count_params(zoo.GENOTYPES['DARTS_V2'], **IMAGENET) == 4_718_752
  assert sizes.count_params(zoo.GENOTYPES['DOTS_ImageNet'], **IMAGENET) == 5_348_032


def test_auxiliary_heads():
  cell = zoo.GENOTYPES['DARTS_V2']
  assert sizes.count_params(cell, **CIFAR, auxiliary=True) == 3_825_768
  assert sizes.count_params(cell, **IMAGENET, auxiliary=True) == 5_979_528
  # It costs nothing where the network is used.
  for count in (sizes.count_macs, sizes.count_flops_ptflops):
    assert count(cell, **CIFAR, auxiliary=True) == count(cell, **CIFAR)


@pytest.mark.parametrize('name, where, published', FLOPS)
def test_flops_as_papers_print_them(name, where, published):
  assert round(sizes.count_flops_ptflops(zoo.GENOTYPES[name], **where) / 1e6) == published


def test_macs():
  cell = zoo.GENOTYPES['DARTS_V2']
  assert sizes.count_macs(cell, **CIFAR) == 528_359_040
  assert round(sizes.count_macs(cell, **IMAGENET) / 1e6, 1) == 529.9
  assert sizes.count_flops_ptflops(cell, **IMAGENET) == 544_589_032


# ---- against other ways of counting --------------------------------------------------------------

# Every operation, at stride 1 and 2, and cells that occur more than once.
EDGES = [(name, i % 2, 2 + i // 2) for i, name in enumerate(operations.OPERATIONS)]
MANY = genotype.Genotype([*EDGES, ('skip_connect', 2, 6)], [2, 6], EDGES, [4, 3, 2])


@pytest.mark.parametrize('stem, side', [('cifar', 32), ('imagenet', 224)])
def test_macs_are_those_of_the_program(stem, side):
  net = network.FixedNetwork(MANY, 4, 8, 10, stem, form='plain')  # shifts are no convolutions
  image = np.zeros((1, side, side, 3), np.float32)
  variables = jax.eval_shape(net.init, jax.random.key(0), image)
  program = jax.make_jaxpr(net.apply)(variables, image)
  fields = {'channels': 4, 'num_layers': 8, 'num_classes': 10, 'stem': stem}
  assert sizes.count_macs(MANY, **fields) == count_multiply_adds(program.jaxpr)


@pytest.mark.parametrize('auxiliary', [False, True])
def test_params_are_those_of_init(auxiliary):
  net = network.FixedNetwork(MANY, 6, 8, 7, auxiliary=auxiliary)
  shapes = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))
  fields = {'channels': 6, 'num_layers': 8, 'num_classes': 7, 'auxiliary': auxiliary}
  assert sizes.count_params(MANY, **fields) == count


def test_flops_of_one_cell_by_hand():
  """One layer is a reduction cell; C = 2, so it has 4 channels on 16x16 pixels."""
  cell = genotype.Genotype(
    [('skip_connect', 0, 2)],
    [2],
    [('max_pool_3x3', 0, 2), ('dil_conv_3x3', 1, 2), ('sep_conv_3x3', 2, 3), ('skip_connect', 2, 3)]
    + [('skip_connect', 0, 3)],
    [3],
  )
  full, half = 32 * 32, 16 * 16
  macs = full * 27 * 6  # stem
  macs += 2 * full * 6 * 4  # both inputs
  macs += half * (9 * 4 + 16)  # dilated
  macs += 2 * half * (9 * 4 + 16)  # separable, twice
  macs += half * 16  # skip of stride 2
  macs += 4 * 10  # classifier
  norms = full * 6 + 2 * full * 4 + half * 4 * (1 + 2 + 1)
  relus = 2 * full * 6 + full * 4 + 2 * half * 4 + full * 4
  pools = full * 4 + half * 4  # max pool, global mean
  fields = {'channels': 2, 'num_layers': 1, 'num_classes': 10}
  assert sizes.count_macs(cell, **fields) == macs
  assert sizes.count_flops_ptflops(cell, **fields) == macs + 2 * norms + relus + pools + 10


def test_image_shape_changes_costs_and_little_else():
  fields = {'channels': 4, 'num_layers': 3, 'num_classes': 10}
  count = lambda f, **more: f(MANY, **fields, **more)
  gray = {'image_shape': (32, 32, 1)}
  assert count(sizes.count_params) - count(sizes.count_params, **gray) == 2 * 9 * 12
  quarter = {'image_shape': [16, 16, 3]}
  assert count(sizes.count_params, **quarter) == count(sizes.count_params)
  head = 10 * 3 * 16
  assert (count(sizes.count_macs) - head) == 4 * (count(sizes.count_macs, **quarter) - head)


# ---- channels for a size, the supernet, errors ---------------------------------------------------


@pytest.mark.parametrize('stem, unit', [('cifar', 1), ('imagenet', 2)])
@pytest.mark.parametrize('target', [1, 500, 3_000, 9_999, 10_000.5, 40_000])
def test_channels_for_is_the_nearest(target, stem, unit):
  cell = zoo.GENOTYPES['MiLeNAS_2.09M']
  fields = {'num_layers': 2, 'num_classes': 10, 'stem': stem}
  distance = lambda c: abs(sizes.count_params(cell, channels=c, **fields) - target)
  found = sizes.channels_for(cell, target, **fields)
  assert found % unit == 0
  assert distance(found) == min(distance(c) for c in range(unit, 40, unit))


def test_channels_for_finds_the_published_one():
  assert sizes.channels_for(zoo.GENOTYPES['DARTS_V2'], 3.35e6, num_layers=20, num_classes=10) == 36


@pytest.mark.parametrize('target', [0, -1, math.inf, math.nan])
def test_channels_for_no_size(target):
  with pytest.raises(ValueError, match='target_params is .*positive number'):
    sizes.channels_for(MANY, target, num_layers=2, num_classes=10)


def test_supernet_as_published():
  darts = space.darts_space(4, with_none=True)
  fields = {'channels': 16, 'num_layers': 8, 'num_classes': 10}
  assert sizes.count_supernet_params(darts, **fields) == 1_930_618


def test_supernet_by_hand():
  """One reduction cell of one node: C = 2, so 4 channels, and two edges of stride 2."""
  small = space.SearchSpace(graph.CellGraph(1), ('skip_connect', 'sep_conv_3x3', 'max_pool_3x3'))
  fields = {'channels': 2, 'num_layers': 1, 'num_classes': 3}
  stem = 27 * 6 + 12
  inputs = 2 * 6 * 4
  edges = 2 * (16 + 2 * (9 * 4 + 16))
  count = stem + inputs + edges + 4 * 3 + 3
  assert sizes.count_supernet_params(small, **fields) == count
  gray = sizes.count_supernet_params(small, **fields, image_channels=1)
  assert gray == count - 18 * 6


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'channels': 3, 'stem': 'imagenet'}, 'channels is 3'),
    ({'num_layers': 0}, 'num_layers is 0'),
    ({'stem': 'mnist'}, "stem is 'mnist'"),
    ({'num_layers': 1, 'auxiliary': True}, 'use auxiliary=False'),
  ],
)
def test_errors_name_the_field(fields, message):
  good = {'channels': 4, 'num_layers': 2, 'num_classes': 10}
  for count in (sizes.count_params, sizes.count_flops_ptflops):
    with pytest.raises(ValueError, match=message):
      count(MANY, **good | fields)
  with pytest.raises(ValueError, match='channels is 3'):
    sizes.count_supernet_params(space.darts_space(2), **good | {'channels': 3})
