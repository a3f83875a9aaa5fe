"""Running averages of batch norms: PyTorch's variance, and a start that leaves no trace."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import TINY_CELL, random_batch
from jax import lax
from small_networks import first_variables

import stretchnas_jax as snas
from stretchnas_jax.cells import graph, space, topology
from stretchnas_jax.learning import bilevel
from stretchnas_jax.networks.running_averages import settle

BATCH = 6
FEW = ('skip_connect', 'sep_conv_3x3', 'dil_conv_3x3', 'max_pool_3x3')


def moved(net, images, *args):
  """Returns the running averages after one batch, by path."""
  variables = first_variables(net, images)
  apply = lambda v: net.apply(v, jnp.asarray(images), *args, train=True, mutable=['batch_stats'])
  stats = jax.jit(apply)(variables)[1]['batch_stats']
  return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree.leaves_with_path(stats)}


def check_factors(net, count_of, *args):
  """Checks the factor of every variance against the number of values of its channel."""
  images = np.random.default_rng(0).normal(size=(BATCH, 8, 8, 3)).astype(np.float32)
  plain = moved(net.clone(batch_norm='plain'), images, *args)
  found = moved(net, images, *args)
  assert plain.keys() == found.keys()
  for path, value in plain.items():
    if path.endswith("['mean']"):
      np.testing.assert_allclose(found[path], value, rtol=1e-5, atol=1e-7)
    else:
      n = count_of(path)
      expected = 0.9 + (value - 0.9) * n / (n - 1)
      np.testing.assert_allclose(found[path], expected, rtol=2e-6, err_msg=path)


@pytest.mark.parametrize('form', ['plain', 'planes'])
def test_variances_of_a_fixed_network_are_over_n_minus_one(form):
  """Cells 1 and 2 of three layers reduce: sides 8, then 4, then 2."""
  net = snas.FixedNetwork(TINY_CELL, 2, 3, 3, form=form)

  def count(path):
    if 'stem' in path or 'cell_0' in path:
      return BATCH * 64
    side = {'1': 8, '2': 4}[path.split('cell_')[1][0]]  # of the inputs of the cell
    return BATCH * (side**2 if 'enter_1' in path or 'enter_0' in path else (side // 2) ** 2)

  def at_nodes(path):
    # The first input of cell 2 is halved on its way in, so that both have one size.
    return count(path)

  check_factors(net, at_nodes)


@pytest.mark.parametrize('form', [pytest.param('merged', marks=pytest.mark.long), 'planes'])
def test_variances_of_a_supernet_are_over_n_minus_one(form):
  net = snas.Supernet(space.SearchSpace(graph.CellGraph(2), FEW), 2, 3, 3, form=form)

  def count(path):
    if 'stem' in path or 'cell_0' in path:
      return BATCH * 64
    side = {'1': 8, '2': 4}[path.split('cell_')[1][0]]
    return BATCH * (side**2 if 'entry' in path else (side // 2) ** 2)

  check_factors(net, count)


def test_the_stem_keeps_the_variance_over_n_minus_one():
  net = snas.FixedNetwork(TINY_CELL, 2, 1, 3)
  images = np.random.default_rng(1).normal(size=(BATCH, 8, 8, 3)).astype(np.float32)
  variables = first_variables(net, images)
  kernel = variables['params']['stem']['conv']['kernel']
  x = lax.conv_general_dilated(
    images, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  found = moved(net, images)["['stem']['norm']['var']"]
  expected = 0.9 + 0.1 * np.asarray(x, np.float64).var((0, 1, 2), ddof=1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_count_is_that_of_the_batch_over_all_devices():
  net = snas.FixedNetwork(TINY_CELL, 2, 1, 3, form='plain')
  images = np.random.default_rng(2).normal(size=(4, 8, 8, 3)).astype(np.float32)
  variables = first_variables(net, images)
  apply = lambda net, x: net.apply(variables, x, train=True, mutable=['batch_stats'])[1]
  split = jax.vmap(lambda x: apply(net.clone(axis_name='i'), x), axis_name='i')
  # Compiled, as one by one the operations take longer.
  whole = jax.jit(lambda x: apply(net, x))(images)
  spread = jax.jit(split)(images.reshape(2, 2, 8, 8, 3))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y[0], rtol=1e-5), whole, spread)


def weighted_means(moments):
  """Returns, after each step, the mean of the moments so far; older ones weigh 0.9 as much."""
  found = []
  for t in range(1, len(moments) + 1):
    weights = [0.9 ** (t - i) for i in range(1, t + 1)]
    found.append(sum(w * m for w, m in zip(weights, moments)) / sum(weights))
  return found


def test_averages_of_a_training_are_weighted_means_of_its_batches(key):
  """With a rate of 0 the weights stay, so that each batch has the same moments in a plain pass."""
  net = snas.FixedNetwork(TINY_CELL, 2, 1, 3)
  training = snas.make_training(net, optax.sgd(0.0), image_shape=(8, 8, 3))
  state, step = jax.jit(training.init)(key), jax.jit(training.step)
  first_averages = state.batch_stats
  apply = jax.jit(lambda v, images: net.apply(v, images, train=True, mutable=['batch_stats'])[1])
  moments = {"['stem']['norm']['mean']": [], "['cell_0']['enter_1']['norm']['var']": []}
  found = {path: [] for path in moments}
  for t in range(4):
    images = (t + 1) * jax.random.normal(jax.random.key(t), (BATCH, 8, 8, 3)) + t
    updated = apply({'params': state.params, 'batch_stats': first_averages}, images)
    fresh = paths(updated['batch_stats'])
    for path, values in moments.items():
      first = 1.0 if path.endswith("['var']") else 0.0
      values.append((fresh[path] - 0.9 * first) / 0.1)
    state, _ = step(state, snas.Examples(images, jnp.zeros(BATCH, jnp.int32)), key)
    for path, values in found.items():
      values.append(paths(state.batch_stats)[path])
  for path, values in moments.items():
    np.testing.assert_allclose(found[path], weighted_means(values), rtol=1e-4, atol=1e-5)


def paths(tree):
  return {jax.tree_util.keystr(path): np.float64(x) for path, x in jax.tree.leaves_with_path(tree)}


class Halving(nn.Module):
  """An own operation whose averages move half of the way."""

  channels: int
  stride: int

  @nn.compact
  def __call__(self, x, train=False):
    x = x[:, :: self.stride, :: self.stride]
    return nn.BatchNorm(not train, momentum=0.5, name='norm')(x)


def test_averages_of_own_operations_keep_their_own_rule(key):
  net = snas.Supernet(
    space.SearchSpace(graph.CellGraph(1), ('skip_connect', 'halving')), 2, 1, 3,
    operations={'halving': Halving},
  )  # fmt: skip

  def averages_after_a_step(net):
    search = bilevel.make_search(
      net, topology.output_subsets(net.space.graph), bilevel.one_level(),
      weights_tx=optax.sgd(0.0), arch_tx=optax.sgd(0.0), image_shape=(8, 8, 1),
    )  # fmt: skip
    state = jax.jit(search.init)(key)
    return paths(jax.jit(search.step)(state, random_batch(key), key)[0].batch_stats)

  found, plain = averages_after_a_step(net), averages_after_a_step(net.clone(batch_norm='plain'))
  own = [path for path in found if 'halving_' in path]
  assert len(own) == 4 and len(found) > 6
  for path in own:
    np.testing.assert_allclose(found[path], plain[path], rtol=1e-5, atol=1e-7)
  (entry,) = [path for path in found if path.endswith("['entry0']['var']")]
  assert abs(found[entry] - plain[entry]).min() > 1e-3


def test_own_operations_of_a_fixed_network_are_known_by_their_edges():
  cell = (('halving', 0, 2), ('sep_conv_3x3', 1, 2))
  net = snas.FixedNetwork(
    snas.Genotype(cell, (2,), cell, (2,)), 2, 2, 3, operations={'halving': Halving}
  )
  images = np.zeros((2, 8, 8, 3), np.float32)
  before = jax.tree.map(jnp.asarray, first_variables(net, images)['batch_stats'])
  after = jax.tree.map(lambda x: x + 0.1, before)
  for path, x in paths(settle(net, before, after, 0)).items():
    expected = 0.1 if "['edge_0']" in path else 1.0
    np.testing.assert_allclose(x - paths(before)[path], expected, rtol=1e-4, err_msg=path)


def test_the_correction_ends_and_keeps_variances_positive():
  net = snas.FixedNetwork(TINY_CELL, 2, 1, 3)
  before, after = {'norm': {'var': jnp.array([1.0])}}, {'norm': {'var': jnp.array([0.9])}}
  assert settle(net, before, after, 0)['norm']['var'] == 0.0
  np.testing.assert_allclose(settle(net, before, after, 1000)['norm']['var'], 0.9, rtol=1e-6)
  assert settle(net.clone(batch_norm='plain'), before, after, 0) is after


def test_an_unknown_rule_is_named():
  with pytest.raises(ValueError, match="batch_norm is 'torch'"):
    snas.FixedNetwork(TINY_CELL, 2, 1, 3, batch_norm='torch')
  with pytest.raises(ValueError, match="batch_norm is 'torch'"):
    snas.Supernet(space.darts_space(2), 2, 1, 3, batch_norm='torch')
