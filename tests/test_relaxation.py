"""Relaxation of the choice of an operation, against plain loops in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax.cells import graph, relaxation, space


def softmax_by_hand(row):
  top = max(row)
  parts = [math.exp(value - top) for value in row]
  return [part / sum(parts) for part in parts]


def logits(size, seed=0):
  return (np.random.default_rng(seed).normal(size=(5, 7)) * size).astype(np.float32)


@pytest.mark.parametrize('temperature', [0.5, 1.0, 10.0])
@pytest.mark.parametrize('size', [1e-3, 1.0, 50.0])
def test_softmax(key, size, temperature):
  alpha = logits(size)
  softmax = relaxation.softmax(temperature)
  weights = jax.jit(softmax.mean)(alpha, {})
  expected = [softmax_by_hand([value / temperature for value in row]) for row in alpha.tolist()]
  np.testing.assert_allclose(weights, expected, rtol=2e-4, atol=1e-7)
  np.testing.assert_array_equal(jax.jit(softmax.weights)(alpha, key, {}), weights)


def test_a_knob_takes_the_place_of_the_temperature():
  alpha, knobs = logits(1.0), {'temperature': jnp.float32(0.5), 'step': jnp.int32(3)}
  np.testing.assert_array_equal(
    relaxation.softmax(10.0).mean(alpha, knobs), relaxation.softmax(0.5).mean(alpha, {})
  )


def test_softmax_starts_near_zero(key):
  own = space.darts_space(2)
  alpha = relaxation.softmax().init(key, own)
  assert alpha.shape == (5, 7)
  np.testing.assert_array_equal(alpha, 1e-3 * jax.random.normal(key, (5, 7)))


@pytest.mark.parametrize('size', [1e-3, 1.0, 50.0])
def test_strength_of_softmax_is_exact_and_ignores_the_temperature(size):
  alpha = logits(size)
  found = relaxation.softmax(0.1).strength(alpha, {'temperature': 0.01})
  assert found.dtype == np.float64
  expected = [softmax_by_hand(row) for row in alpha.tolist()]
  np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize('size', [1e-3, 1.0, 50.0])
def test_entropy(size):
  alpha = logits(size, seed=1)
  entropies = [
    -sum(p * math.log(p) for p in softmax_by_hand(row) if p > 0) for row in alpha.tolist()
  ]
  expected = sum(entropies) / len(entropies)
  weights = jax.nn.softmax(alpha)
  np.testing.assert_allclose(relaxation.entropy(weights), expected, rtol=1e-4, atol=1e-6)
  # Version 0.1 took it from the logits.
  log_probs = jax.nn.log_softmax(alpha)
  before = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
  np.testing.assert_allclose(relaxation.entropy(weights), before, rtol=1e-5, atol=1e-7)


def test_entropy_between_its_ends():
  np.testing.assert_allclose(relaxation.entropy(jnp.full((3, 7), 1 / 7)), math.log(7), rtol=1e-6)
  decided = jnp.where(jnp.arange(7)[None] == 2, 50.0, -50.0) + jnp.zeros((3, 7))
  assert 0 <= float(relaxation.entropy(jax.nn.softmax(decided))) < 1e-6
  gradient = jax.grad(lambda alpha: relaxation.entropy(jax.nn.softmax(alpha)))(decided)
  assert np.isfinite(gradient).all()


def test_entropy_normalises_weights_that_do_not_sum_to_one():
  weights = jnp.array([[0.9, 0.9, 0.9], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
  np.testing.assert_allclose(relaxation.entropy(weights), math.log(3) / 3, rtol=1e-6)


@pytest.mark.parametrize(
  'name, value, words',
  [
    ('weights', jnp.ones((14, 3)), r'relaxation.weights returns \[14, 3\]; it must be \[14, 7\]'),
    ('mean', jnp.ones(14), r'relaxation.mean returns \[14\]; it must be \[14, 7\]'),
    ('strength', None, r'relaxation.strength returns a NoneType; it must be \[14, 7\]'),
  ],
)
def test_results_of_another_shape_are_named(key, name, value, words):
  wrong = relaxation.softmax()._replace(**{name: lambda *args: value})
  checked = relaxation.checked(wrong, space.darts_space(4))
  alpha = jnp.zeros((14, 7))
  args = {'weights': (alpha, key, {}), 'mean': (alpha, {}), 'strength': (alpha, {})}[name]
  with pytest.raises(ValueError, match=words):
    getattr(checked, name)(*args)


def test_checked_changes_nothing_else(key):
  own, softmax = space.SearchSpace(graph.CellGraph(2), ('a', 'b')), relaxation.softmax()
  checked, alpha = relaxation.checked(softmax, own), jnp.ones((5, 2))
  assert checked.init is softmax.init
  np.testing.assert_array_equal(checked.weights(alpha, key, {}), softmax.mean(alpha, {}))
