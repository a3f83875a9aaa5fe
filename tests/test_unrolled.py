"""Second-order rules against closed forms, automatic differentiation and each other."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
  POOL_SPACE,
  pool_search,
  pool_supernet,
  quadratic,
  random_batch,
  random_state,
  tiny_supernet,
)
from small_networks import first_variables

from stretchnas_jax.cells import graph, space, topology
from stretchnas_jax.data.batches.examples import Batch, Examples
from stretchnas_jax.learning import bilevel, optimizers, second_order
from stretchnas_jax.learning.state import Arch, Context
from stretchnas_jax.machine import parallel

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


# ---- a search network ----------------------------------------------------------------------------


TABLE = topology.output_subsets(POOL_SPACE.graph)


def task_loss(net, batch_stats, params, arch, examples):
  """(loss, batch statistics)"""
  logits, updated = net.apply(
    {'params': params, 'batch_stats': batch_stats}, examples.images,
    {c: jax.nn.softmax(arch.alpha[c]) for c in arch.alpha},
    {c: topology.edge_scores(arch.beta[c], TABLE) for c in arch.beta},
    train=True, mutable=['batch_stats'],
  )  # fmt: skip
  labels = jax.nn.one_hot(examples.labels, 3, dtype=logits.dtype)
  return -(labels * jax.nn.log_softmax(logits)).sum(-1).mean(), updated['batch_stats']


RATES = {'learning_rate': 0.1, 'clip_norm': 0.5}


def make(rule, **options):
  """Returns a search whose architecture moves by plain gradients, with DARTS' virtual step."""
  return pool_search(
    rule,
    weights_tx=optimizers.weights_tx(100, **RATES),
    virtual_tx=optimizers.weights_tx(100, **RATES | {'clip_norm': None}),
    **options,
  )


def relative(a, b):
  return float(optax.tree.norm(optax.tree.sub(a, b)) / optax.tree.norm(b))


def rules_on_the_network(key, form, dtype):
  """Returns two functions of a compiled search network, and a direction of alpha and beta.

  `gradients(step_size)` are those of the first-order, the exact and the differenced rule;
  `after_step(t)` is the validation loss after the step, with alpha and beta t further along `way`.
  """
  net = tiny_supernet(form).clone(dtype=dtype)
  batch = random_batch(key, shared=True, dtype=dtype)
  variables = first_variables(net, batch.train.images, dtype=dtype)
  params, batch_stats = variables['params'], variables['batch_stats']
  arch = jax.tree.map(lambda x: x.astype(dtype), random_state(make(bilevel.first_order())).arch)
  loss = lambda *args, draw=1: task_loss(net, batch_stats, *args[:3])[0]
  # Clipped here, so that the derivative of the clipping counts too.
  tx = optimizers.weights_tx(100, learning_rate=0.1, clip_norm=0.5)
  step = functools.partial(second_order.virtual_step, tx, tx.init(params), None)
  rng = np.random.default_rng(0)
  way = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(dtype), arch)

  @jax.jit
  def gradients(step_size):
    args = loss, params, arch, batch, Context({}, step)
    exact, darts = bilevel.exact_second_order(), bilevel.second_order(step_size)
    return bilevel.first_order()(*args), exact(*args), darts(*args)

  @jax.jit
  def after_step(t):
    moved = jax.tree.map(lambda x, d: x + t * d, arch, way)
    ahead = step(params, jax.grad(loss)(params, moved, batch.train))
    return loss(ahead, moved, batch.val_alpha)

  return gradients, after_step, way


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_search_network_in_double_precision(key, form):
  """Both rules are the derivative of the validation loss after the step."""
  with jax.enable_x64(True):
    gradients, after_step, way = rules_on_the_network(key, form, jnp.float64)
    first, exact, near = gradients(1e-5)
    _, _, wide = gradients(1e-2)
    slope = float((after_step(1e-6) - after_step(-1e-6)) / 2e-6)
    np.testing.assert_allclose(float(optax.tree.vdot(exact, way)), slope, rtol=1e-6)
    # On so short a way no ReLU and no maximum changes sides; on DARTS' some do.
    assert relative(near, exact) < 1e-9
    assert relative(wide, exact) < relative(first, exact)


def test_search_network_in_single_precision(key):
  """Rounding leaves an error of about eps / step_size: 1e-3 here, where the step is 1e-4."""
  gradients, _, _ = rules_on_the_network(key, 'merged', jnp.float32)
  first, exact, near = gradients(1e-4)
  assert relative(near, exact) < 5e-3
  assert relative(first, exact) > 5e-2


def darts_step(state, batch):
  """Returns the move of alpha and beta by DARTS' formulas, with the optimizer's own state."""
  value = lambda *args: task_loss(pool_supernet(), state.batch_stats, *args)[0]
  both = jax.jit(jax.grad(value, (0, 1)))
  (_, _, (trace, schedule)) = state.weights_opt
  rate = 0.001 + (0.1 - 0.001) * (1 + np.cos(np.pi * int(schedule.count) / 100)) / 2
  gradients = both(state.params, state.arch, batch.train)[0]
  ahead = jax.tree.map(
    lambda p, m, g: p - rate * (0.9 * m + g + 3e-4 * p), state.params, trace.trace, gradients
  )

  def gradient(examples):
    v, direct = both(ahead, state.arch, examples)
    radius = 0.01 / optax.tree.norm(v)
    beside = lambda sign: jax.tree.map(lambda p, v: p + sign * radius * v, state.params, v)
    plus, minus = (both(beside(sign), state.arch, batch.train)[1] for sign in (1, -1))
    return jax.tree.map(lambda d, p, m: d - rate * (p - m) / (2 * radius), direct, plus, minus)

  val_beta = batch.val_alpha if batch.val_beta is None else batch.val_beta
  moved = Arch(gradient(batch.val_alpha).alpha, gradient(val_beta).beta)
  return jax.tree.map(jnp.subtract, state.arch, moved)


def test_step_is_that_of_darts(key):
  search = make(bilevel.second_order())
  step = jax.jit(search.step)
  state, _ = step(random_state(search), random_batch(key), key)  # fills the momentum
  batch = random_batch(jax.random.key(1))
  after, metrics = step(state, batch, key)
  chex.assert_trees_all_close(after.arch, darts_step(state, batch), atol=1e-4)
  # The weights and the running averages are those of the step itself; nothing else is kept.
  (value, stats), gradients = jax.jit(
    jax.value_and_grad(
      functools.partial(task_loss, pool_supernet(), state.batch_stats), has_aux=True
    )
  )(state.params, after.arch, batch.train)
  tx = optimizers.weights_tx(100, learning_rate=0.1, clip_norm=0.5)
  updates, opt = tx.update(gradients, state.weights_opt, state.params)
  chex.assert_trees_all_close(after.params, optax.apply_updates(state.params, updates), atol=1e-5)
  chex.assert_trees_all_close(after.weights_opt, opt, atol=1e-5)
  chex.assert_trees_all_close(after.batch_stats, stats, atol=1e-5)
  np.testing.assert_allclose(metrics['train_loss'], value, rtol=1e-5)


SKIPS = space.SearchSpace(graph.CellGraph(1), ('none', 'skip_connect'))


def two_steps(key, name, backend, devices):
  search = make(RULES[name], of=SKIPS)
  step = parallel.data_parallel(search.step, backend=backend, devices=devices)
  state = parallel.replicate(random_state(search), backend, devices)
  for i in range(2):
    state, metrics = step(state, random_batch(jax.random.key(i)), key)
  return jax.device_get((state, metrics))


@pytest.mark.parametrize(
  'name, backends', [('second_order', ('pmap', 'shard_map')), ('exact', ('shard_map',))]
)
def test_one_and_four_devices_agree(key, name, backends):
  one = two_steps(key, name, 'single', jax.devices()[:1])
  for backend in backends:
    four = two_steps(key, name, backend, jax.devices())
    chex.assert_trees_all_close(four, one, atol=2e-4, rtol=2e-3)


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
