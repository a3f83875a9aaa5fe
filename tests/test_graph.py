"""The graph of a cell, and the search space on it."""

import numpy as np
import pytest

from stretchnas_jax.cells import graph, space, topology


def test_edges_stand_in_darts_order():
  assert graph.CellGraph(3).edges == (
    *((0, 2), (1, 2)),
    *((0, 3), (1, 3), (2, 3)),
    *((0, 4), (1, 4), (2, 4), (3, 4)),
  )


@pytest.mark.parametrize('nodes, edges', [(1, 2), (2, 5), (4, 14), (5, 20), (6, 27), (7, 35)])
def test_number_of_edges(nodes, edges):
  cell = graph.CellGraph(nodes)
  assert len(cell.edges) == edges
  assert cell.num_nodes == nodes + 2


@pytest.mark.parametrize('nodes', [1, 4, 6])
def test_edges_of_a_node(nodes):
  cell = graph.CellGraph(nodes)
  for node in range(cell.num_nodes):
    out = [cell.edges[e] for e in cell.out_edges(node)]
    assert out == [(node, dst) for dst in range(max(2, node + 1), cell.num_nodes)]
    entering = [cell.edges[e] for e in cell.in_edges(node)]
    assert entering == [(src, node) for src in range(node) if node >= 2]
  assert len(cell.out_edges(0)) == len(cell.out_edges(1)) == nodes


def test_graphs_are_values():
  assert graph.CellGraph(4) == graph.CellGraph(4) != graph.CellGraph(5)
  cell = graph.CellGraph(4)
  assert hash(cell.edges) == hash(graph.CellGraph(4).edges)
  assert hash(cell) == hash(graph.CellGraph(4))


@pytest.mark.parametrize('wrong', [0, -1, True])
def test_wrong_number_of_nodes(wrong):
  with pytest.raises(ValueError, match='num_intermediate'):
    graph.CellGraph(wrong)


@pytest.mark.parametrize('wrong', [2.0, '4', None])
def test_number_of_nodes_of_a_wrong_type(wrong, unchecked):
  with pytest.raises(ValueError, match='num_intermediate'):
    graph.CellGraph(wrong)


def test_numbers_of_numpy_are_those_of_python(unchecked):
  cell = graph.CellGraph(np.int64(4))
  assert cell == graph.CellGraph(4) and type(cell.num_intermediate) is int
  for k in np.arange(1, 3):
    table = topology.k_subsets(cell, k)
    assert np.array_equal(table.codes, topology.k_subsets(cell, int(k)).codes)


def test_darts_space():
  plain, baseline = space.darts_space(), space.darts_space(6, with_none=True)
  assert plain.graph == graph.CellGraph(4)
  assert plain.num_operations == 7
  assert 'none' not in plain.primitives
  assert baseline.graph == graph.CellGraph(6)
  assert baseline.primitives == ('none', *plain.primitives)
  assert hash(plain) == hash(space.darts_space(4))


def test_a_space_of_your_own():
  own = space.SearchSpace(graph.CellGraph(2), ['mine', 'skip_connect'])
  assert own.primitives == ('mine', 'skip_connect')
  assert hash(own) is not None


@pytest.mark.parametrize('names', [(), ('none',), ('a', 'a'), 'skip_connect', ('',)])
def test_wrong_primitives(names):
  with pytest.raises(ValueError, match='primitives'):
    space.SearchSpace(graph.CellGraph(2), names)


def test_primitives_of_a_wrong_type(unchecked):
  with pytest.raises(ValueError, match='primitives'):
    space.SearchSpace(graph.CellGraph(2), (1,))


@pytest.mark.parametrize('layers, expected', [(1, (0, 0)), (2, (0, 1)), (8, (2, 5)), (20, (6, 13))])
def test_reduction_cells_stand_at_thirds_of_the_depth(layers, expected):
  assert space.reduction_layers(layers) == expected
