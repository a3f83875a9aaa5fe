"""The expected cost of a mixture, against the sizes of derived networks."""

import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax.cells import genotype, graph, nas_bench_201, space, topology
from stretchnas_jax.networks import operation_costs, sizes
from stretchnas_jax.networks.nas_bench_supernet import NasBenchSupernet
from stretchnas_jax.networks.supernet import Supernet

OWN = space.SearchSpace(
  graph.CellGraph(3), ('none', 'skip_connect', 'max_pool_3x3', 'sep_conv_3x3', 'dil_conv_5x5')
)
NET = Supernet(OWN, 4, 4, 10)
BENCH = NasBenchSupernet(space.nas_bench_201(), 4, 2, 10)
TABLE = topology.output_subsets(OWN.graph)


def random_cell(rng):
  """Returns edges that reach every node, and the weights that decide for them."""
  while True:
    kept = rng.random(len(OWN.graph.edges)) < 0.6
    chosen = rng.integers(1, OWN.num_operations, len(kept))
    edges = [(OWN.primitives[o], *e) for o, e, k in zip(chosen, OWN.graph.edges, kept) if k]
    reached = {0, 1}
    for _, src, dst in edges:
      reached |= {dst} if src in reached else set()
    if len(reached) == OWN.graph.num_nodes and all(edge[1] in reached for edge in edges):
      return edges, kept.astype(np.float64), np.eye(OWN.num_operations)[chosen]


@pytest.mark.parametrize(
  'kind, stem', [('macs', 'cifar'), ('params', 'cifar'), ('macs', 'imagenet')]
)
def test_a_mixture_that_has_decided_costs_as_much_as_its_network(kind, stem):
  shape, rng = (18, 20, 3), np.random.default_rng(0)
  found = operation_costs.operation_costs(NET.clone(stem=stem), shape, kind)
  for _ in range(2):
    (normal, first, w0), (reduce, second, w1) = random_cell(rng), random_cell(rng)
    nodes = range(2, OWN.graph.num_nodes)
    cell = genotype.Genotype(normal, nodes, reduce, nodes)
    expected = found.expected({'normal': w0, 'reduce': w1}, {'normal': first, 'reduce': second})
    measured = sizes.measure(cell, 4, 4, 10, stem, image_shape=shape)
    assert expected == getattr(measured, kind)
    # Linear in the weights, also where each layer has its own.
    layers = {c: np.stack([w, 0 * w]) for c, w in (('normal', w0), ('reduce', w1))}
    ends = {'normal': first, 'reduce': second}
    other = {c: np.stack([0 * w, w]) for c, w in (('normal', w0), ('reduce', w1))}
    parts = [found.expected(w, ends) - found.base for w in (layers, other)]
    assert sum(parts) == expected - found.base and min(parts) >= 0


@pytest.mark.parametrize('num_layers', [3, 6])
def test_weights_of_the_layers_of_another_depth_count_by_their_mean(num_layers):
  """The network has two normal cells, the search one or four; all sums are plain loops."""
  rng, edges = np.random.default_rng(0), len(OWN.graph.edges)
  weights = {'normal': rng.random((num_layers - 2, edges, 5)), 'reduce': rng.random((2, edges, 5))}
  chances = {c: rng.random(edges) for c in weights}
  found = operation_costs.operation_costs(NET, (8, 8, 3))
  total = found.base
  for cell, table in found.tables.items():
    layers = weights[cell]
    for layer, row in enumerate(table):
      for e in range(edges):
        for o in range(5):
          if cell == 'reduce':
            weight = layers[layer, e, o]
          else:
            weight = sum(one[e, o] for one in layers) / len(layers)
          total += weight * chances[cell][e] * row[e, o]
  np.testing.assert_allclose(found.expected(weights, chances), total, rtol=1e-12)


@pytest.mark.parametrize('kind', operation_costs.COSTS)
def test_in_nas_bench_201_it_costs_as_much_as_its_network_too(kind):
  names, edges = BENCH.space.primitives, {'normal': np.ones(6)}
  for net, codes, shape in (
    (BENCH, (0, 1234, 9999, 15624), (8, 12, 1)),
    (BENCH.clone(channels=16, num_layers=5), (3 * 3906,), (32, 32, 3)),
  ):
    found = operation_costs.operation_costs(net, shape, kind)
    for cell in map(nas_bench_201.from_code, codes):
      one_hot = np.array([[name == chosen for name in names] for chosen in cell.operations], float)
      measured = sizes.measure(cell, net.channels, net.num_layers, 10, image_shape=shape)
      assert found.expected({'normal': one_hot}, edges) == getattr(measured, kind)
  published = {'params': 1_531_546, 'macs': 220_119_680}  # of 3x3 convolutions on all edges
  assert getattr(measured, kind) == published[kind]


@pytest.mark.parametrize('kind', operation_costs.COSTS)
def test_a_mixture_in_nas_bench_201_costs_the_sum_over_its_operations(kind):
  rng = np.random.default_rng(0)
  weights, chances = rng.dirichlet(np.ones(5), (6, 6)), rng.random(6)
  empty = sizes.measure(nas_bench_201.from_code(0), 4, 2, 10, image_shape=(8, 12, 3))
  total = float(getattr(empty, kind))
  for layer in range(6):
    channels = 4 * 2 ** (layer // 2)
    pixels = (8 // 2 ** (layer // 2)) * (12 // 2 ** (layer // 2))
    for edge in range(6):
      for o, name in enumerate(BENCH.space.primitives):
        kernel = {'nor_conv_1x1': 1, 'nor_conv_3x3': 9}.get(name, 0) * channels**2
        cost = kernel * pixels if kind == 'macs' else kernel + 2 * channels * (kernel > 0)
        total += chances[edge] * weights[layer, edge, o] * cost
  found = operation_costs.operation_costs(BENCH, (8, 12, 3), kind)
  expected = found.expected({'normal': weights}, {'normal': chances})
  np.testing.assert_allclose(expected, total, rtol=1e-12)


def test_the_probability_of_an_edge_follows_the_topology():
  graph_ = OWN.graph
  codes = operation_costs.edge_probabilities(TABLE, graph_)
  beta = np.zeros(TABLE.mask.shape, np.float32)
  uniform = codes(topology.edge_scores(beta, TABLE))
  # With n out-edges each is in half of the 2^n subsets.
  np.testing.assert_allclose(uniform, np.full(len(graph_.edges), 0.5), rtol=1e-5)
  beta[:, 0] = 50
  decided = codes(topology.edge_scores(beta, TABLE))
  np.testing.assert_allclose(decided, topology.select(beta, TABLE), atol=1e-5)
  strongest = operation_costs.edge_probabilities(topology.none(graph_), graph_, 2)
  np.testing.assert_allclose(
    strongest(np.ones(9, np.float32)), [1, 1] + [2 / 3] * 3 + [0.5] * 4, rtol=1e-6
  )


@pytest.mark.parametrize('net', [NET, BENCH])
def test_a_share_is_one_without_any_preference_and_follows_the_weights(net):
  found = operation_costs.operation_costs(net, (8, 8, 3))
  table = topology.output_subsets(net.space.graph)
  even = topology.edge_scores(np.zeros(table.mask.shape, np.float32), table)
  expected = operation_costs.expected_share(
    found, operation_costs.edge_probabilities(table, net.space.graph), even
  )
  scores = dict.fromkeys(net.space.cell_types, even)
  weights = {c: jnp.full((len(even), 5), 0.2) for c in scores}
  np.testing.assert_allclose(expected(weights, scores), 1, rtol=1e-6)
  free = {c: w.at[:, 3].set(0) for c, w in weights.items()}
  assert float(expected(free, scores)) < 1


@pytest.mark.parametrize('net', [NET, BENCH])
def test_logarithms_of_the_cost_of_each_edge(net):
  kinds = [operation_costs.operation_costs(net, (8, 8, 3), kind) for kind in ('macs', 'params')]
  rng, edges = np.random.default_rng(0), len(net.space.graph.edges)
  weights = {c: rng.dirichlet(np.ones(5), edges) for c in net.space.cell_types}
  total = 0.0
  for cell, w in weights.items():
    for found in kinds:
      for layer in found.tables[cell]:
        for e in range(edges):
          cost = max(1.0, float((w[e] * layer[e]).sum()))
          total += np.log(cost) / (2 * len(found.tables[cell]))
  value = operation_costs.mean_logarithms(*kinds)(
    {c: jnp.asarray(w) for c, w in weights.items()}, {}
  )
  np.testing.assert_allclose(value, total, rtol=1e-5)
