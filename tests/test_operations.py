"""Each operation against loops over pixels in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import first_variables, images

from stretchnas_jax.cells import space
from stretchnas_jax.networks import layers
from stretchnas_jax.networks import operations as ops
from stretchnas_jax.networks.forms.layouts import BatchLast, ChannelsLast

CHANNELS = 5


def windows(x, size, stride, dilation=1):
  """(output row, output column, row in window, column in window, pixel `[B, C]`), inside only."""
  height, width = x.shape[1:3]
  rows, columns = -(-height // stride[0]), -(-width // stride[1])
  for i, j, a, b in itertools.product(range(rows), range(columns), range(size[0]), range(size[1])):
    row = i * stride[0] + (a - size[0] // 2) * dilation
    column = j * stride[1] + (b - size[1] // 2) * dilation
    if 0 <= row < height and 0 <= column < width:
      yield i, j, a, b, x[:, row, column]


def zeros(x, stride, channels):
  return np.zeros((len(x), -(-x.shape[1] // stride[0]), -(-x.shape[2] // stride[1]), channels))


def conv(x, kernel, stride=(1, 1), dilation=1):
  y = zeros(x, stride, kernel.shape[3])
  for i, j, a, b, pixel in windows(x, kernel.shape[:2], stride, dilation):
    y[:, i, j] += pixel @ kernel[a, b]
  return y


def depthwise(x, kernel, stride=(1, 1), dilation=1):
  y = zeros(x, stride, x.shape[3])
  for i, j, a, b, pixel in windows(x, kernel.shape[:2], stride, dilation):
    y[:, i, j] += pixel * kernel[a, b, 0]
  return y


def pool(x, name, stride):
  pixels = {}
  for i, j, _, _, pixel in windows(x, (3, 3), stride):
    pixels.setdefault((i, j), []).append(pixel)
  y = zeros(x, stride, x.shape[3])
  for (i, j), inside in pixels.items():
    y[:, i, j] = np.max(inside, 0) if name == 'max_pool_3x3' else np.mean(inside, 0)
  return y


def norm(x, params, stats):
  return (x - stats['mean']) / np.sqrt(stats['var'] + 1e-5) * params['scale'] + params['bias']


def separable(x, params, stats, stride, dilation=1):
  y = depthwise(np.maximum(x, 0), params['depthwise']['kernel'], stride, dilation)
  return norm(conv(y, params['pointwise']['kernel']), params['norm'], stats['norm'])


def factorized(x, params, stats):
  x = np.maximum(x, 0)
  even = conv(x, params['even']['kernel'], (2, 2))
  odd_pixels = x[:, 1::2, 1::2]
  odd = zeros(x, (2, 2), params['odd']['kernel'].shape[3])
  odd[:, : odd_pixels.shape[1], : odd_pixels.shape[2]] = conv(odd_pixels, params['odd']['kernel'])
  return norm(np.concatenate([even, odd], -1), params['norm'], stats['norm'])


def expected(name, x, params, stats, stride):
  strides = (stride, stride)
  if name.endswith('pool_3x3'):
    return pool(x, name, strides)
  if name == 'skip_connect':
    return x if stride == 1 else factorized(x, params, stats)
  if name.startswith('dil_conv'):
    return separable(x, params, stats, strides, 2)
  if name.startswith('sep_conv'):
    x = separable(x, params['first'], stats['first'], strides)
    return separable(x, params['second'], stats['second'], (1, 1))
  y = conv(np.maximum(x, 0), params['row']['kernel'], (1, stride))
  return norm(conv(y, params['column']['kernel'], (stride, 1)), params['norm'], stats['norm'])


def shaken(variables, seed=0):
  """The variables with every leaf moved, so that none is 0 or 1."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda a: np.float32(a + rng.uniform(0.1, 0.5, a.shape)), variables)


def as_float64(tree):
  return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def run(module, x, **kwargs):
  variables = shaken(first_variables(module, x))
  return variables, jax.jit(lambda v, x: module.apply(v, x, **kwargs))(variables, x)


@pytest.mark.parametrize('layout', [ChannelsLast, BatchLast])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('name', ops.OPERATIONS)
def test_operation_equals_loops(name, stride, layout):
  x = jnp.asarray(images(2, 5, 6, CHANNELS))
  variables, y = run(
    ops.OPERATIONS[name](CHANNELS, stride, layers.Style(layout=layout)), layout.enter(x)
  )
  y = layout.leave(y)
  variables = as_float64(variables)
  want = expected(
    name, np.asarray(x, np.float64), variables.get('params'), variables.get('batch_stats'), stride
  )
  assert y.shape == want.shape == (2, -(-5 // stride), -(-6 // stride), CHANNELS)
  np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)


def test_every_operation_of_a_genotype_is_there():
  assert set(ops.OPERATIONS) == set(space.OPERATIONS)


@pytest.mark.parametrize('depthwise, fan_in', [(False, 20 * 25), (True, 25)])
def test_kernels_start_as_in_pytorch(depthwise, fan_in):
  module = layers.Conv(20, (5, 5), depthwise=depthwise)
  kernel = module.init(jax.random.key(3), jnp.asarray(images(1, 5, 5, 20)))['params']['kernel']
  assert kernel.shape == (5, 5, 1 if depthwise else 20, 20)
  bound = fan_in**-0.5
  assert abs(np.max(np.abs(kernel)) / bound - 1) < 0.02
  assert abs(np.std(kernel) / (bound / 3**0.5) - 1) < 0.08
  assert abs(np.mean(kernel)) < 0.1 * bound


@pytest.mark.parametrize('rule, ddof', [('corrected', 1), ('plain', 0)])
def test_batch_norm_in_training(rule, ddof):
  x = images(3, 4, 5, 2) * 3 + 1
  module = layers.BatchNorm(True, layers.Style(batch_norm=rule))
  variables = shaken(first_variables(module, x))
  y, new = module.apply(variables, x, mutable=['batch_stats'])
  mean, var = x.astype(np.float64).mean((0, 1, 2)), x.astype(np.float64).var((0, 1, 2))
  batch = {'mean': mean, 'var': var}
  np.testing.assert_allclose(y, norm(x, variables['params'], batch), rtol=1e-4, atol=1e-4)
  # PyTorch normalises with the variance of the batch, and keeps the one over n - 1.
  kept = {'mean': mean, 'var': x.astype(np.float64).var((0, 1, 2), ddof=ddof)}
  for field, value in kept.items():
    moved = 0.9 * variables['batch_stats'][field] + 0.1 * value
    np.testing.assert_allclose(new['batch_stats'][field], moved, rtol=1e-5)


@pytest.mark.parametrize('layout', [ChannelsLast, BatchLast])
def test_the_gradient_of_batch_norm(layout):
  """Ioffe and Szegedy 2015, in loops over channels."""
  with jax.enable_x64(True):
    x, g = (images(3, 4, 5, 3, seed=seed).astype(np.float64) * 3 + 1 for seed in (0, 1))
    module = layers.BatchNorm(True, layers.Style(jnp.float64, layout=layout))
    maps = layout.enter(jnp.asarray(x))
    variables = shaken(first_variables(module, maps))

    def loss(params, maps):
      y, _ = module.apply(variables | {'params': params}, maps, mutable=['batch_stats'])
      return (layout.leave(y) * g).sum()

    to_params, to_maps = jax.grad(loss, (0, 1))(variables['params'], maps)
    to_x = layout.leave(to_maps)
  for c in range(3):
    of_x, of_g = x[..., c], g[..., c]
    deviation = np.sqrt(of_x.var() + 1e-5)
    normal = (of_x - of_x.mean()) / deviation
    np.testing.assert_allclose(to_params['bias'][c], of_g.sum(), rtol=1e-6)
    np.testing.assert_allclose(to_params['scale'][c], (of_g * normal).sum(), rtol=1e-6)
    rest = of_g - of_g.mean() - normal * (of_g * normal).mean()
    want = np.float64(variables['params']['scale'][c]) / deviation * rest
    np.testing.assert_allclose(to_x[..., c], want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('name', ['sep_conv_3x3', 'avg_pool_3x3', 'conv_7x1_1x7'])
def test_bfloat16_is_of_the_computation_only(name):
  x = images(2, 6, 6, CHANNELS)
  variables, want = run(ops.OPERATIONS[name](CHANNELS, 2, layers.Style()), x)
  module = ops.OPERATIONS[name](CHANNELS, 2, layers.Style(jnp.bfloat16))
  y = jax.jit(module.apply)(variables, x.astype(jnp.bfloat16))
  assert y.dtype == jnp.bfloat16
  assert np.max(np.abs(y.astype(np.float32) - want)) < 0.03 * np.max(np.abs(want))
  fresh = jax.eval_shape(module.init, jax.random.key(0), x.astype(jnp.bfloat16))
  assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} <= {jnp.dtype('float32')}
