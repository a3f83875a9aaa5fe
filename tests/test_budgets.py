"""Searches under a budget: the expected cost of the cells is drawn to a target."""

import helpers
import numpy as np
import phase_runs
import pytest

from stretchnas_jax.cells import graph, space
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.learning import monitors
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.networks import sizes
from stretchnas_jax.runs import json_files

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


@pytest.mark.parametrize('cost, topology', [('params', 'none'), ('macs', 'output_subsets')])
def test_the_expected_cost_meets_its_target_on_digits(tmp_path, cost, topology):
  """Within 10 %, from below and from above; the decoded cost is that of the derived cell."""
  fields = {
    'topology.kind': topology, 'alpha.learning_rate': 0.05, 'beta.learning_rate': 0.05,
    'search.epochs': 12, 'model.channels': 4, 'data.fraction': 0.15,
  }  # fmt: skip
  runs = phase_runs.Runs({'space': SPACE})
  free = expected(
    runs, tmp_path / 'free', cost, {**fields, f'budget.{cost}': 1.0, 'search.epochs': 1}
  )
  for factor in (0.8, 1.2):
    config = {**fields, f'budget.{cost}': factor * free[0]}
    found = expected(runs, tmp_path / str(factor), cost, config)
    assert abs(found[-1] / (factor * free[0]) - 1) < 0.1, found
  last = json_files.read_lines(tmp_path / '1.2' / 'metrics.jsonl')[-1]
  result = json_files.read_object(tmp_path / '1.2' / 'result.json')
  cell = Genotype.from_dict(result['genotype'], SPACE.primitives)
  assert last[cost] == getattr(sizes.measure(cell, 4, 1, 10, image_shape=(8, 8, 1)), cost)


def expected(runs, path, cost, fields):
  """Returns the expected cost of each epoch of a search."""
  runs.search(helpers.tiny_search(**fields), path)
  return [line[f'expected_{cost}'] for line in json_files.read_lines(path / 'metrics.jsonl')]
