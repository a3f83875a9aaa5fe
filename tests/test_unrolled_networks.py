"""Second-order rules on search networks: derivatives, DARTS' step, one and four devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
  SKIP_SPACE,
  pool_search,
  pool_supernet,
  random_batch,
  random_state,
  tiny_supernet,
)
from small_networks import first_variables

from stretchnas_jax.cells import graph, space, topology
from stretchnas_jax.learning import bilevel, optimizers, second_order
from stretchnas_jax.learning.state import Arch, Context
from stretchnas_jax.machine import parallel

RULES = {'second_order': bilevel.second_order(), 'exact': bilevel.exact_second_order()}

TABLE = topology.output_subsets(SKIP_SPACE.graph)


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
    **({'of': SKIP_SPACE} | options),
  )


def flat(tree):
  """Returns all numbers of a tree; by NumPy, so that no comparison compiles."""
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def relative(a, b):
  return np.linalg.norm(flat(a) - flat(b)) / np.linalg.norm(flat(b))


def rules_on_the_network(key, form, dtype, rate=0.1):
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
  tx = optimizers.weights_tx(100, learning_rate=rate, clip_norm=0.5)
  step = functools.partial(second_order.virtual_step, tx, tx.init(params), None)
  rng = np.random.default_rng(0)
  way = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(dtype), arch)

  @jax.jit
  def gradients(step_size):
    args = loss, params, arch, batch, Context({}, step)
    rules = bilevel.exact_second_order(), bilevel.second_order(step_size)

    # Both rules are one function of their derivatives. What they share is compiled once.
    def both(*given):
      found = [rule.gradients.derivative(*given) for rule in rules]
      return jax.tree.map(lambda *x: jnp.stack(x), *found)

    found = second_order.LookAhead(both)(*args)
    exact, darts = (jax.tree.map(lambda x, i=i: x[i], found) for i in (0, 1))
    return bilevel.first_order()(*args), exact, darts

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
    np.testing.assert_allclose(flat(exact) @ flat(way), slope, rtol=1e-6)
    # On so short a way no ReLU and no maximum changes sides; on DARTS' some do.
    assert relative(near, exact) < 1e-9
    assert relative(wide, exact) < relative(first, exact)


def test_search_network_in_single_precision(key):
  """Rounding leaves an error of about eps / step_size: 1e-3 here, where the step is 1e-4."""
  gradients, _, _ = rules_on_the_network(key, 'merged', jnp.float32, rate=0.15)
  first, exact, near = gradients(1e-4)
  assert relative(near, exact) < 5e-3
  assert relative(first, exact) > 5e-2


def darts_step(state, batch):
  """Returns the move of alpha and beta by DARTS' formulas, with the optimizer's own state."""
  value = lambda *args: task_loss(pool_supernet(SKIP_SPACE), state.batch_stats, *args)[0]
  both = jax.jit(jax.grad(value, (0, 1)))
  (_, _, (trace, schedule)) = state.weights_opt
  rate = 0.001 + (0.1 - 0.001) * (1 + np.cos(np.pi * int(schedule.count) / 100)) / 2
  gradients = both(state.params, state.arch, batch.train)[0]
  ahead = jax.tree.map(
    lambda p, m, g: p - rate * (0.9 * m + g + 3e-4 * p), state.params, trace.trace, gradients
  )

  def gradient(examples):
    v, direct = both(ahead, state.arch, examples)
    radius = 0.01 / np.linalg.norm(flat(v))
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
      functools.partial(task_loss, pool_supernet(SKIP_SPACE), state.batch_stats), has_aux=True
    )
  )(state.params, after.arch, batch.train)
  tx = optimizers.weights_tx(100, learning_rate=0.1, clip_norm=0.5)
  updates, opt = tx.update(gradients, state.weights_opt, state.params)
  chex.assert_trees_all_close(after.params, optax.apply_updates(state.params, updates), atol=1e-5)
  chex.assert_trees_all_close(after.weights_opt, opt, atol=1e-5)
  # The second step divides the move of the averages by 1 - 0.9^2.
  stats = jax.tree.map(lambda x, y: x + (y - x) / (1 - 0.9**2), state.batch_stats, stats)
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
  'name, backends',
  [
    ('second_order', ('shard_map',)),
    ('second_order', ('pmap',)),
    ('exact', ('shard_map',)),
  ],
)
def test_one_and_four_devices_agree(key, name, backends):
  one = two_steps(key, name, 'single', jax.devices()[:1])
  for backend in backends:
    four = two_steps(key, name, backend, jax.devices())
    chex.assert_trees_all_close(four, one, atol=2e-4, rtol=2e-3)
