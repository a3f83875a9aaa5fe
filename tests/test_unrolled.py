"""Second-order rules against closed forms, automatic differentiation and each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import quadratic

from stretchnas_jax.data.batches.examples import Batch, Examples
from stretchnas_jax.learning import bilevel, optimizers, second_order
from stretchnas_jax.learning.state import Arch, Context

RULES = {'second_order': bilevel.second_order(), 'exact': bilevel.exact_second_order()}

# ---- a quadratic problem, solved by hand ---------------------------------------------------------

RATE, FINAL, MOMENTUM, DECAY, STEPS = 0.2, 0.02, 0.9, 0.03, 10


def residuals(weights, arch, examples):
  (a, b), y = examples.images, examples.labels
  return a @ weights + arch.alpha['normal'] - y, arch.beta['normal'] - b @ weights


def to_weights(weights, arch, examples):
  (a, b), (up, down) = examples.images, residuals(weights, arch, examples)
  return a.T @ up - b.T @ down


def darts_gradient(weights, buffer, rate, arch, train, val):
  """Eq. 7 of Liu et al. 2018, with the second derivatives A and -B of the quadratic."""
  ahead = weights - rate * (MOMENTUM * buffer + to_weights(weights, arch, train) + DECAY * weights)
  (a, b), v = train.images, to_weights(ahead, arch, val)
  for_alpha, for_beta = residuals(ahead, arch, val)
  return for_alpha - rate * (a @ v), for_beta + rate * (b @ v)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('shared', [False, True], ids=['three_way', 'two_way'])
@pytest.mark.parametrize('name', RULES)
def test_closed_form(name, shared, seed):
  rng = np.random.default_rng(seed)
  examples = lambda: Examples(
    (rng.normal(size=(3, 4)), rng.normal(size=(2, 4))), rng.normal(size=3)
  )
  batch = Batch(examples(), examples(), None if shared else examples())
  arch = Arch({'normal': rng.normal(size=3)}, {'normal': rng.normal(size=2)})
  before, earlier, weights = rng.normal(size=(3, 4))
  tx = optimizers.weights_tx(STEPS, learning_rate=RATE, final_learning_rate=FINAL,
                             momentum=MOMENTUM, weight_decay=DECAY, clip_norm=None)  # fmt: skip
  with jax.enable_x64(True):
    _, opt = tx.update(earlier, tx.init(before), before)
    step = functools.partial(second_order.virtual_step, tx, opt, None)
    found = RULES[name](quadratic, weights, arch, batch, Context({}, step))
  buffer = earlier + DECAY * before
  rate = FINAL + (RATE - FINAL) * (1 + np.cos(np.pi / STEPS)) / 2  # of the second step
  expected = functools.partial(darts_gradient, weights, buffer, rate, arch, batch.train)
  for_alpha = expected(batch.val_alpha)[0]
  for_beta = expected(batch.val_alpha if shared else batch.val_beta)[1]
  # The gradients are linear in the weights: a central difference makes rounding errors alone.
  np.testing.assert_allclose(found.alpha['normal'], for_alpha, rtol=1e-9)
  np.testing.assert_allclose(found.beta['normal'], for_beta, rtol=1e-9)


def test_a_zero_gradient_of_the_weights_divides_nothing_by_zero():
  loss = lambda weights, arch, examples, draw: (arch.alpha['normal'] ** 2).sum()
  arch = Arch({'normal': jnp.ones(2)}, {'normal': jnp.ones(1)})
  unused = Examples(jnp.zeros(1), jnp.zeros(1))
  batch = Batch(unused, unused, None)
  step = lambda params, gradients: params - 0.1 * gradients
  found = bilevel.second_order()(loss, jnp.ones(3), arch, batch, Context({}, step))
  np.testing.assert_array_equal(found.alpha['normal'], [2.0, 2.0])
  np.testing.assert_array_equal(found.beta['normal'], [0.0])


# ---- the error of the central difference ---------------------------------------------------------


def smooth(weights, arch, examples, draw=1):
  """A mixture of smooth layers: every derivative exists."""
  mix = jax.nn.softmax(arch.alpha['normal'])
  h = examples.images @ weights['in']
  h = mix[0] * jnp.tanh(h) + mix[1] * jax.nn.softplus(h) + mix[2] * h * arch.beta['normal'][0]
  return optax.softmax_cross_entropy_with_integer_labels(h @ weights['out'], examples.labels).mean()


@jax.jit
def gradients_and_path(step_size, weights, arch, batch):
  """(the gradients by differences and exact ones, third derivatives along u, |u|)"""
  step = lambda params, g: jax.tree.map(lambda p, g: p - 0.5 * g, params, g)
  args = smooth, weights, arch, batch, Context({}, step)
  exact, found = bilevel.exact_second_order()(*args), bilevel.second_order(step_size)(*args)
  ahead = step(weights, jax.grad(smooth)(weights, arch, batch.train))
  v = jax.grad(smooth)(ahead, arch, batch.val_alpha)
  norm = optax.tree.norm(v)
  along = lambda t: jax.tree.map(lambda p, v: p + t * v / norm, weights, v)
  curve = lambda t: jax.grad(smooth, 1)(along(t), arch, batch.train)
  derivative = lambda f: lambda t: jax.jvp(f, (t,), (1.0,))[1]
  third = jax.vmap(derivative(derivative(derivative(curve))))
  return found, exact, third(jnp.linspace(-1, 1, 21) * step_size), norm


@pytest.mark.parametrize('step_size', [0.1, 0.01])
def test_error_is_at_most_a_sixth_of_the_third_derivative(step_size):
  """|error| <= |u| h^2 / 6 max |g'''|, u the direction, g the gradient along it; and it is near."""
  rng = np.random.default_rng(0)
  examples = lambda: Examples(rng.normal(size=(16, 5)), rng.integers(0, 3, 16))
  batch = Batch(examples(), examples(), None)
  weights = {'in': rng.normal(size=(5, 6)), 'out': rng.normal(size=(6, 3))}
  arch = Arch({'normal': rng.normal(size=3)}, {'normal': rng.normal(size=1)})
  with jax.enable_x64(True):
    found, exact, path, norm = jax.device_get(gradients_and_path(step_size, weights, arch, batch))
  for ours, true, g in zip(*map(jax.tree.leaves, (found, exact, path)), strict=True):
    bound = 0.5 * norm * step_size**2 / 6 * abs(g).max(0)
    assert (abs(ours - true) <= 1.02 * bound + 1e-13).all()
    assert (abs(ours - true) >= 0.3 * bound).all()


# ---- rules of users ------------------------------------------------------------------------------


def test_a_users_rule_may_look_ahead():
  """Here one that descends the training loss of the next weights."""

  def gradients(loss_fn, params, arch, batch, context):
    to_weights = jax.grad(loss_fn)(params, arch, batch.train)
    return jax.grad(loss_fn, 1)(context.virtual_step(params, to_weights), arch, batch.train)

  step = lambda params, gradients: params - 0.1 * gradients
  rng = np.random.default_rng(0)
  examples = Examples((rng.normal(size=(3, 4)), rng.normal(size=(2, 4))), rng.normal(size=3))
  arch = Arch({'normal': rng.normal(size=3)}, {'normal': rng.normal(size=2)})
  weights, batch = rng.normal(size=4), Batch(examples, None, None)
  with jax.enable_x64(True):
    found = bilevel.Rule(gradients)(quadratic, weights, arch, batch, Context({}, step))
  ahead = weights - 0.1 * to_weights(weights, arch, examples)
  np.testing.assert_allclose(found.alpha['normal'], residuals(ahead, arch, examples)[0])


@pytest.mark.parametrize('rule', RULES.values(), ids=RULES)
def test_a_rule_that_looks_ahead_says_what_it_needs(rule):
  batch = Batch(jnp.ones(2), jnp.ones(2), None)
  loss = lambda weights, arch, examples, draw: (weights * arch.alpha['normal'] * examples).sum()
  with pytest.raises(ValueError, match='virtual step'):
    rule(loss, jnp.ones(2), Arch({'normal': jnp.ones(2)}, {}), batch)
