"""All parameters of a network come from one draw, bit for bit the same in all ways to start."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax.networks import initializers


class Net(nn.Module):
  """Two layers that draw, one that does not, and a running average."""

  sizes: tuple = (3, 5)

  @nn.compact
  def __call__(self, x):
    for i, size in enumerate(self.sizes):
      x = nn.Dense(size, kernel_init=initializers.uniform(x.shape[-1]), name=f'z{9 - i}')(x)
    self.variable('batch_stats', 'mean', jnp.ones, (2,))
    return x * self.param('scale', nn.initializers.ones, (1,))


def first_state(key):
  """As a run begins: a network and more that is drawn with the key."""
  net_key, other = jax.random.split(key)
  variables = initializers.init(Net(), net_key, jnp.zeros((1, 4)))
  return variables, jax.random.normal(other, (3,)), jax.tree.map(jnp.zeros_like, variables)


def test_each_parameter_has_its_own_piece_of_one_draw():
  key = jax.random.key(3)
  found = initializers.init(Net(), key, jnp.zeros((1, 4)))
  draw = np.asarray(jax.random.uniform(jax.random.split(key)[0], (4 * 3 + 3 * 5,), minval=-1))
  # In the order of the calls, not of the names.
  first, second = draw[: 4 * 3].reshape(4, 3), draw[4 * 3 :].reshape(3, 5)
  np.testing.assert_allclose(found['params']['z9']['kernel'], first / math.sqrt(4), rtol=1e-6)
  np.testing.assert_allclose(found['params']['z8']['kernel'], second / math.sqrt(3), rtol=1e-6)
  np.testing.assert_array_equal(found['params']['z8']['bias'], np.zeros(5))
  np.testing.assert_array_equal(found['batch_stats']['mean'], np.ones(2))


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_pieces_cut_on_the_host_are_those_of_the_program(seed):
  compiled, plain = initializers.compiled(first_state), jax.jit(first_state)
  for key in jax.random.split(jax.random.key(seed), 3):
    assert jax.tree.structure(compiled(key)) == jax.tree.structure(plain(key))
    jax.tree.map(np.testing.assert_array_equal, compiled(key), plain(key))


def test_several_networks_of_one_state_draw_apart():
  def two(key):
    return [initializers.init(Net(sizes), key, jnp.zeros((1, 4))) for sizes in ((3,), (2, 6))]

  found, expected = initializers.compiled(two)(jax.random.key(0)), jax.jit(two)(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_step_may_reuse_the_memory_of_the_first_state():
  start = initializers.compiled(first_state)
  step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
  for _ in range(3):  # a reused piece of the host would be seen in the next state
    state = start(jax.random.key(0))
    before = jax.tree.map(np.array, state)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y + 1), step(state), before)
  jax.tree.map(np.testing.assert_array_equal, start(jax.random.key(0)), before)


def test_without_a_draw_of_the_whole_each_parameter_draws_alone():
  found = Net().init(jax.random.key(0), jnp.zeros((1, 4)))['params']['z9']['kernel']
  assert found.shape == (4, 3) and 0 < jnp.abs(found).max() <= 0.5
