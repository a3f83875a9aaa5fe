"""Tables of topology codes against sets of neighbours, by the words of the paper."""

import itertools
import math

import jax
import numpy as np
import pytest
from topology_reference import BUILDERS, built, choices, expected_choices, neighbours

from stretchnas_jax.cells import graph, topology

EVERY_TABLE = pytest.mark.parametrize('kind', BUILDERS)


@EVERY_TABLE
@pytest.mark.parametrize('nodes', range(2, 8))
def test_codes_are_those_of_the_paper(kind, nodes):
  table = built(kind, nodes)
  expected = expected_choices(kind, nodes)
  found = choices(kind, nodes, np.zeros(table.mask.shape))
  assert {node: set(codes) for node, codes in found.items()} == {
    node: set(codes) for node, codes in expected.items()
  }
  assert table.mask.sum() == sum(len(codes) for codes in expected.values())
  assert table.mask.shape == (len(expected), max(len(codes) for codes in expected.values()))
  assert not table.codes[~table.mask].any()
  assert table.codes.dtype == table.scale.dtype == np.float32
  assert table.mask.dtype == bool
  assert set(np.unique(table.codes)) <= {0, 1}
  np.testing.assert_array_equal(table.scale == 0, ~(table.codes > 0).any((0, 1)))


@pytest.mark.parametrize(
  'nodes, edges, pairs, subsets, nonempty, inputs',
  [
    (4, 14, 16, 46, 41, 20),
    (5, 20, 30, 94, 88, 35),
    (6, 27, 50, 190, 183, 56),
    (7, 35, 77, 382, 374, 84),
  ],
)
def test_published_counts(nodes, edges, pairs, subsets, nonempty, inputs):
  counts = [built(kind, nodes).mask.sum() for kind in list(BUILDERS)[:4]]
  assert len(graph.CellGraph(nodes).edges) == edges
  assert counts == [inputs, pairs, subsets, nonempty]


def test_named_tables_are_k_subsets():
  cell = graph.CellGraph(5)
  for named, general in (
    (topology.output_pairs(cell), topology.k_subsets(cell, 2)),
    (topology.input_pairs(cell), topology.k_subsets(cell, 2, by='target')),
  ):
    jax.tree.map(np.testing.assert_array_equal, named, general)
    assert named.by == general.by


@pytest.mark.parametrize('by', ['source', 'target'])
@pytest.mark.parametrize('k', [1, 2, 3, 4])
def test_k_subsets(k, by):
  cell = graph.CellGraph(4)
  table = topology.k_subsets(cell, k, by=by)
  counts = [len(neighbours(4, node, by)) for node in range(6)]
  # By target a node with fewer edges keeps them all; by source it keeps none.
  sizes = [min(n, k) if by == 'target' else k for n in counts]
  rows = [(n, size) for n, size in zip(counts, sizes) if 0 < size <= n]
  assert table.mask.sum(1).tolist() == [math.comb(n, size) for n, size in rows]
  assert [set(codes[mask].sum(-1)) for codes, mask in zip(table.codes, table.mask)] == [
    {size} for _, size in rows
  ]
  for scale, edge in zip(table.scale, cell.edges):
    n = counts[edge[0] if by == 'source' else edge[1]]
    expected = 1 if by == 'target' else 0 if n < k else n / k
    np.testing.assert_allclose(scale, expected, rtol=1e-6)


@pytest.mark.parametrize(
  'build, word',
  [
    (lambda g: topology.k_subsets(g, 0), 'k is 0'),
    (lambda g: topology.k_subsets(g, True), 'k is True'),
    (lambda g: topology.k_subsets(g, 5), 'k is 5'),
    (lambda g: topology.k_subsets(g, 6, by='target'), 'k is 6'),
    (lambda g: topology.k_subsets(g, 2, by='node'), "by is 'node'"),
    (lambda g: topology.none(g, by='node'), "by is 'node'"),
    (lambda g: topology.output_pairs(graph.CellGraph(1)), 'k is 2'),
    (lambda g: topology.output_subsets(graph.CellGraph(40)), 'num_intermediate is 40'),
  ],
)
def test_a_table_that_cannot_be_built_is_named(build, word):
  with pytest.raises(ValueError, match=word):
    build(graph.CellGraph(4))


def test_a_k_of_a_wrong_type_is_named(unchecked):
  with pytest.raises(ValueError, match='k is 2.0'):
    topology.k_subsets(graph.CellGraph(4), 2.0)


@pytest.mark.parametrize('nodes', range(1, 6))
def test_scores_begin_at_1_with_the_unit_scale_and_below_it_with_that_of_eq_13(nodes):
  cell = graph.CellGraph(nodes)
  unit, printed = topology.output_subsets(cell, unit_scale=True), topology.output_subsets(cell)
  zero = np.zeros(unit.mask.shape, np.float32)
  np.testing.assert_allclose(topology.edge_scores(zero, unit), 1, rtol=1e-6)
  np.testing.assert_allclose(
    topology.edge_scores(zero, printed),
    [1 - 2.0 ** -len(cell.out_edges(source)) for source, _ in cell.edges],
    rtol=1e-6,
  )


def test_largest_k_leaves_rows():
  cell = graph.CellGraph(4)
  assert topology.k_subsets(cell, 4).mask.shape == (2, 1)
  every_input = topology.k_subsets(cell, 5, by='target')
  assert every_input.mask.shape == (4, 1)
  assert every_input.codes.sum() == len(cell.edges)


@pytest.mark.parametrize('nodes', range(1, 7))
def test_tables_by_target_lose_no_node(nodes):
  """Plain loops over nodes; every k that a node of the graph can have."""
  cell = graph.CellGraph(nodes)
  for k in range(1, nodes + 2):
    table = topology.k_subsets(cell, k, by='target')
    assert len(table.mask) == nodes
    for row, node in enumerate(range(2, nodes + 2)):
      entering = [e for e, (_, dst) in enumerate(cell.edges) if dst == node]
      expected = {frozenset(code) for code in itertools.combinations(entering, min(k, node))}
      codes = table.codes[row][table.mask[row]]
      assert {frozenset(np.flatnonzero(code)) for code in codes} == expected
    assert (table.scale == 1).all()


def test_codes_of_a_row_are_distinct():
  for kind, nodes in itertools.product(BUILDERS, (2, 5)):
    table = built(kind, nodes)
    for codes, mask in zip(table.codes, table.mask):
      assert len({tuple(code) for code in codes[mask]}) == mask.sum()
