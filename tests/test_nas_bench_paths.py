"""Networks of cells of NAS-Bench-201 with and without a path from the input to the output."""

import jax
import numpy as np
from jax import lax
from small_networks import first_variables

from stretchnas_jax.cells import nas_bench_201, space
from stretchnas_jax.cells.nas_bench_201 import EDGES, Cell
from stretchnas_jax.networks.nas_bench_network import NasBenchNetwork
from stretchnas_jax.networks.nas_bench_supernet import NasBenchSupernet

IMAGES = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
WAYS = [(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]


def with_averages(net):
  """Returns variables whose running averages are not those of zeros."""
  variables = first_variables(net, IMAGES)
  return {**variables, 'batch_stats': jax.tree.map(lambda a: a - 0.5, variables['batch_stats'])}


def test_logits_are_constant_exactly_where_there_is_no_path():
  """One supernet, whose weights decide for each cell; running averages keep images apart."""
  constant = [cell for cell in nas_bench_201.all_cells() if not cell.has_path]
  others = [
    Cell(tuple(name if edge in way else 'none' for edge in EDGES))
    for way in WAYS
    for name in nas_bench_201.OPERATIONS
    if name != 'none'
  ]
  own = space.nas_bench_201()
  net = NasBenchSupernet(own, 4, 1, 3)
  variables = with_averages(net)
  one_hot = np.array(
    [
      [[name == n for n in own.primitives] for name in cell.operations]
      for cell in constant + others
    ],
    np.float32,
  )
  logits_of = lambda weights: net.apply(variables, IMAGES, {'normal': weights})
  logits = np.asarray(jax.jit(lambda all_weights: lax.map(logits_of, all_weights))(one_hot))
  difference = np.abs(logits[:, 0] - logits[:, 1]).max(1)
  assert len(constant) == 341 and (difference[:341] == 0).all()
  assert len(others) == 16 and (difference[341:] > 1e-4).all()


def test_the_network_of_a_cell_without_a_path_gives_constant_logits():
  net = NasBenchNetwork(Cell(('nor_conv_3x3', 'skip_connect', *['none'] * 4)), 4, 1, 3)
  logits = np.asarray(jax.jit(net.apply)(with_averages(net), IMAGES))
  np.testing.assert_array_equal(logits[0], logits[1])
