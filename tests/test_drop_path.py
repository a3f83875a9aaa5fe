"""The factors of drop path."""

import jax
import jax.numpy as jnp
import numpy as np

from stretchnas_jax.networks.drop_path import keep_factors


def test_keep_factors_are_bernoulli_of_mean_one():
  factors = keep_factors(jax.random.key(0), 0.3, jnp.arange(500), (4, 10))
  assert factors.shape == (4, 500, 10) and factors.dtype == jnp.float32
  assert set(np.unique(factors)) == {0, np.float32(1 / np.float32(0.7))}
  dropped = factors == 0
  # Five standard deviations of 500 to 20000 coins.
  assert abs(dropped.mean() - 0.3) < 0.017
  assert np.abs(dropped.mean(1) - 0.3).max() < 0.11
  assert abs((dropped[0] * dropped[1]).mean() - 0.09) < 0.021  # layers on their own
  assert abs((dropped[..., 0] * dropped[..., 1]).mean() - 0.09) < 0.033  # edges on their own
  assert np.all(keep_factors(jax.random.key(0), 0.0, jnp.arange(9), (2, 3)) == 1)
  assert np.all(keep_factors(jax.random.key(0), 1.0, jnp.arange(9), (2, 3)) == 0)


def test_draws_follow_the_position_not_the_place():
  draw = lambda positions: keep_factors(jax.random.key(1), 0.5, jnp.array(positions), (3, 4))
  np.testing.assert_array_equal(draw([7, 2, 5])[:, [2, 0]], draw([5, 7]))
  assert not np.array_equal(draw([7])[:, 0], draw([2])[:, 0])
