"""Decoding: from strengths and topology logits to cells."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretchnas_jax.cells import decoding, genotype, graph, relaxation, space, topology


def draw_arch(seed, search_space, table, spread=1.0):
  rng = np.random.default_rng(seed)
  shape = len(search_space.graph.edges), search_space.num_operations
  alpha = rng.normal(size=shape).astype(np.float32)
  return alpha, (rng.normal(size=table.mask.shape) * spread).astype(np.float32)


def softmax_strength(alpha):
  return relaxation.softmax().strength(alpha, {})


def reached_from_inputs(edges):
  reached, before = {0, 1}, None
  while reached != before:
    before = set(reached)
    reached |= {dst for src, dst in edges if src in reached}
  return reached - {0, 1}


def code_edges(search_space, code):
  return [edge for edge, bit in zip(search_space.graph.edges, code) if bit]


def combinations(search_space, table, beta):
  """Yields `(joint logit, edges)` of every choice of a code for each row."""
  options = [np.flatnonzero(mask) for mask in table.mask]
  for chosen in itertools.product(*options):
    logit = sum(float(beta[r, k]) for r, k in enumerate(chosen))
    edges = [e for r, k in enumerate(chosen) for e in code_edges(search_space, table.codes[r, k])]
    yield logit, edges


def check_cell(search_space, alpha, edges, concat, expected):
  """Asserts that the edges that an input reaches stay, each with its strongest operation."""
  reached = reached_from_inputs(expected)
  assert concat == tuple(sorted(reached))
  kept = sorted((edge for edge in expected if edge[0] in reached | {0, 1}), key=lambda e: e[::-1])
  assert [edge[1:] for edge in edges] == kept
  for op, src, dst in edges:
    row = dict(zip(search_space.primitives, alpha[search_space.graph.edges.index((src, dst))]))
    row.pop('none', None)
    assert row[op] == max(row.values())


TABLES = {
  'subsets': topology.output_subsets,
  'output_pairs': topology.output_pairs,
  'input_pairs': topology.input_pairs,
  'in_3': lambda g: topology.k_subsets(g, 3, by='target'),
}


@pytest.mark.parametrize('kind', TABLES)
@pytest.mark.parametrize('with_none', [False, True])
@given(seed=st.integers(0, 2**31))
def test_derived_cell(kind, with_none, seed):
  own = space.darts_space(3, with_none=with_none)
  table = TABLES[kind](own.graph)
  alpha, beta = draw_arch(seed, own, table)
  valid = [choice for choice in combinations(own, table, beta) if reached_from_inputs(choice[1])]
  _, expected = max(valid, key=lambda choice: choice[0])
  edges, concat, notes = decoding.derive_cell(own, table, alpha, beta)
  check_cell(own, alpha, edges, concat, expected)
  assert bool(notes) == (len(concat) < 3 or max(combinations(own, table, beta))[1] != expected)


@given(seed=st.integers(0, 2**31))
def test_repair_takes_the_most_probable_choice_that_leaves_a_node(seed):
  own = space.darts_space(2)
  table = topology.output_subsets(own.graph)
  alpha, beta = draw_arch(seed, own, table)
  empty = table.mask & ~(table.codes > 0).any(-1)
  beta = np.where(empty & (np.arange(3) < 2)[:, None], beta + 9, beta)
  edges, concat, notes = decoding.derive_cell(own, table, alpha, beta)
  choices = list(combinations(own, table, beta))
  assert not reached_from_inputs(max(choices)[1])
  _, expected = max((c for c in choices if reached_from_inputs(c[1])), key=lambda c: c[0])
  check_cell(own, alpha, edges, concat, expected)
  assert 'next best' in notes[0]


def test_repair_is_impossible_without_an_edge_from_an_input():
  own = space.darts_space(2)
  code = np.array([[[edge == (2, 3) for edge in own.graph.edges]]], np.float32)
  table = topology.TopologyTable(code, np.ones((1, 1), bool), code[0, 0])
  with pytest.raises(ValueError, match='edge from an input'):
    decoding.derive_cell(own, table, np.zeros((5, 7)), np.zeros((1, 1)))


def chosen_codes(search_space, table, wanted):
  """Returns logits that choose the wanted out-edges of every source."""
  beta = np.zeros(table.mask.shape, np.float32)
  for r, k in itertools.product(*map(range, table.mask.shape)):
    edges = code_edges(search_space, table.codes[r, k])
    beta[r, k] = table.mask[r, k] and set(edges) == {edge for edge in wanted if edge[0] == r}
  return beta


def test_pruning_is_iterative_and_leaves_a_note():
  own = space.darts_space(4)
  table = topology.output_subsets(own.graph)
  wanted = [(0, 2), (3, 4), (4, 5), (3, 5), (2, 5)]
  beta = chosen_codes(own, table, wanted)
  edges, concat, notes = decoding.derive_cell(own, table, np.zeros((14, 7)), beta)
  assert [edge[1:] for edge in edges] == [(0, 2), (2, 5)]
  assert concat == (2, 5)
  assert notes == ('no input reaches nodes 3, 4, which were pruned with 3->4, 3->5, 4->5',)


def test_a_node_with_an_input_and_no_outputs_stays():
  own = space.darts_space(3)
  table = topology.output_subsets(own.graph)
  beta = chosen_codes(own, table, [(0, 2), (1, 3), (0, 4)])
  _, concat, notes = decoding.derive_cell(own, table, np.zeros((9, 7)), beta)
  assert concat == (2, 3, 4)
  assert notes == ()


@pytest.mark.parametrize('by', ['target', 'source'])
@pytest.mark.parametrize('with_none', [False, True])
@given(seed=st.integers(0, 2**31))
def test_darts_rule(by, with_none, seed):
  own = space.darts_space(4, with_none=with_none)
  table = topology.none(own.graph, by=by)
  alpha, beta = draw_arch(seed, own, table)
  strength = {}
  for edge, row in zip(own.graph.edges, alpha.astype(np.float64)):
    total = sum(np.exp(row))
    strength[edge] = max(
      np.exp(value) / total for name, value in zip(own.primitives, row) if name != 'none'
    )
  expected = []
  for node in range(6):
    mine = [edge for edge in own.graph.edges if edge[by == 'target'] == node]
    # The node before the last has a single out-edge, hence no pair of them.
    if len(mine) >= 2:
      expected += sorted(mine, key=lambda edge: -strength[edge])[:2]
  assert len(expected) == 8
  edges, concat, notes = decoding.derive_cell(own, table, softmax_strength(alpha), beta)
  check_cell(own, alpha, edges, concat, expected)
  if by == 'target':
    assert [dst for _, _, dst in edges] == [2, 2, 3, 3, 4, 4, 5, 5]
    assert concat == (2, 3, 4, 5)
    assert notes == ()


def test_none_counts_in_the_denominator():
  """Edge 0 -> 3 has the largest logit, but its weight goes to `none`."""
  own = space.darts_space(2, with_none=True)
  alpha = np.zeros((5, 8))
  alpha[2, :2] = [9.0, 5.0]
  strength = softmax_strength(alpha)
  assert decoding.top_k(own, strength).tolist() == [True, True, False, True, True]
  kept = decoding.top_k(own, strength, k=1, by='source')
  assert kept.tolist() == [True, True, False, False, True]


def test_edges_are_ranked_by_strength_and_by_nothing_else():
  """Gates that do not compete: the sigmoid ranks these edges unlike a softmax of the logits."""
  own = space.SearchSpace(graph.CellGraph(2), ('skip_connect', 'max_pool_3x3'))
  alpha = np.zeros((5, 2))
  alpha[2], alpha[3], alpha[4] = (3, 3.2), (1, -9), (9, 9)  # the edges into node 3
  gates = 1 / (1 + np.exp(-alpha))
  table = topology.none(own.graph)
  edges, _, _ = decoding.derive_cell(own, table, gates, None)
  assert ('max_pool_3x3', 0, 3) in edges and len(edges) == 4
  assert not any((src, dst) == (1, 3) for _, src, dst in edges)
  edges, _, _ = decoding.derive_cell(own, table, softmax_strength(alpha), None)
  assert ('skip_connect', 1, 3) in edges


@pytest.mark.parametrize('k, edges', [(1, 4), (2, 8), (3, 11)])
def test_a_table_without_rows_says_how_many_edges_stay(k, edges):
  own = space.darts_space(4, with_none=True)
  alpha = np.random.default_rng(k).normal(size=(14, 8))
  strength = softmax_strength(alpha)
  kept, _, _ = decoding.derive_cell(own, topology.none(own.graph, k=k), strength, None)
  counts = [sum(dst == node for _, _, dst in kept) for node in range(2, 6)]
  assert counts == [min(k, node) for node in range(2, 6)] and len(kept) == edges
  with pytest.raises(ValueError, match='k is 6; by target'):
    topology.none(own.graph, k=6)


def test_top_k_keeps_the_first_of_equal_edges_and_all_where_few():
  own = space.darts_space(3)
  kept = decoding.top_k(own, np.zeros((9, 7)), k=3)
  assert kept.tolist() == [True] * 5 + [True, True, True, False]


def test_derive_whole_genotype():
  own = space.darts_space(4)
  table = topology.output_subsets(own.graph)
  beta = {
    'normal': jnp.asarray(chosen_codes(own, table, [(0, 2), (2, 3), (0, 4), (1, 5)])),
    'reduce': jnp.asarray(chosen_codes(own, table, [(1, 4), (4, 5), (2, 5)])),
  }
  strength = {'normal': jnp.zeros((14, 7)).at[:, 3].set(1), 'reduce': jnp.zeros((14, 7))}
  found, notes = genotype.derive(own, table, strength, beta)
  assert found.normal == tuple(('sep_conv_3x3', *edge) for edge in [(0, 2), (2, 3), (0, 4), (1, 5)])
  assert found.reduce == (('max_pool_3x3', 1, 4), ('max_pool_3x3', 4, 5))
  assert (found.normal_concat, found.reduce_concat) == ((2, 3, 4, 5), (4, 5))
  assert notes == ('reduce cell: no input reaches nodes 2, 3, which were pruned with 2->5',)
  assert genotype.from_json(genotype.to_json(found)) == found


@pytest.mark.parametrize(
  'change, words',
  [
    ({'strength': np.zeros((14, 8))}, 'strength has the shape'),
    ({'beta': np.zeros((5, 15))}, 'beta has the shape'),
    ({'strength': np.full((14, 7), np.nan)}, 'strength holds a value that is not finite'),
    ({'strength': softmax_strength(np.full((14, 7), np.inf))}, 'strength holds a value'),
    ({'beta': np.full((5, 16), np.inf)}, 'beta holds a value that is not finite'),
  ],
)
def test_arrays_that_cannot_be_decoded_are_named(change, words):
  own = space.darts_space(4)
  values = {'strength': np.zeros((14, 7)), 'beta': np.zeros((5, 16))} | change
  with pytest.raises(ValueError, match=words):
    decoding.derive_cell(own, topology.output_subsets(own.graph), **values)


def test_graph_of_a_genotype_fits_its_space():
  own = space.SearchSpace(graph.CellGraph(2), ('mine', 'none', 'other'))
  alpha = np.array([[0.0, 9.0, 1.0]] * 5)
  edges, _, _ = decoding.derive_cell(own, topology.none(own.graph), alpha, np.zeros((0, 0)))
  assert {op for op, _, _ in edges} == {'other'}
