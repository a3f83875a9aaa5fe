"""Cells of a genotype against pools and sums pixel by pixel."""

import jax
import jax.numpy as jnp
import numpy as np

from stretchnas_jax.networks.fixed_cell import FixedCell


def images(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def pooled(x, reduce, stride):
  """A 3x3 pool of `[B, H, W, C]` pixel by pixel, without the padding."""
  height, width = x.shape[1:3]
  rows = range(0, height, stride)
  columns = range(0, width, stride)
  window = lambda i: slice(max(i - 1, 0), i + 2)
  return np.stack(
    [np.stack([reduce(x[:, window(i), window(j)], (1, 2)) for j in columns], 1) for i in rows], 1
  )


def entered(x, params):
  """ReLU, 1x1 convolution, batch norm with the moments it starts with."""
  return np.maximum(x, 0) @ params['conv']['kernel'][0, 0] / np.sqrt(1 + 1e-5)


EDGES = (
  ('max_pool_3x3', 0, 2),
  ('max_pool_3x3', 0, 2),  # the same edge twice
  ('skip_connect', 1, 2),
  ('avg_pool_3x3', 0, 4),  # there is no node 3
  ('skip_connect', 2, 4),
  ('avg_pool_3x3', 4, 5),
  ('skip_connect', 0, 6),  # a loose end
)


def test_cell_sums_edges_and_concatenates_in_order(key):
  cell = FixedCell(EDGES, (5, 2), 4, reduction=False, after_reduction=False)
  s0, s1 = images(2, 5, 6, 3), images(2, 5, 6, 8, seed=1)
  variables = jax.jit(cell.init)(key, s0, s1)
  x0 = entered(s0, variables['params']['enter_0'])
  x1 = entered(s1, variables['params']['enter_1'])
  x2 = 2 * pooled(x0, np.max, 1) + x1
  x5 = pooled(pooled(x0, np.mean, 1) + x2, np.mean, 1)
  want = np.concatenate([x5, x2], -1)
  np.testing.assert_allclose(jax.jit(cell.apply)(variables, s0, s1), want, rtol=1e-4, atol=1e-5)


def test_reduction_halves_on_edges_from_the_inputs_alone(key):
  edges = (('max_pool_3x3', 0, 2), ('avg_pool_3x3', 1, 2), ('avg_pool_3x3', 2, 3))
  cell = FixedCell(edges, (3,), 4, reduction=True, after_reduction=False)
  s0, s1 = images(2, 5, 6, 3), images(2, 5, 6, 8, seed=1)
  variables = jax.jit(cell.init)(key, s0, s1)
  x0 = entered(s0, variables['params']['enter_0'])
  x1 = entered(s1, variables['params']['enter_1'])
  want = pooled(pooled(x0, np.max, 2) + pooled(x1, np.mean, 2), np.mean, 1)
  np.testing.assert_allclose(jax.jit(cell.apply)(variables, s0, s1), want, rtol=1e-4, atol=1e-5)


def test_drop_path_spares_only_the_identity(key):
  edges = (('skip_connect', 1, 2), ('max_pool_3x3', 0, 2), ('avg_pool_3x3', 1, 2))
  cell = FixedCell(edges, (2,), 4, reduction=False, after_reduction=False)
  s0, s1 = images(2, 4, 4, 4), images(2, 4, 4, 4, seed=1)
  variables = jax.jit(cell.init)(key, s0, s1)
  keep = jnp.array([[0.0, 0, 0], [0, 2, 0]])
  y = cell.apply(variables, s0, s1, False, keep)
  x0 = entered(s0, variables['params']['enter_0'])
  x1 = entered(s1, variables['params']['enter_1'])
  np.testing.assert_allclose(y[0], x1[0], rtol=1e-4, atol=1e-5)
  want = x1[1] + 2 * pooled(x0, np.max, 1)[1]
  np.testing.assert_allclose(y[1], want, rtol=1e-4, atol=1e-5)


def test_drop_path_takes_strided_skips(key):
  cell = FixedCell((('skip_connect', 1, 2),), (2,), 4, True, False)
  s = images(2, 4, 4, 4)
  variables = cell.init(key, s, s)
  y = cell.apply(variables, s, s, False, jnp.array([[0.0], [1.0]]))
  assert not y[0].any() and y[1].any()
