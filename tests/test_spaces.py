"""The spaces of RobustDARTS: their operations, and the weights of their search networks."""

import numpy as np
import pytest

from stretchnas_jax.cells import genotype, spaces
from stretchnas_jax.networks import operation_costs, sizes
from stretchnas_jax.networks.network import FixedNetwork


def test_each_edge_of_s1_has_two_operations_of_its_own():
  own = spaces.s1()
  for cell in ('normal', 'reduce'):
    np.testing.assert_array_equal(own.allowed[cell].sum(1), 2)
  name = lambda cell, edge: {
    own.primitives[o] for o in np.flatnonzero(own.allowed[cell][own.graph.edges.index(edge)])
  }
  assert name('normal', (0, 2)) == {'skip_connect', 'dil_conv_3x3'}
  assert name('normal', (4, 5)) == {'dil_conv_3x3', 'dil_conv_5x5'}
  assert name('normal', (2, 3)) == {'skip_connect', 'dil_conv_3x3'}
  assert name('reduce', (0, 2)) == {'max_pool_3x3', 'avg_pool_3x3'}
  assert name('reduce', (1, 4)) == {'max_pool_3x3', 'sep_conv_3x3'}


@pytest.mark.parametrize(
  'make, weights',
  [(spaces.s1, 405_146), (spaces.s2, 665_466), (spaces.s3, 665_466), (spaces.s4, 624_506)],
)
def test_the_search_networks_have_the_weights_of_the_authors(make, weights):
  found = sizes.count_supernet_params(make(), channels=16, num_layers=8, num_classes=10)
  assert found == weights


def test_a_cell_with_noise_is_refused_with_the_way_out_and_costs_as_one_without():
  edges = [('noise', 0, 2), ('sep_conv_3x3', 1, 2)]
  noisy = genotype.Genotype(edges, (2,), edges, (2,))
  words = "'noise'.*only a search has it, and a cell with noise cannot be trained.*FOLDER@EPOCH"
  with pytest.raises(ValueError, match=words):
    FixedNetwork(noisy, 4, 3, 10)
  with pytest.raises(ValueError, match=words):
    genotype.from_json(genotype.to_json(noisy))
  alone = genotype.Genotype(edges[1:], (2,), edges[1:], (2,))
  found = operation_costs.without_noise(noisy)
  for count in (sizes.count_params, sizes.count_macs):
    assert count(found, channels=4, num_layers=3, num_classes=10) == count(
      alone, channels=4, num_layers=3, num_classes=10
    )
