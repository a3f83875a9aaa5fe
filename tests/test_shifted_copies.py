"""Depthwise convolutions over batch-last maps against loops, and their place in the program."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax.networks.forms import shifted_copies

C, H, W, B = 3, 7, 6, 2


def convolution_and_gradients(kernel, x, stride, dilation, g):
  """Returns y, and for its gradient g those for kernel and x, tap by tap and pixel by pixel."""
  size = kernel.shape[-1]
  y = np.zeros((C, -(-H // stride), -(-W // stride), B))
  to_kernel, to_x = np.zeros(kernel.shape), np.zeros(x.shape)
  for c, row, column in itertools.product(range(C), range(y.shape[1]), range(y.shape[2])):
    for i, j in itertools.product(range(size), repeat=2):
      at = row * stride + (i - size // 2) * dilation, column * stride + (j - size // 2) * dilation
      if not (0 <= at[0] < H and 0 <= at[1] < W):
        continue
      for b in range(B):
        y[c, row, column, b] += kernel[c, i, j] * x[c, *at, b]
        to_kernel[c, i, j] += x[c, *at, b] * g[c, row, column, b]
        to_x[c, *at, b] += kernel[c, i, j] * g[c, row, column, b]
  return y, to_kernel, to_x


@pytest.fixture
def arrays():
  """Two kernels of 3 and 5 pixels, and two maps, float64."""
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    kernels = tuple(jnp.asarray(rng.normal(size=(C, size, size))) for size in (3, 5))
    yield kernels, tuple(jnp.asarray(rng.normal(size=(C, H, W, B))) for _ in range(2))


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('stride', [1, 2])
def test_convolutions_and_gradients_are_those_of_loops(arrays, stride, shared):
  kernels, xs = arrays
  xs, dilations = xs[:1] if shared else xs, (2, 1)
  ys, transpose = jax.vjp(
    lambda kernels, xs: shifted_copies.depthwise(kernels, xs, 1.0, stride, dilations), kernels, xs
  )
  gs = tuple(np.random.default_rng(1).normal(size=y.shape) for y in ys)
  to_kernels, to_xs = transpose(tuple(jnp.asarray(g) for g in gs))
  sums = [np.zeros(x.shape) for x in xs]
  for o, (kernel, dilation) in enumerate(zip(kernels, dilations)):
    place = 0 if shared else o
    y, to_kernel, to_x = convolution_and_gradients(
      np.asarray(kernel), np.asarray(xs[place]), stride, dilation, gs[o]
    )
    sums[place] += to_x
    np.testing.assert_allclose(ys[o], y, atol=1e-12)
    np.testing.assert_allclose(to_kernels[o], to_kernel, atol=1e-12)
  for found, expected in zip(to_xs, sums, strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_kernels_that_do_not_learn_get_zeros(arrays):
  kernels, xs = arrays

  def loss(kernels, xs):
    return sum(jnp.sum(y**2) for y in shifted_copies.depthwise(kernels, xs, 0.0, 1, (1, 1)))

  to_kernels, to_xs = jax.grad(loss, (0, 1))(kernels, xs)
  assert not any(np.any(found) for found in to_kernels)
  assert all(np.any(found) for found in to_xs)


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='the form of CPUs')
def test_xla_keeps_convolution_and_gradients_as_calls():
  kernel, x = jnp.ones((C, 3, 3)), jnp.ones((C, H, W, B))

  def loss(kernel, x):
    (y,) = shifted_copies.depthwise((kernel,), (jax.nn.relu(x),), 1.0, 1, (1,))
    return jnp.sum(jax.nn.relu(y))

  text = jax.jit(jax.grad(loss, (0, 1))).lower(kernel, x).compile().as_text()
  assert text.count(' call(') == 2, 'XLA has fused them with their neighbours'
