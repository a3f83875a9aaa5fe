"""Sums over images and pixels: values, derivatives and several batches against plain sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax.networks.forms.pixel_sums import spread, sum_pixels


def maps(rng, *shapes):
  return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


def plain_sums(*given):
  """Sums by loops over images and pixels."""
  found = []
  for x in given:
    total = 0
    for image in range(x.shape[0]):
      for row in range(x.shape[1]):
        for column in range(x.shape[2]):
          total = total + x[image, row, column]
    found.append(total)
  return found


def plain_maps(values, shape):
  return [jnp.ones((*shape[:3], *([1] * value.ndim))) * value for value in values]


def of_sums(sums):
  """A number that depends on the sums of three maps of two shapes, and on a map twice."""
  return lambda x, y: sum((weight * s**3).sum() for weight, s in enumerate(sums(x, y, x * x), 1))


@pytest.fixture(autouse=True)
def double():
  with jax.enable_x64(True):
    yield


def test_sums_and_their_gradients_are_those_of_loops():
  x, y = maps(np.random.default_rng(0), (3, 2, 4, 2), (3, 1, 1, 2, 3))
  ours, plain = of_sums(lambda *given: sum_pixels(given)), of_sums(plain_sums)
  for found, expected in zip(sum_pixels([x, y]), plain_sums(x, y), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-12)
  gradients = [jax.grad(f, (0, 1))(x, y) for f in (ours, plain)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), *gradients)


@pytest.mark.parametrize('mapped', [(0, 0), (1, None), (None, 3)])
def test_several_batches_have_sums_of_their_own(mapped):
  x, y = maps(np.random.default_rng(1), (3, 2, 4, 2), (3, 1, 1, 2))
  x, y = (
    given if axis is None else jnp.stack([given, 2 * given], axis)
    for given, axis in zip((x, y), mapped)
  )
  found, expected = (
    jax.jit(jax.vmap(jax.value_and_grad(of_sums(f), (0, 1)), mapped))(x, y)
    for f in (lambda *given: sum_pixels(given), plain_sums)
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, expected)


def test_values_are_spread_and_their_gradients_are_sums():
  rng = np.random.default_rng(2)
  (weights,), shape = maps(rng, (2, 3, 2, 4)), (2, 3, 2, 4)
  values = maps(rng, (4,), (4,))

  def total(f):
    return lambda values: sum(((x * weights) ** 2 * n).sum() for n, x in enumerate(f(values), 1))

  ours, plain = total(lambda v: spread(v, shape)), total(lambda v: plain_maps(v, shape))
  for derivative in (lambda f: f, jax.grad, jax.hessian):
    pair = [derivative(f)(values) for f in (ours, plain)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), *pair)
  several = [jnp.stack([value, -3 * value]) for value in values]
  pair = [jax.vmap(jax.grad(f))(several) for f in (ours, plain)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), *pair)


def test_operands_without_a_gradient_are_left_out():
  x, y = maps(np.random.default_rng(3), (3, 2, 4, 2), (3, 1, 1, 2))
  ours, plain = of_sums(lambda *given: sum_pixels(given)), of_sums(plain_sums)
  pair = [jax.grad(lambda y, f=f: f(x, y))(y) for f in (ours, plain)]
  np.testing.assert_allclose(*pair, rtol=1e-12)
  value, other = maps(np.random.default_rng(4), (2,), (2,))
  product = lambda f: lambda v: (f([v, other])[0] * x * f([v, other])[1]).sum()
  pair = [
    jax.grad(product(f))(value)
    for f in (lambda v: spread(v, x.shape), lambda v: plain_maps(v, x.shape))
  ]
  np.testing.assert_allclose(*pair, rtol=1e-12)


def test_pixels_of_an_image_are_summed_before_the_images():
  """Else XLA leaves most of a GPU idle; the gradient of a spread is such a sum as well."""
  x = jnp.ones((8, 4, 4, 3))
  forward = str(jax.make_jaxpr(lambda x: sum_pixels([x, x]))(x))
  backward = jax.make_jaxpr(jax.grad(lambda v: (spread([v], x.shape)[0] ** 2).sum()))(x[0, 0, 0])
  assert forward.count('sum_pixels') == 1
  assert str(backward).count('sum_pixels') == 1
  text = jax.jit(lambda x: sum_pixels([x, x])).lower(x).as_text()
  assert text.count('dimensions = [1, 2]') == 2 and text.count('dimensions = [0]') == 1
