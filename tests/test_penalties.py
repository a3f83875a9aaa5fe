"""The penalties and timetables of methods, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stretchnas_jax.cells import relaxation, relaxations
from stretchnas_jax.learning import penalties, timetable
from stretchnas_jax.learning.state import Arch

SHAPE = (5, 4)


def logits(shape=SHAPE, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def probs_of(values):
  values = np.asarray(values, np.float64)
  shifted = np.exp(values - values.max(-1, keepdims=True))
  return shifted / shifted.sum(-1, keepdims=True)


# ---- penalties -----------------------------------------------------------------------------------


def value_and_gradient(penalty, relaxed, alpha, knobs):
  """The penalty of two cell types with the same logits, and its gradient for one of them."""

  def value(normal):
    arch = Arch({'normal': normal, 'reduce': alpha}, {})
    op_weights = {c: relaxed.mean(arch.alpha[c], knobs) for c in arch.alpha}
    return penalty(arch, op_weights, {}, knobs)

  return jax.value_and_grad(value)(jnp.asarray(alpha))


def test_the_zero_one_loss_drives_gates_apart():
  penalty, gates = penalties.zero_one(10.0), relaxations.sigmoid()
  value, gradient = value_and_gradient(penalty, gates, np.zeros(SHAPE, np.float32), {})
  assert value == 0 and not gradient.any()  # the point from which the loss of the task must lead
  alpha = logits()
  w = 1 / (1 + np.exp(-alpha.astype(np.float64)))
  value, gradient = value_and_gradient(penalty, gates, alpha, {})
  np.testing.assert_allclose(value, -10 * ((w - 0.5) ** 2).mean(), rtol=1e-5)
  np.testing.assert_allclose(
    gradient, -10 * 2 * (w - 0.5) * w * (1 - w) / (2 * w.size), rtol=1e-4, atol=1e-7
  )


def test_beta_decay_pushes_by_the_softmax_over_the_number_of_edges():
  penalty, softmax = penalties.logsumexp(3.0), relaxation.softmax()
  value, _ = value_and_gradient(penalty, softmax, np.zeros(SHAPE, np.float32), {})
  np.testing.assert_allclose(value, 3 * np.log(4), rtol=1e-6)
  alpha, knobs = logits(), {'logsumexp_factor': 0.5}
  _, gradient = value_and_gradient(penalty, softmax, alpha, knobs)
  np.testing.assert_allclose(gradient, 1.5 * probs_of(alpha) / 10, rtol=1e-5)
  np.testing.assert_allclose(gradient.sum() * 2, 1.5, rtol=1e-5)  # both cell types together


def test_the_divergence_from_a_uniform_dirichlet():
  from scipy.special import digamma, gammaln

  penalty, drnas = penalties.kl(1e-3), relaxations.dirichlet()
  value, gradient = value_and_gradient(penalty, drnas, np.zeros(SHAPE, np.float32), {})
  np.testing.assert_allclose(value, 0, atol=1e-7)
  np.testing.assert_allclose(gradient, 0, atol=1e-7)
  alpha = logits()
  c = np.where(alpha > 0, alpha + 1, np.exp(alpha)).astype(np.float64)
  terms = gammaln(c.sum(1)) - gammaln(c).sum(1) - gammaln(4)
  terms += ((c - 1) * (digamma(c) - digamma(c.sum(1))[:, None])).sum(1)
  value, _ = value_and_gradient(penalty, drnas, alpha, {})
  np.testing.assert_allclose(value, 2e-3 * terms.sum(), rtol=1e-4)


@pytest.mark.parametrize(
  'make, relaxed',
  [
    (penalties.logsumexp, relaxation.softmax()),
    (penalties.kl, relaxations.dirichlet()),
    (penalties.zero_one, relaxations.sigmoid()),
  ],
)
def test_operations_that_are_not_allowed_have_no_part_in_a_penalty(make, relaxed):
  allowed, alpha = np.ones(SHAPE, bool), logits()
  allowed[:, 2] = False
  own = relaxation.restricted(relaxed, allowed)
  _, gradient = value_and_gradient(make(1.0), own, alpha, {})
  assert not gradient[:, 2].any() and np.isfinite(gradient).all() and gradient.any()
  if make is not penalties.zero_one:
    _, alone = value_and_gradient(make(1.0), relaxed, alpha[:, [0, 1, 3]], {})
    np.testing.assert_allclose(gradient[:, [0, 1, 3]], alone, rtol=2e-4, atol=1e-6)


# ---- timetables ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
  'kind, first, last, epochs, values',
  [
    ('linear_beyond', 1.0, 0.03, 150, {0: 1.0, 75: 0.515, 149: 0.0364667}),  # SNAS
    ('linear_beyond', 1.0, 0.0, 50, {0: 1.0, 49: 0.02}),  # DARTS-
    ('linear', 10.0, 0.1, 250, {0: 10.0, 125: 10 - 9.9 * 125 / 249, 249: 0.1}),  # GDAS
    ('exponential', 10.0, 0.02, 20, {0: 10.0, 1: 7.2102, 10: 0.3797, 19: 0.02}),  # DOTS
    ('constant', 0.5, 9.0, 10, {0: 0.5, 9: 0.5}),
  ],
)
def test_temperatures_have_the_values_of_the_authors(kind, first, last, epochs, values):
  found = timetable.ANNEALINGS[kind](first, last, epochs)
  for epoch, expected in values.items():
    np.testing.assert_allclose(found(jnp.int32(epoch)), expected, rtol=2e-4)


def test_knobs_change_by_epoch_and_alpha_rests():
  knobs = timetable.knobs({'temperature': timetable.linear(2.0, 1.0, 3)}, 4, 1, 2)
  found = [jax.tree.map(float, knobs(jnp.int32(step))) for step in range(12)]
  assert [one['temperature'] for one in found] == [2.0] * 4 + [1.5] * 4 + [1.0] * 4
  assert [one['moves_arch'] for one in found] == [0] * 4 + [0, 1, 0, 1] * 2
  assert timetable.knobs({}, 4) is None
