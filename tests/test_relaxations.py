"""The relaxations of methods, against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax.cells import graph, relaxation, relaxations, space

SHAPE = (5, 4)


def logits(shape=SHAPE, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def probs_of(values):
  values = np.asarray(values, np.float64)
  shifted = np.exp(values - values.max(-1, keepdims=True))
  return shifted / shifted.sum(-1, keepdims=True)


def gumbel_of(key, shape):
  return np.asarray(jax.random.gumbel(key, shape, jnp.float32), np.float64)


def test_sigmoid_gates_begin_half_open_and_do_not_compete(key):
  gates, own = relaxations.sigmoid(), space.darts_space(2)
  alpha = gates.init(key, own)
  np.testing.assert_array_equal(alpha, np.zeros((5, 7)))
  np.testing.assert_array_equal(gates.weights(alpha, key, {}), np.full((5, 7), 0.5))
  alpha = logits() * 20
  expected = 1 / (1 + np.exp(-alpha.astype(np.float64)))
  np.testing.assert_allclose(gates.mean(alpha, {}), expected, rtol=1e-4, atol=1e-30)
  np.testing.assert_allclose(gates.strength(alpha, {}), expected, rtol=1e-12)


def test_initial_logits_have_the_mean_and_the_deviation_that_they_are_told(key):
  own = space.darts_space(6)
  found = relaxation.normal_init(0.01, 1.0)(key, own)
  assert abs(float(found.mean()) - 1) < 0.005 and 0.005 < float(found.std()) < 0.02
  np.testing.assert_array_equal(relaxation.normal_init(0.0)(key, own), np.zeros(found.shape))


def test_gumbel_softmax(key):
  alpha, snas = logits(), relaxations.gumbel(0.7)
  noisy = alpha + gumbel_of(key, SHAPE)
  np.testing.assert_allclose(snas.weights(alpha, key, {}), probs_of(noisy / 0.7), rtol=1e-4)
  # T -> 0 gives the arg-max, and a knob takes the place of the temperature.
  cold = snas.weights(alpha, key, {'temperature': 1e-4})
  np.testing.assert_allclose(cold, np.eye(4)[noisy.argmax(1)], atol=1e-6)
  np.testing.assert_allclose(cold.sum(1), 1, rtol=1e-6)
  np.testing.assert_allclose(snas.mean(alpha, {}), probs_of(alpha), rtol=1e-5)


@pytest.mark.parametrize('name', ['gumbel', 'gdas', 'gates'])
def test_operations_are_drawn_by_their_probabilities(name):
  makers = {
    'gumbel': functools.partial(relaxations.gumbel, 1e-3),
    'gdas': functools.partial(relaxations.gdas, 5.0),
    'gates': functools.partial(relaxations.straight_through, noise=False),
  }
  alpha, draws = logits((1, 4)), 100_000
  keys = jax.random.split(jax.random.key(3), draws)
  found = jax.jit(jax.vmap(lambda key: makers[name]().weights(alpha, key, {})[0]))(keys)
  np.testing.assert_allclose(found.mean(0), probs_of(alpha)[0], atol=6e-3)


def gradient_of(relaxed, alpha, key, outputs, knobs):
  """d loss / d alpha, where the loss is a square of the sum of weighted outputs of each edge."""

  def loss(alpha):
    mixed = (relaxed.weights(alpha, key, knobs) * outputs).sum(1)
    return (mixed**2).sum() / 2

  return np.asarray(jax.grad(loss)(alpha), np.float64)


@pytest.mark.parametrize('temperature', [0.5, 3.0])
@pytest.mark.parametrize('kind', ['gdas', 'noisy', 'gates'])
def test_gradients_of_hard_weights_have_their_closed_form(key, kind, temperature):
  alpha, outputs, knobs = logits(), logits(seed=1), {'temperature': temperature}
  noise = 0 if kind == 'gates' else gumbel_of(key, SHAPE)
  probs = probs_of((alpha + noise) / temperature)
  relaxed = {
    'gdas': relaxations.gdas(),
    'noisy': relaxations.straight_through(),
    'gates': relaxations.straight_through(noise=False),
  }[kind]
  hard = np.asarray(relaxed.weights(alpha, key, knobs))
  assert ((hard == 0) | (hard == 1)).all() and (hard.sum(1) == 1).all()
  if kind != 'gates':
    np.testing.assert_array_equal(hard.argmax(1), (alpha + noise).argmax(1))
  to_weights = (hard * outputs).sum(1, keepdims=True) * outputs  # G
  used = to_weights * hard if kind == 'gdas' else to_weights
  # sum_k G_k p_k (1[k = j] - p_j) / T; GDAS has the sampled k alone.
  expected = (used * probs - probs * (used * probs).sum(1, keepdims=True)) / temperature
  found = gradient_of(relaxed, alpha, key, outputs, knobs)
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gdas_and_straight_through_agree_in_values_and_differ_in_gradients(key):
  alpha, outputs = logits(), logits(seed=1)
  gdas, through = relaxations.gdas(), relaxations.straight_through()
  np.testing.assert_array_equal(gdas.weights(alpha, key, {}), through.weights(alpha, key, {}))
  first, second = (gradient_of(one, alpha, key, outputs, {}) for one in (gdas, through))
  assert abs(first - second).max() > 0.01
  assert gdas.sparse and not through.sparse


def test_dirichlet_of_the_allowed_operations_has_its_mean_and_variance():
  alpha = jnp.asarray([[0.5, -1.0, 0.2, 1.5]], jnp.float32)
  allowed = np.array([[True, True, False, True]])
  own = relaxation.restricted(relaxations.dirichlet(), allowed)
  kept = np.asarray(relaxations.concentration(alpha))[allowed].astype(np.float64)
  np.testing.assert_allclose(kept, [1.5, np.exp(-1.0), 2.5], rtol=1e-5)
  keys = jax.random.split(jax.random.key(0), 8_000)
  draws = np.asarray(jax.jit(jax.vmap(lambda key: own.weights(alpha, key, {})[0]))(keys))
  assert (draws[:, 2] == 0).all()
  mean = kept / kept.sum()
  np.testing.assert_allclose(draws[:, allowed[0]].mean(0), mean, atol=0.015)
  variance = mean * (1 - mean) / (kept.sum() + 1)
  np.testing.assert_allclose(draws[:, allowed[0]].var(0), variance, atol=6e-3)
  np.testing.assert_allclose(own.mean(alpha, {})[allowed], mean, rtol=1e-5)

  @jax.jit
  def total(alpha):
    return jax.vmap(lambda key: own.weights(alpha, key, {})[0, 0])(keys).mean()

  # E[w_0] = c_0 / s, so dE/dc_0 = (s - c_0) / s^2; elu has the slope 1 above 0.
  gradient = jax.grad(total)(alpha)[0]
  expected = (kept.sum() - kept[0]) / kept.sum() ** 2
  assert abs(float(gradient[0]) - expected) < 0.015 and float(gradient[2]) == 0


def test_groups_have_a_softmax_each_and_balance_chooses_between_them(key):
  members, own = [[0, 1], [2, 3]], space.SearchSpace(graph.CellGraph(2), tuple('abcd'))
  free = relaxations.groups(members, 2.0)
  alpha = free.init(key, own)
  assert {name: x.shape for name, x in alpha.items()} == {
    'operations': (5, 4), 'balance': (5, 2),
  }  # fmt: skip
  alpha = {'operations': logits(), 'balance': logits((5, 2), 1) * 1e-3}
  found = free.mean(alpha, {})
  np.testing.assert_allclose(found[:, :2], probs_of(alpha['operations'][:, :2] / 2), rtol=1e-5)
  np.testing.assert_allclose(found.sum(1), 2, rtol=1e-6)
  chosen = relaxations.groups(members, balance=True)
  winners = np.zeros(SHAPE, bool)
  for group in members:
    winners[np.arange(5), np.array(group)[alpha['operations'][:, group].argmax(1)]] = True
  phase = relaxation.restricted(chosen, winners)
  temperature = 0.7
  found = phase.weights(alpha, key, {'temperature': temperature})
  difference = alpha['balance'][:, 0].astype(np.float64) - alpha['balance'][:, 1]
  share = 1 / (1 + np.exp(-1000 * difference / temperature))
  np.testing.assert_allclose((found * winners)[:, :2].sum(1), share, rtol=2e-4)
  assert (np.asarray(found)[~winners] == 0).all()
  np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
  # The larger balance decodes, also at a temperature where the other share is 0.
  strength = phase.strength(alpha, {'temperature': 1e-6})
  assert ((strength[:, :2].max(1) > strength[:, 2:].max(1)) == (difference > 0)).all()
