"""Searches under a budget: the expected cost of the cells is drawn to a target."""

import helpers
import jax
import numpy as np
import phase_runs
import pytest

from stretchnas_jax.cells import graph, space
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.learning import monitors
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.networks import sizes, supernet
from stretchnas_jax.runs import budgets, json_files, search_task
from stretchnas_jax.runs.parts import Parts

SPACE = space.SearchSpace(graph.CellGraph(2), ('skip_connect', 'max_pool_3x3', 'dil_conv_5x5'))


def test_the_weight_of_a_budget_grows_by_the_logarithm_of_the_excess():
  monitor = monitors.budget(100.0, gain=0.5, cost='macs', most=0.6)
  control, found = monitors.first_control([monitor], SPACE), []
  nobody = Genotype([('skip_connect', 0, 2)], (2,), [('skip_connect', 0, 2)], (2,))
  for cost in (100.0, 200.0, 200.0, 50.0, 25.0):
    line = {'expected_macs': cost}
    control = monitors.decide([monitor], Arch({}, {}), control, line, nobody)
    found.append(float(control['macs_multiplier']))
  half = 0.5 * np.log(2)
  np.testing.assert_allclose(found, [0, half, 0.6, 0.6 - half, 0.6 - 3 * half], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize('cost, topology, factor', [('params', 'none', 0.8)])
def test_the_expected_cost_meets_its_target_on_digits(tmp_path, cost, topology, factor):
  """Within 10 %, from above or below; the decoded cost is that of the derived cell."""
  config = helpers.tiny_search(**{
    'topology.kind': topology, 'alpha.learning_rate': 0.05, 'beta.learning_rate': 0.05,
    'search.epochs': 12, 'model.channels': 4, 'data.fraction': 0.15, f'budget.{cost}': 1e3,
    'model.form': 'planes',  # in 'merged' these convolutions run four times as long here
  })  # fmt: skip
  config.budget[cost] = target = factor * cost_at_the_start(config, cost)
  found = phase_runs.Runs({'space': SPACE}).search(config, tmp_path)
  lines = json_files.read_lines(tmp_path / 'metrics.jsonl')
  expected = [line[f'expected_{cost}'] for line in lines]
  assert abs(expected[-1] / target - 1) < 0.1, expected
  cell = Genotype.from_dict(found['genotype'], SPACE.primitives)
  assert lines[-1][cost] == getattr(sizes.measure(cell, 4, 1, 10, image_shape=(8, 8, 1)), cost)


@pytest.mark.parametrize('own', [SPACE, space.nas_bench_201()])
def test_a_budget_below_the_cost_of_an_empty_network_is_refused(tmp_path, own):
  config = helpers.tiny_search(**{'budget.params': 10.0})
  with pytest.raises(
    ValueError, match='budget.params is 10; a network of num_layers 1 and C 2 has'
  ):
    phase_runs.Runs({'space': own}).search(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('cost', ['params', 'macs'])
def test_a_budget_above_the_cost_of_the_largest_cells_is_refused(cost):
  """The largest cell has the largest convolution on all edges; gates may add further costs."""
  edges = tuple(('dil_conv_5x5', *edge) for edge in SPACE.graph.edges)
  largest = Genotype(edges, (2, 3), edges, (2, 3))
  most = getattr(sizes.measure(largest, 2, 3, 10, image_shape=(8, 8, 1)), cost)
  config = helpers.tiny_search(**{'budget.num_layers': 3, f'budget.{cost}': most})
  net = supernet.Supernet(SPACE, 2, 1, 10)
  budgets.check(config, net, (8, 8, 1), gates=False)
  config.budget[cost] = most + 1
  budgets.check(config, net, (8, 8, 1), gates=True)
  words = rf'budget.{cost} is .*; a network of num_layers 3 and C 2 has at most .*: give less'
  with pytest.raises(ValueError, match=words):
    search_task.SEARCH.plan(config, Parts(space=SPACE))


def cost_at_the_start(config, cost):
  """Returns the expected cost of a search without any preference."""
  plan = search_task.SEARCH.plan(config, Parts(space=SPACE))
  objects = plan.objects
  arch = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(objects.search.init, jax.random.key(0)).arch,
  )
  plan.close()
  return float(objects.expected_costs[cost](*objects.search.mixture(arch, 0, objects.control)))
