"""The passage to a search network with fewer or wider operations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import first_variables, images, paths

from stretchnas_jax.cells import graph, space
from stretchnas_jax.networks import initializers, supernet, widening

NAMES = ('max_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'dil_conv_3x3')
SHAPE = (2, 8, 8, 3)
EDGES = 2  # Both have stride 2: the one cell is a reduction cell of 12 channels.


def small(allowed=None):
  return space.SearchSpace(graph.CellGraph(1), NAMES, allowed)


def network(k, allowed=None):
  return supernet.Supernet(small(allowed), 6, 1, 3, partial_channels=k)


def without(operation):
  """All operations but one on the first edge."""
  mask = np.ones((EDGES, len(NAMES)), bool)
  mask[0, NAMES.index(operation)] = False
  return dict.fromkeys(space.CELL_TYPES, mask)


def passed_on(before, after, seed=3):
  variables = first_variables(before, np.zeros(SHAPE, np.float32))
  passage = widening.pass_on(before, after, jax.random.key(seed))
  return variables, {name: getattr(passage, name)(variables[name]) for name in passage._fields}


def test_the_next_network_gets_all_its_variables():
  before, after = network(6), network(3, without('sep_conv_3x3'))
  variables, found = passed_on(before, after)
  expected = initializers.trace_shapes(after, np.zeros(SHAPE, np.float32))
  shapes = lambda tree: jax.tree.map(lambda leaf: leaf.shape, dict(tree))
  assert shapes(found) == shapes(expected)
  # What no operation owns stays as it was.
  for name in ('stem', 'stem_norm', 'classifier'):
    assert paths(found['params'][name]).keys() == paths(variables['params'][name]).keys()
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, *(
      tree['params'][name] for tree in (found, variables)
    ))))  # fmt: skip


class Own(nn.Module):
  """A convolution of its own with a batch norm."""

  channels: int
  stride: int

  @nn.compact
  def __call__(self, x, train):
    x = nn.Conv(self.channels, (1, 1), (self.stride, self.stride))(x)
    return nn.BatchNorm(use_running_average=not train)(x)


@pytest.mark.parametrize('names', [('own', 'skip_connect'), ('skip_connect', 'own')])
def test_own_operations_fall_on_single_edges(names):
  allowed = np.ones((EDGES, 2), bool)
  allowed[0, names.index('own')] = False
  spaces = [
    space.SearchSpace(graph.CellGraph(1), names, mask)
    for mask in (None, dict.fromkeys(space.CELL_TYPES, allowed))
  ]
  before, after = (supernet.Supernet(of, 6, 1, 3, operations={'own': Own}) for of in spaces)
  variables, found = passed_on(before, after)
  expected = initializers.trace_shapes(after, np.zeros(SHAPE, np.float32))
  assert jax.tree.structure(found) == jax.tree.structure(dict(expected))
  for part in found:
    assert 'own_0_2' in variables[part]['cell_0'] and 'own_0_2' not in found[part]['cell_0']
    kept = (tree[part]['cell_0']['own_1_2'] for tree in (variables, found))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, *kept))


def test_old_channels_keep_their_weights_and_new_ones_are_copies():
  before, after = network(6), network(3)
  variables, found = passed_on(before, after)
  old, new = (tree['params']['cell_0'] for tree in (variables, found))
  depthwise, wide = old['sep_conv_3x3_depthwise'], new['sep_conv_3x3_depthwise']
  np.testing.assert_array_equal(wide[:, :, :2], depthwise)
  pointwise, matrix = old['sep_conv_3x3_pointwise'], new['sep_conv_3x3_pointwise']
  np.testing.assert_array_equal(matrix[:, :, :2, :2], pointwise)
  for n in range(EDGES):
    for stage in range(2):
      copied = [c for c in range(2) if np.array_equal(wide[n, stage, 2], depthwise[n, stage, c])]
      assert copied
      # The matrix reads the copy of a channel with the weights of that channel.
      np.testing.assert_array_equal(matrix[n, stage, 2, :2], pointwise[n, stage, copied[0]])
      columns = [np.array_equal(matrix[n, stage, :2, 2], pointwise[n, stage, :, d]) for d in (0, 1)]
      assert any(columns)


def test_averages_follow_the_channels_of_their_convolution():
  before, after = network(6), network(3)
  variables = first_variables(before, np.zeros(SHAPE, np.float32))
  passage = widening.pass_on(before, after, jax.random.key(3))
  # Averages that tell the columns of the matrix: the sum of each.
  norms = dict(variables['batch_stats']['cell_0']['norms'])
  matrix = variables['params']['cell_0']['dil_conv_3x3_pointwise'][:, 0]
  norms['dil_conv_3x3'] = {'mean': matrix[:, 0], 'var': matrix[:, 1]}
  stats = {**variables['batch_stats'], 'cell_0': {'norms': norms}}
  wide = passage.batch_stats(stats)['cell_0']['norms']['dil_conv_3x3']
  columns = passage.params(variables['params'])['cell_0']['dil_conv_3x3_pointwise'][:, 0]
  np.testing.assert_array_equal(wide['mean'], columns[:, 0])
  np.testing.assert_array_equal(wide['var'], columns[:, 1])


def test_halves_of_a_strided_skip_stay_apart():
  variables, found = passed_on(network(6), network(3))
  old, new = (tree['params']['cell_0']['skip_connect'][0, 0] for tree in (variables, found))
  assert old.shape == (2, 2) and new.shape == (4, 4)
  np.testing.assert_array_equal(new[:2][:, [0, 2]], old)
  for column, from_half in ((1, 0), (3, 1)):
    np.testing.assert_array_equal(new[:2, column], old[:, from_half])


def test_fewer_operations_at_equal_width_change_no_output_where_they_had_no_weight():
  before, after = network(2), network(2, without('dil_conv_3x3'))
  variables, found = passed_on(before, after)
  allowed, x = after.space.allowed, images(*SHAPE)
  weights = {kind: jnp.asarray(allowed[kind] / 4.0, jnp.float32) for kind in space.CELL_TYPES}
  expected, got = (
    jax.jit(net.clone(form='merged').apply)(given, x, weights)
    for net, given in ((before, variables), (after, found))
  )
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


FEWER = without('sep_conv_3x3')


@pytest.mark.parametrize(
  'before, after', [(network(3), network(6)), (network(3, FEWER), network(3))]
)
def test_networks_that_do_not_follow_one_another_are_refused(before, after):
  with pytest.raises(ValueError, match='may only lose operations'):
    widening.pass_on(before, after, jax.random.key(0))
