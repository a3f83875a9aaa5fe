"""Cells at random: valid, reproducible, and as probable as they should be."""

import collections
import itertools

import numpy as np
import pytest
from scipy import stats

from stretchnas_jax.cells import genotype, random_cells, space, zoo

OPERATIONS = space.DARTS_PRIMITIVES[1:]


@pytest.fixture(scope='module')
def drawings():
  return [random_cells.random_cell(seed) for seed in range(2000)]


def is_uniform(counts, outcomes):
  """Asserts that these outcomes alone occur, and equally often as far as chance allows."""
  assert set(counts) == set(outcomes)
  assert stats.chisquare([counts[outcome] for outcome in outcomes]).pvalue > 1e-4


@pytest.mark.parametrize('node', range(3, 6))
@pytest.mark.parametrize('cell', ['normal', 'reduce'])
def test_pairs_of_inputs_are_uniform(drawings, cell, node):
  pairs = (
    tuple(src for _, src, dst in getattr(drawing, cell) if dst == node) for drawing in drawings
  )
  is_uniform(collections.Counter(pairs), list(itertools.combinations(range(node), 2)))


@pytest.mark.parametrize('place', range(8))
@pytest.mark.parametrize('cell', ['normal', 'reduce'])
def test_operations_are_uniform(drawings, cell, place):
  names = (getattr(drawing, cell)[place][0] for drawing in drawings)
  is_uniform(collections.Counter(names), OPERATIONS)


def test_the_two_cells_are_independent(drawings):
  pairs = ((drawing.normal[0][0], drawing.reduce[0][0]) for drawing in drawings)
  is_uniform(collections.Counter(pairs), list(itertools.product(OPERATIONS, OPERATIONS)))


def test_cells_are_of_the_darts_space_and_depend_on_the_seed_alone(drawings):
  assert len(set(map(genotype.to_json, drawings))) == len(drawings)
  assert random_cells.random_cell(7) == drawings[7] == random_cells.random_cell(np.int64(7))
  for drawing in drawings[:20]:
    assert drawing.normal_concat == drawing.reduce_concat == (2, 3, 4, 5)
    assert genotype.from_darts_text(genotype.to_darts_text(drawing)) == drawing


def test_another_space():
  drawing = random_cells.random_cell(0, space.darts_space(6, with_none=True))
  assert drawing.normal_concat == (2, 3, 4, 5, 6, 7)
  assert 'none' not in {name for name, _, _ in drawing.normal + drawing.reduce}


# A stretchable cell with a node that was pruned, and one with equal edges and loose ends.
FIXED = {
  'stretched': genotype.Genotype(
    [('skip_connect', 0, 2), ('sep_conv_3x3', 2, 4), ('sep_conv_5x5', 1, 4)], [2, 4],
    [('max_pool_3x3', 1, 3)], [3],
  ),
  'nasnet': zoo.GENOTYPES['NASNet-A'],
}  # fmt: skip


@pytest.mark.parametrize('name', FIXED)
def test_random_operations_keep_the_topology(name):
  cell = FIXED[name]
  drawings = [random_cells.random_operations(cell, seed) for seed in range(2000)]
  assert random_cells.random_operations(cell, 3) == drawings[3]
  for field in space.CELL_TYPES:
    edges = [edge[1:] for edge in getattr(cell, field)]
    concat = getattr(cell, f'{field}_concat')
    for drawing in drawings:
      assert [edge[1:] for edge in getattr(drawing, field)] == edges
      assert getattr(drawing, f'{field}_concat') == concat
    for place in range(len(edges)):
      names = (getattr(drawing, field)[place][0] for drawing in drawings)
      is_uniform(collections.Counter(names), OPERATIONS)


@pytest.mark.parametrize('seed', [-1, True])
def test_a_wrong_seed_is_named(seed):
  check_seed_refused(seed)


@pytest.mark.parametrize('seed', [1.0, '3', None])
def test_a_seed_of_a_wrong_type_is_named(seed, unchecked):
  check_seed_refused(seed)


def check_seed_refused(seed):
  with pytest.raises(ValueError, match='the seed is .*; it must be a whole number of at least 0'):
    random_cells.random_cell(seed)
  with pytest.raises(ValueError, match='the seed is'):
    random_cells.random_operations(zoo.GENOTYPES['DARTS_V2'], seed)
