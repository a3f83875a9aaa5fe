import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import SKIP_SPACE, abstract_step, pool_search, pool_supernet, quadratic, random_batch

from stretchnas_jax.cells import topology
from stretchnas_jax.data.batches.examples import Batch, Examples
from stretchnas_jax.learning import bilevel, optimizers
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.machine import parallel

# ---- rules on a quadratic problem ---------------------------------------------------------------


def analytic(weights, arch, examples):
  (a, b), y = (np.asarray(x, np.float64) for x in examples.images), np.asarray(examples.labels)
  return a @ weights + arch.alpha['normal'] - y, arch.beta['normal'] - b @ weights


def quadratic_case(seed, shared):
  rng = np.random.default_rng(seed)
  examples = lambda: Examples(
    (rng.normal(size=(3, 4)), rng.normal(size=(2, 4))), rng.normal(size=3)
  )
  batch = Batch(examples(), examples(), None if shared else examples())
  arch = Arch({'normal': rng.normal(size=3)}, {'normal': rng.normal(size=2)})
  return rng.normal(size=4), arch, batch


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('shared', [False, True], ids=['three_way', 'two_way'])
@pytest.mark.parametrize(
  'rule, train, val',
  [
    (bilevel.first_order(), 0, 1),
    (bilevel.mixed(0.3), 1, 0.3),
    (bilevel.one_level(), 1, 0),
  ],
)
def test_rules_give_the_analytic_gradients(rule, train, val, shared, seed):
  weights, arch, batch = quadratic_case(seed, shared)
  with jax.enable_x64(True):
    found = rule(quadratic, weights, arch, batch)
  at_train = analytic(weights, arch, batch.train)
  for_alpha = analytic(weights, arch, batch.val_alpha)[0]
  for_beta = analytic(weights, arch, batch.val_alpha if shared else batch.val_beta)[1]
  np.testing.assert_allclose(found.alpha['normal'], train * at_train[0] + val * for_alpha)
  np.testing.assert_allclose(found.beta['normal'], train * at_train[1] + val * for_beta)


# ---- the step -----------------------------------------------------------------------------------


RULES = {
  'first_order': bilevel.first_order(),
  'mixed': bilevel.mixed(0.5),
  'one_level': bilevel.one_level(),
  'simultaneous': bilevel.weighted_sum(0.25, 1.0, simultaneous=True),
}
FACTORS = {  # of the training and the validation loss
  'first_order': (0, 1),
  'mixed': (1, 0.5),
  'one_level': (1, 0),
  'simultaneous': (0.25, 1.0),
}


TABLE = topology.output_subsets(SKIP_SPACE.graph)


def make(rule, **options):
  return pool_search(
    rule, of=SKIP_SPACE, **{'penalty_weight': 10.0, 'arch_tx': optimizers.arch_tx(0.01)} | options
  )


@pytest.fixture(scope='module')
def first_state():
  """The state at the start of any search here."""
  return jax.jit(make(bilevel.first_order()).init)(jax.random.key(0))


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
def network_loss(params, arch, batch_stats, examples):
  logits, updated = pool_supernet(SKIP_SPACE).apply(
    {'params': params, 'batch_stats': batch_stats}, examples.images,
    {c: jax.nn.softmax(arch.alpha[c]) for c in arch.alpha},
    {c: topology.edge_scores(arch.beta[c], TABLE) for c in arch.beta},
    train=True, mutable=['batch_stats'],
  )  # fmt: skip
  labels = jax.nn.one_hot(examples.labels, 3)
  return -(labels * jax.nn.log_softmax(logits)).sum(-1).mean(), updated['batch_stats']


@jax.jit
@jax.grad
def penalty_gradients(beta):
  return 10 * sum(topology.invalid_topology_penalty(b, TABLE) for b in beta.values())


ARCH_TX, WEIGHTS_TX = optimizers.arch_tx(0.01), optimizers.weights_tx(100, learning_rate=0.1)


@functools.partial(jax.jit, static_argnums=0)
def move(tx, gradients, opt, values):
  return optax.apply_updates(values, tx.update(gradients, opt, values)[0])


def expected_step(name, state, batch):
  """One step, spelled out: alpha and beta with their own optimisers, then the weights."""
  train, val = FACTORS[name]
  scalar = lambda params, arch, part: network_loss(params, arch, state.batch_stats, part)
  on_train = scalar(state.params, state.arch, batch.train)[1][1]
  on_alpha = scalar(state.params, state.arch, batch.val_alpha)[1][1]
  on_beta = on_alpha
  if batch.val_beta is not None:
    on_beta = scalar(state.params, state.arch, batch.val_beta)[1][1]
  add = lambda factor, a, b: jax.tree.map(lambda x, y: train * x + factor * y, a, b)
  for_alpha = add(val, on_train.alpha, on_alpha.alpha)
  for_beta = add(val, on_train.beta, on_beta.beta)
  for_beta = jax.tree.map(jnp.add, for_beta, penalty_gradients(state.arch.beta))
  arch = Arch(
    move(ARCH_TX, for_alpha, state.alpha_opt, state.arch.alpha),
    move(ARCH_TX, for_beta, state.beta_opt, state.arch.beta),
  )
  (value, stats), (gradients, _) = scalar(
    state.params, state.arch if RULES[name].simultaneous else arch, batch.train
  )
  # The first step moves running averages a tenth of the way and divides by 1 - 0.9.
  stats = jax.tree.map(lambda x, y: x + (y - x) / 0.1, state.batch_stats, stats)
  return arch, move(WEIGHTS_TX, gradients, state.weights_opt, state.params), stats, value


FORMS = {'scanned': {}, 'unrolled': {'unroll': True}, 'together': {'together': True}}


@pytest.mark.parametrize(
  'name, form',
  [(n, f) for n in RULES for f in FORMS if f != 'together' or not RULES[n].simultaneous],
)
@pytest.mark.parametrize('shared', [False, True], ids=['three_way', 'two_way'])
def test_step_is_the_one_spelled_out(first_state, key, name, shared, form):
  search, batch = make(RULES[name], **FORMS[form]), random_batch(key, shared=shared)
  after, metrics = jax.jit(search.step)(first_state, batch, key)
  arch, params, stats, value = expected_step(name, first_state, batch)
  chex.assert_trees_all_close(after.arch, arch, atol=1e-6)
  chex.assert_trees_all_close(after.params, params, atol=1e-5)
  chex.assert_trees_all_close(after.batch_stats, stats, atol=1e-5)
  np.testing.assert_allclose(metrics['train_loss'], value, rtol=1e-5)
  assert int(after.step) == 1


@pytest.mark.parametrize('rule', [bilevel.second_order(), bilevel.one_level()])
def test_only_passes_apart_from_that_of_the_weights_are_one_batch(rule):
  with pytest.raises(ValueError, match='together is True; the rule must have passes, and'):
    make(rule, together=True)


def test_a_rule_without_losses_is_named(key):
  rule = bilevel.Rule(passes=lambda batch, knobs: [])
  for form in ('scanned', 'together'):
    with pytest.raises(ValueError, match='the rule has no passes'):
      abstract_step(make(rule, **FORMS[form]))


def test_a_users_rule_may_be_any_function(first_state, key):
  """Here one that moves alpha alone, uphill."""

  def rule(loss_fn, params, arch, batch):
    gradients = jax.grad(loss_fn, 1)(params, arch, batch.train)
    return Arch(
      jax.tree.map(jnp.negative, gradients.alpha), jax.tree.map(jnp.zeros_like, gradients.beta)
    )

  steps = [make(rule, penalty_weight=0.0).step for rule in (rule, bilevel.one_level())]
  after, ours = [jax.jit(step)(first_state, random_batch(key), key)[0] for step in steps]
  # The only cell of a network of one layer is a reduction cell.
  moved = after.arch.alpha['reduce'] - first_state.arch.alpha['reduce']
  opposite = first_state.arch.alpha['reduce'] - ours.arch.alpha['reduce']
  # Adam's weight decay is the same either way; at logits of 1e-3 it is small beside the gradient.
  assert np.mean(np.sign(moved) == np.sign(opposite)) > 0.8


def test_penalty_connects_the_nodes(first_state, key):
  """With the penalty alone, r(beta) falls from an unconnected cell to exactly 0."""
  search = make(bilevel.first_order(), penalty_weight=1000.0)
  # The empty code, the first of each row, leads everywhere.
  lonely = {c: jnp.where(jnp.arange(TABLE.mask.shape[1]) == 0, 0.05, 0.0) + 0 * b
            for c, b in first_state.arch.beta.items()}  # fmt: skip
  state = first_state._replace(arch=Arch(first_state.arch.alpha, lonely))
  step = jax.jit(search.step)
  penalties = []
  for _ in range(12):
    state, metrics = step(state, random_batch(key), key)
    penalties.append(float(metrics['penalty']))
  assert penalties[0] > 0
  assert penalties[-1] == 0
  assert search.derive(state).normal != ()


# ---- devices ------------------------------------------------------------------------------------


def three_steps(state, backend, devices, form='scanned'):
  step = make(RULES['mixed'], **FORMS[form]).step
  step = parallel.data_parallel(step, backend=backend, devices=devices)
  # The step uses the memory of its first argument again, so that it gets a copy.
  state = parallel.replicate(jax.tree.map(jnp.array, state), backend, devices)
  for i in range(3):
    state, metrics = step(state, random_batch(jax.random.key(i)), jax.random.key(0))
  return jax.device_get((state, metrics))


@pytest.fixture(scope='module')
def on_one_device(first_state):
  return three_steps(first_state, 'single', jax.devices()[:1])


@pytest.mark.parametrize(
  'backend, form', [('pmap', 'scanned'), ('pmap', 'together'), ('shard_map', 'scanned')]
)
def test_one_and_four_devices_agree(first_state, on_one_device, backend, form):
  four = three_steps(first_state, backend, jax.devices(), form)
  chex.assert_trees_all_close(four, on_one_device, atol=2e-4, rtol=2e-3)


def test_a_batch_that_does_not_divide_is_named(key):
  step = parallel.data_parallel(make(RULES['mixed']).step)
  with pytest.raises(ValueError, match='batch of 6 does not divide by 4 devices'):
    step(None, random_batch(key, size=6), key)


def test_unknown_backend_is_named():
  with pytest.raises(ValueError, match="parallel.backend is 'mpi'"):
    parallel.data_parallel(lambda: None, backend='mpi')


def test_weights_learning_rate_is_a_cosine():
  tx = optimizers.weights_tx(10, learning_rate=1.0, final_learning_rate=0.1, momentum=0.0,
                             weight_decay=0.0, clip_norm=1e9)  # fmt: skip
  params, gradients = {'w': jnp.zeros(())}, {'w': jnp.ones(())}
  opt = tx.init(params)
  rates = []
  for _ in range(11):
    updates, opt = tx.update(gradients, opt, params)
    rates.append(-float(updates['w']))
  cosine = 0.1 + 0.9 * (1 + np.cos(np.pi * np.arange(11) / 10)) / 2
  np.testing.assert_allclose(rates, cosine, rtol=1e-5)
