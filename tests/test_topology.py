"""Scores, penalty and choices of a topology table, against plain loops in float64."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from topology_reference import (
  BUILDERS,
  built,
  choices,
  draw,
  probabilities,
  reference_penalty,
  reference_scores,
)

from stretchnas_jax.cells import graph, topology

EVERY_TABLE = pytest.mark.parametrize('kind', BUILDERS)
BY_SOURCE = pytest.mark.parametrize('kind', ['output_pairs', 'subsets', 'nonempty', 'out_1'])
FUNCTIONS = ('code_probs', 'edge_scores', 'invalid_topology_penalty', 'select', 'beta_entropy')
sizes = st.integers(2, 7)
seeds = st.integers(0, 2**31)
spreads = st.sampled_from([1e-3, 1.0, 20.0])


@functools.cache
def compiled(kind, nodes):
  table = built(kind, nodes)
  return jax.jit(lambda beta: {name: getattr(topology, name)(beta, table) for name in FUNCTIONS})


def jitted(name, kind, nodes):
  return lambda beta: compiled(kind, nodes)(beta)[name]


@functools.cache
def gradients(kind, nodes):
  """Returns the gradients of the sum of squares of each differentiable function."""
  table = built(kind, nodes)
  loss = lambda beta, name: (getattr(topology, name)(beta, table) ** 2).sum()
  names = [name for name in FUNCTIONS if name != 'select']
  return jax.jit(lambda beta: {name: jax.grad(loss)(beta, name) for name in names})


@functools.cache
def penalty_gradient(kind, nodes):
  return jax.jit(jax.grad(lambda b: topology.invalid_topology_penalty(b, built(kind, nodes))))


def finite_difference(function, beta, step=1e-5):
  slope = np.zeros(beta.shape)
  for index in np.ndindex(*beta.shape):
    up, down = beta.astype(np.float64), beta.astype(np.float64)
    up[index] += step
    down[index] -= step
    slope[index] = (function(up) - function(down)) / (2 * step)
  return slope


@EVERY_TABLE
@settings(max_examples=20)
@given(nodes=sizes, seed=seeds, spread=spreads)
def test_edge_scores(kind, nodes, seed, spread):
  beta = draw(kind, nodes, seed, spread)
  scores = jitted('edge_scores', kind, nodes)(beta)
  np.testing.assert_allclose(scores, reference_scores(kind, nodes, beta), rtol=2e-5, atol=1e-6)


@settings(max_examples=20)
@given(nodes=sizes, seed=seeds)
def test_merged_scores_equal_the_sum_over_input_pairs(nodes, seed):
  """Eq. 4 and 5 against Eq. 6, on features of every edge."""
  beta, cell = draw('input_pairs', nodes, seed, 1.0), graph.CellGraph(nodes)
  features = np.random.default_rng(seed + 1).normal(size=(len(cell.edges), 5))
  by_edge = dict(zip(cell.edges, features))
  scores = jitted('edge_scores', 'input_pairs', nodes)(beta)
  for j, logits in choices('input_pairs', nodes, beta).items():
    long = np.zeros(5)
    for (m, n), p in probabilities(logits).items():
      long += p * (by_edge[m, j] + by_edge[n, j])
    short = sum(np.float64(scores[e]) * features[e] for e in cell.in_edges(j))
    np.testing.assert_allclose(short, long, rtol=1e-4, atol=1e-5)


@settings(max_examples=20)
@given(nodes=sizes, seed=seeds, spread=spreads)
def test_each_node_sums_the_features_that_its_sources_send(nodes, seed, spread):
  """Eq. 8 to 10: a source sends on the two edges of a pair, with the pair's probability."""
  beta, cell = draw('output_pairs', nodes, seed, spread), graph.CellGraph(nodes)
  scores = jitted('edge_scores', 'output_pairs', nodes)(beta)
  sent = dict.fromkeys(cell.edges, 0.0)
  for i, logits in choices('output_pairs', nodes, beta).items():
    n = len(cell.out_edges(i))
    for pair, p in probabilities(logits).items():
      for j in pair:
        sent[i, j] += math.comb(n, 2) / math.comb(n - 1, 1) * p
  np.testing.assert_allclose(scores, list(sent.values()), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize('nodes', [2, 4, 6])
def test_scores_where_all_codes_are_equal(nodes):
  cell = graph.CellGraph(nodes)
  successors = np.array([len(cell.out_edges(src)) for src, _ in cell.edges])
  even = lambda kind: jitted('edge_scores', kind, nodes)(jnp.zeros(built(kind, nodes).mask.shape))
  np.testing.assert_allclose(even('output_pairs'), successors > 1, rtol=1e-6)
  np.testing.assert_allclose(even('nonempty'), np.ones(len(successors)), rtol=1e-6)
  np.testing.assert_allclose(even('subsets'), 1 - 0.5**successors, rtol=1e-6)
  inputs = np.array([len(cell.in_edges(dst)) for _, dst in cell.edges])
  np.testing.assert_allclose(even('input_pairs'), 2 / inputs, rtol=1e-6)


@BY_SOURCE
@settings(max_examples=20)
@given(nodes=sizes, seed=seeds, spread=spreads)
def test_penalty(kind, nodes, seed, spread):
  beta = draw(kind, nodes, seed, spread)
  penalty = float(jitted('invalid_topology_penalty', kind, nodes)(beta))
  expected = reference_penalty(kind, nodes, beta.astype(np.float64))
  np.testing.assert_allclose(penalty, expected, rtol=1e-4, atol=1e-6)


@BY_SOURCE
@settings(max_examples=20)
@given(nodes=st.integers(2, 4), seed=seeds)
def test_penalty_is_exactly_zero_where_every_node_is_reached(kind, nodes, seed):
  beta = draw(kind, nodes, seed, 2.0)
  entered = set()
  for logits in choices(kind, nodes, beta).values():
    entered |= max(logits, key=logits.get)
  penalty = float(jitted('invalid_topology_penalty', kind, nodes)(beta))
  if entered == set(range(2, nodes + 2)):
    assert penalty == 0
    assert not penalty_gradient(kind, nodes)(beta).any()
  else:
    assert penalty > 0


def test_penalty_by_target_is_zero():
  beta = draw('input_pairs', 4, 0, 5.0)
  assert float(jitted('invalid_topology_penalty', 'input_pairs', 4)(beta)) == 0


def test_penalty_of_a_node_that_nothing_reaches():
  table = built('subsets', 3)
  empty = ~(table.codes > 0).any(-1) & table.mask
  beta = jnp.where(empty, 50.0, -50.0)
  np.testing.assert_allclose(topology.invalid_topology_penalty(beta, table), 3.0, rtol=1e-6)


@EVERY_TABLE
@pytest.mark.parametrize('nodes', [2, 4])
def test_gradients_of_scores(kind, nodes):
  beta = draw(kind, nodes, 3, 1.0)
  weights = np.random.default_rng(4).normal(size=len(graph.CellGraph(nodes).edges))
  loss = lambda b: (topology.edge_scores(b, built(kind, nodes)) * weights).sum()
  expected = finite_difference(lambda b: weights @ reference_scores(kind, nodes, b), beta)
  np.testing.assert_allclose(jax.jit(jax.grad(loss))(beta), expected, rtol=1e-3, atol=1e-5)


@BY_SOURCE
@pytest.mark.parametrize('seed', range(4))
def test_gradients_of_the_penalty(kind, seed):
  beta = draw(kind, 4, seed, 1.0)
  expected = finite_difference(lambda b: reference_penalty(kind, 4, b), beta)
  np.testing.assert_allclose(penalty_gradient(kind, 4)(beta), expected, rtol=1e-3, atol=1e-5)


@EVERY_TABLE
@pytest.mark.parametrize('nodes', [2, 4])
@pytest.mark.parametrize('case', ['ties', 'far', 'signs', 'padding'])
def test_no_nan_in_values_and_gradients(kind, nodes, case):
  table = built(kind, nodes)
  ranks = np.arange(table.mask.size).reshape(table.mask.shape)
  beta = {
    'ties': np.zeros(table.mask.shape),
    'far': np.where(ranks % 3 == 0, 50.0, -50.0),
    'signs': np.where(ranks % 2 == 0, -50.0, 50.0),
    'padding': np.where(table.mask, ranks % 5, np.nan),
  }[case].astype(np.float32)
  for name, value in compiled(kind, nodes)(beta).items():
    assert np.isfinite(value).all(), name
  for name, gradient in gradients(kind, nodes)(beta).items():
    assert np.isfinite(gradient).all(), name
    assert not gradient[~table.mask].any(), name


@EVERY_TABLE
@settings(max_examples=20)
@given(nodes=sizes, seed=seeds, spread=spreads)
def test_select(kind, nodes, seed, spread):
  beta, by = draw(kind, nodes, seed, spread), built(kind, nodes).by
  chosen = {
    node: max(logits, key=logits.get) for node, logits in choices(kind, nodes, beta).items()
  }
  expected = [
    (j in chosen.get(i, ())) if by == 'source' else (i in chosen.get(j, ()))
    for i, j in graph.CellGraph(nodes).edges
  ]
  selected = jitted('select', kind, nodes)(beta)
  assert selected.dtype == bool
  np.testing.assert_array_equal(selected, expected)


@EVERY_TABLE
def test_select_takes_the_first_of_equal_codes(kind):
  table = built(kind, 4)
  beta = jnp.zeros(table.mask.shape)
  np.testing.assert_array_equal(topology.select(beta, table), table.codes[:, 0].any(0))
  last = table.mask.sum(1) - 1
  beta = beta.at[np.arange(len(last)), last].set(1e-6)
  expected = table.codes[np.arange(len(last)), last].any(0)
  np.testing.assert_array_equal(topology.select(beta, table), expected)


@EVERY_TABLE
@settings(max_examples=20)
@given(nodes=sizes, seed=seeds, spread=spreads)
def test_probabilities_and_entropy(kind, nodes, seed, spread):
  beta, table = draw(kind, nodes, seed, spread), built(kind, nodes)
  probs = np.asarray(jitted('code_probs', kind, nodes)(beta))
  assert not probs[~table.mask].any()
  entropies = []
  for row, logits in enumerate(choices(kind, nodes, beta).values()):
    expected = list(probabilities(logits).values())
    np.testing.assert_allclose(probs[row][table.mask[row]], expected, rtol=2e-5, atol=1e-7)
    entropies.append(-sum(p * math.log(p) for p in expected if p > 0))
  entropy = jitted('beta_entropy', kind, nodes)(beta)
  np.testing.assert_allclose(entropy, sum(entropies) / len(entropies), rtol=1e-4, atol=1e-6)


def test_a_table_without_rows():
  cell = graph.CellGraph(4)
  table = topology.none(cell)
  beta = topology.init_beta(jax.random.key(0), table)
  assert beta.shape == table.mask.shape == (0, 0)
  np.testing.assert_array_equal(jax.jit(topology.edge_scores)(beta, table), np.ones(14))
  np.testing.assert_array_equal(topology.select(beta, table), np.ones(14, bool))
  assert float(topology.invalid_topology_penalty(beta, table)) == 0
  assert float(topology.beta_entropy(beta, table)) == 0
  assert topology.code_probs(beta, table).shape == (0, 0)


def test_a_table_may_be_an_argument_of_a_jitted_function():
  table, beta = built('subsets', 3), draw('subsets', 3, 0, 1.0)
  every = lambda beta, table: {name: getattr(topology, name)(beta, table) for name in FUNCTIONS}
  for name, value in jax.jit(every)(beta, table).items():
    np.testing.assert_allclose(value, jitted(name, 'subsets', 3)(beta), rtol=1e-6, atol=1e-7)
  again = jax.tree.map(lambda array: array, table)
  assert isinstance(again, topology.TopologyTable)
  assert again.by == 'source'


def test_a_topology_of_your_own_is_one_more_table():
  """Node 0 sends to both nodes or to neither; nothing else exists."""
  both = [(src == 0) * 1.0 for src, _ in graph.CellGraph(2).edges]
  codes = np.array([[[0.0] * 5, both]], np.float32)
  scale = np.array(both, np.float32)
  table = topology.TopologyTable(codes, np.ones((1, 2), bool), scale)
  beta = jnp.array([[0.0, math.log(3)]])
  np.testing.assert_allclose(topology.edge_scores(beta, table), np.array(both) * 0.75, rtol=1e-6)
  np.testing.assert_array_equal(topology.select(beta, table), np.array(both, bool))
  assert float(topology.invalid_topology_penalty(beta, table)) == 0
  np.testing.assert_allclose(
    topology.invalid_topology_penalty(-beta, table), 2 * (1 - 1 / 3), rtol=1e-6
  )


def test_init_beta(key):
  table = built('subsets', 6)
  beta = topology.init_beta(key, table)
  assert beta.shape == table.mask.shape == (7, 64)
  assert beta.dtype == jnp.float32
  assert 0.8e-3 < float(beta.std()) < 1.2e-3
  np.testing.assert_array_equal(beta, topology.init_beta(key, table))
  np.testing.assert_allclose(topology.init_beta(key, table, std=1.0), beta * 1e3, rtol=1e-5)
