"""Genotypes: their form, the cells that they refuse, and depth, width and summary."""

import pickle

import numpy as np
import pytest
from helpers import cells
from hypothesis import given

from stretchnas_jax.cells import genotype, zoo

CELL = (('sep_conv_3x3', 0, 2), ('skip_connect', 1, 2), ('max_pool_3x3', 2, 4))
VALID = genotype.Genotype(CELL, (2, 4), CELL, (4,))


@given(cells(), cells())
def test_canonical_form(normal, reduce):
  found = genotype.Genotype(*normal, *reduce)
  assert found.normal == tuple(sorted(map(tuple, normal[0]), key=lambda edge: edge[2]))
  assert found.reduce_concat == tuple(reduce[1])
  again = genotype.Genotype(
    [list(edge) for edge in found.normal], list(normal[1]), found.reduce, tuple(reduce[1])
  )
  assert found == again
  assert hash(found) == hash(again)
  assert pickle.loads(pickle.dumps(found)) == found


def test_order_matters_within_a_node_and_in_a_concat():
  swapped = (CELL[1], CELL[0], CELL[2])
  assert genotype.Genotype(swapped, (2, 4), CELL, (4,)) != VALID
  assert genotype.Genotype(CELL, (4, 2), CELL, (4,)) != VALID
  moved = (CELL[2], CELL[0], CELL[1])
  assert genotype.Genotype(moved, (2, 4), CELL, (4,)) == VALID


def test_ranges_and_numpy_numbers():
  edges = [('skip_connect', np.int64(0), np.int32(2))]
  found = genotype.Genotype(edges, range(2, 3), edges, np.array([2]))
  assert found.normal == (('skip_connect', 0, 2),)
  assert all(type(node) is int for node in found.normal_concat + found.reduce_concat)


@pytest.mark.parametrize(
  'edges, concat, words',
  [
    ((), (2,), 'normal is empty'),
    (CELL, (), 'normal_concat is empty'),
    (CELL, (2, 2), 'more than once'),
    (CELL, (0,), 'normal_concat holds 0'),
    (CELL, (3,), 'normal_concat holds 3'),
    (CELL, range(2, 10**12), 'normal_concat holds 3'),
    (CELL, (True,), 'whole numbers'),
    ((('skip_connect', 2, 2),), (2,), 'src must be'),
    ((('skip_connect', -1, 2),), (2,), 'src must be'),
    ((('skip_connect', 0, 1),), (1,), 'dst at least 2'),
    ((('skip_connect', 3, 4),), (4,), 'node 3 has no input'),
    ((('skip_connect', 0, True),), (2,), 'whole numbers'),
    ((('skip_connect', 0.0, 2),), (2,), 'whole numbers'),
    ((('skip_connect', '0', 2),), (2,), 'whole numbers'),
    ((('skip_connect', None, 2),), (2,), 'whole numbers'),
    ((('skip_connect', 0),), (2,), 'an edge is'),
    (('abc',), (2,), 'an edge is'),
    (((None, 0, 2),), (2,), 'the operation must be'),
    ((('', 0, 2),), (2,), 'the operation must be'),
    ((('none', 0, 2),), (2,), 'other than none'),
  ],
)
def test_malformed_cells_are_refused(edges, concat, words):
  check_refused(edges, concat, words)


@pytest.mark.parametrize(
  'edges, concat, words',
  [
    (CELL, (2.0,), 'whole numbers'),
    (CELL, '24', 'must be a list'),
    (CELL, 2, 'must be a list'),
    ({'skip_connect': 0}, (2,), 'must be a list'),
    ((3,), (2,), 'an edge is'),
  ],
)
def test_cells_of_a_wrong_type_are_refused(edges, concat, words, unchecked):
  check_refused(edges, concat, words)


def check_refused(edges, concat, words):
  with pytest.raises(ValueError, match=words):
    genotype.Genotype(edges, concat, CELL, (4,))
  with pytest.raises(ValueError, match=words.replace('normal', 'reduce')):
    genotype.Genotype(CELL, (4,), edges, concat)


@given(cells())
def test_depth(cell):
  edges = genotype.Genotype(*cell, *cell).normal

  def longest_to(node):
    return max((1 + longest_to(src) for _, src, dst in edges if dst == node), default=0)

  assert genotype.depth(edges) == max(longest_to(dst) for _, _, dst in edges)


@pytest.mark.parametrize(
  'name, depth, width',
  [('SNAS_mild', 1, 4), ('DARTS_V2', 2, 3.5), ('GDAS_V1', 4, 2), ('NASNet-A', 1, 5)],
)
def test_depth_and_width_of_published_cells(name, depth, width):
  found = zoo.GENOTYPES[name]
  assert genotype.depth(found.normal) == depth
  assert genotype.width(found.normal, found.normal_concat) == width


def test_summary():
  found = genotype.Genotype(CELL, (2, 4), (('mine', 1, 3),), (3,))
  assert genotype.summary(found).splitlines() == [
    'normal  2=sep3(0)+skip(1)  4=max(2)  out=2,4  depth 2  width 1',
    'reduce  3=mine(1)  out=3  depth 1  width 1',
  ]
