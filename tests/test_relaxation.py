"""Relaxation of the choice of an operation, against plain loops in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax.cells import relaxation


def softmax_by_hand(row):
  top = max(row)
  parts = [math.exp(value - top) for value in row]
  return [part / sum(parts) for part in parts]


@pytest.mark.parametrize('temperature', [0.5, 1.0, 10.0])
@pytest.mark.parametrize('size', [1e-3, 1.0, 50.0])
def test_softmax(size, temperature):
  alpha = np.random.default_rng(0).normal(size=(5, 7)) * size
  weights = jax.jit(relaxation.softmax)(alpha.astype(np.float32), None, temperature)
  expected = [softmax_by_hand([value / temperature for value in row]) for row in alpha]
  np.testing.assert_allclose(weights, expected, rtol=2e-4, atol=1e-7)


def test_softmax_ignores_the_key(key):
  alpha = jnp.array([[0.5, -1.0, 2.0]])
  np.testing.assert_array_equal(relaxation.softmax(alpha, key), relaxation.softmax(alpha))


@pytest.mark.parametrize('size', [1e-3, 1.0, 50.0])
def test_entropy(size):
  alpha = np.random.default_rng(1).normal(size=(5, 7)) * size
  entropies = [
    -sum(p * math.log(p) for p in softmax_by_hand(row) if p > 0) for row in alpha.tolist()
  ]
  expected = sum(entropies) / len(entropies)
  np.testing.assert_allclose(
    relaxation.entropy(alpha.astype(np.float32)), expected, rtol=1e-4, atol=1e-6
  )


def test_entropy_between_its_ends():
  np.testing.assert_allclose(relaxation.entropy(jnp.zeros((3, 7))), math.log(7), rtol=1e-6)
  decided = jnp.where(jnp.arange(7)[None] == 2, 50.0, -50.0) + jnp.zeros((3, 7))
  assert 0 <= float(relaxation.entropy(decided)) < 1e-6
  assert np.isfinite(jax.grad(relaxation.entropy)(decided)).all()
