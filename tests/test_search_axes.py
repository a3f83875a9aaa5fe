"""A search takes your own relaxation, and knobs that change with the step."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
  POOL_SHAPE,
  SKIP_SPACE,
  abstract_step,
  assert_same_states,
  pool_search,
  random_batch,
  random_state,
)

from stretchnas_jax.cells import relaxation, topology
from stretchnas_jax.learning import bilevel, optimizers
from stretchnas_jax.learning.state import Arch

skip_search = functools.partial(pool_search, of=SKIP_SPACE)

# ---- knobs ---------------------------------------------------------------------------------------


def annealed(step):
  return {'temperature': 2.0 / (1 + step)}


def test_a_temperature_follows_the_step_without_another_compilation(key):
  search = skip_search(knobs=annealed)
  chex.clear_trace_counter()
  step = jax.jit(chex.assert_max_traces(search.step, n=1))
  state = first = random_state(search)
  for _ in range(3):
    before = state
    state, _ = step(state, random_batch(key), key)
  # The third step is that of a search with the temperature of step 2.
  fixed = skip_search(relaxation=relaxation.softmax(2.0 / 3))
  expected, _ = jax.jit(fixed.step)(before, random_batch(key), key)
  assert_same_states(state, expected)
  op_weights, _ = search.mixture(first.arch, 10)  # after the steps 0 to 9
  np.testing.assert_allclose(
    op_weights['reduce'], jax.nn.softmax(first.arch.alpha['reduce'] / 0.2), rtol=1e-6
  )


@pytest.mark.parametrize(
  'start, seen', [(None, {0: 0, 1: 0, 2: 1, 9: 8}), (3, {3: 0, 4: 0, 5: 1, 9: 5})]
)
def test_what_looks_back_has_the_knobs_of_the_last_step(start, seen, key):
  """They count from the beginning of a phase; before its first step they are those of it."""
  search = skip_search(knobs=lambda step: annealed(step) | {'edge_drop': 0.1 * step})
  state, batch = random_state(search), random_batch(key)
  control = () if start is None else {'phase_start': jnp.int32(start)}
  for steps, last in seen.items():
    state = state._replace(step=jnp.int32(steps), control=control)
    found = search.network_inputs(steps, control)['knobs']['edge_drop']
    np.testing.assert_allclose(found, 0.1 * last, rtol=1e-6)
    fixed = skip_search(relaxation=relaxation.softmax(2.0 / (1 + last)))
    for name in ('mixture', 'strength'):
      found, expected = (getattr(s, name)(state.arch, steps, control) for s in (search, fixed))
      jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), found, expected)
  sums = [jax.jit(s.evaluate)(state, batch.train, jnp.ones(8)) for s in (search, fixed)]
  np.testing.assert_allclose(sums[0]['loss'], sums[1]['loss'], rtol=1e-5)


def test_relaxation_rule_and_penalties_see_the_step_and_the_knobs(key):
  seen = []

  def see(who, knobs):
    seen.append((who, sorted(knobs), knobs['step'].dtype))

  softmax = relaxation.softmax()

  def weights(alpha, key, knobs):
    see('weights', knobs)
    return softmax.weights(alpha, key, knobs)

  def mean(alpha, knobs):
    see('mean', knobs)
    return softmax.mean(alpha, knobs)

  def gradients(loss_fn, params, arch, batch, context):
    see('rule', context.knobs)
    return jax.grad(loss_fn, 1)(params, arch, batch.train)

  def penalty(arch, op_weights, edge_scores, knobs):
    see('penalty', knobs)
    return knobs['strength'] * op_weights['normal'].sum()

  search = skip_search(
    bilevel.Rule(gradients),
    relaxation=softmax._replace(weights=weights, mean=mean),
    penalties=(penalty,),
    knobs=lambda step: {'strength': 0.1 * step},
  )
  abstract_step(search)
  assert {who for who, *_ in seen} == {'weights', 'mean', 'rule', 'penalty'}
  assert all(found == ['step', 'strength'] and dtype == jnp.int32 for _, found, dtype in seen)


@pytest.mark.parametrize(
  'knobs, words',
  [
    (lambda step: step, 'knobs returns a .*; it must be a dict of scalars'),
    (lambda step: {'step': step}, "knobs names 'step', which is always there"),
    (lambda step: {'a': jnp.ones(2)}, r'the knob a has the shape \[2\]; it must be a scalar'),
  ],
)
def test_wrong_knobs_are_named(knobs, words):
  with pytest.raises(ValueError, match=words):
    abstract_step(skip_search(knobs=knobs))


# ---- relaxations ---------------------------------------------------------------------------------


def drawing(record):
  """Returns a relaxation with Gumbel noise that records its keys, as it is run."""
  softmax = relaxation.softmax()

  def weights(alpha, key, knobs):
    jax.debug.callback(lambda bits: record.append(tuple(np.ravel(bits))), jax.random.key_data(key))
    return softmax.mean(alpha + jax.random.gumbel(key, alpha.shape), knobs)

  return softmax._replace(weights=weights)


def keys_of_two_steps(rule, batch, key, **options):
  """Returns the keys of each of two steps, and the state after them."""
  record = []
  search = skip_search(rule, relaxation=drawing(record), **options)
  state, step, keys = random_state(search), jax.jit(search.step), []
  for _ in range(2):
    state, _ = jax.block_until_ready(step(state, batch, key))
    jax.effects_barrier()
    keys.append(set(record))
    record.clear()
  return keys, state


def test_every_pass_has_its_own_key(key):
  batch = random_batch(key)
  scanned, state = keys_of_two_steps(bilevel.mixed(), batch, key)
  # Three passes for the architecture, one for the weights; two cell types.
  assert [len(found) for found in scanned] == [8, 8]
  assert not scanned[0] & scanned[1]
  for form in ('unroll', 'together'):
    found, other = keys_of_two_steps(bilevel.mixed(), batch, key, **{form: True})
    assert found == scanned
    assert_same_states(state, other, atol=1e-5)


def test_losses_of_a_plain_function_have_their_own_keys(key):
  def rule(loss_fn, params, arch, batch):
    first = jax.grad(loss_fn, 1)(params, arch, batch.train)
    second = jax.grad(loss_fn, 1)(params, arch, batch.val_alpha)
    return jax.tree.map(jnp.add, first, second)

  keys, _ = keys_of_two_steps(rule, random_batch(key), key)
  assert [len(found) for found in keys] == [6, 6]
  assert not keys[0] & keys[1]


def test_a_second_order_rule_draws_once_for_each_part_of_the_batch(key):
  """The training loss draws the same in the virtual step and in the product with the Hessian."""
  keys, _ = keys_of_two_steps(bilevel.exact_second_order(), random_batch(key), key)
  assert [len(found) for found in keys] == [8, 8]


def test_evaluation_and_decoding_do_not_draw(key):
  def weights(alpha, key, knobs):
    raise AssertionError('an evaluation draws')

  search = skip_search(relaxation=relaxation.softmax()._replace(weights=weights))
  state, batch = random_state(search), random_batch(key)
  sums = jax.jit(search.evaluate)(state, batch.train, jnp.ones(8))
  assert int(sums['count']) == 8 and np.isfinite(sums['loss'])
  assert search.derive(state).normal != ()
  op_weights, edge_scores = search.mixture(state.arch, state.step)
  assert op_weights['normal'].shape == POOL_SHAPE and edge_scores['normal'].shape == (5,)


def sigmoid():
  gates = lambda alpha, knobs: jax.nn.sigmoid(alpha)
  return relaxation.Relaxation(
    init=lambda key, space: jnp.zeros(POOL_SHAPE),
    weights=lambda alpha, key, knobs: gates(alpha, knobs),
    mean=gates,
    strength=gates,
  )


def test_decoding_follows_the_strength_of_the_relaxation(key):
  """Two edges enter node 3 beside a strong one; sigmoid and softmax rank them differently."""
  alpha = np.zeros(POOL_SHAPE, np.float32)
  alpha[2], alpha[3], alpha[4] = (3, 3.2), (1, -9), (9, 9)
  table = functools.partial(topology.none, k=2)
  state = jax.eval_shape(pool_search(table=table).init, key)
  state = state._replace(arch=Arch(dict.fromkeys(('normal', 'reduce'), alpha), state.arch.beta))
  beta = dict.fromkeys(('normal', 'reduce'), np.zeros((0, 0), np.float32))
  state = state._replace(arch=state.arch._replace(beta=beta), step=0)
  gated = pool_search(table=table, relaxation=sigmoid()).derive(state).normal
  softmax = pool_search(table=table).derive(state).normal
  assert {edge[1:] for edge in gated if edge[2] == 3} == {(0, 3), (2, 3)}
  assert ('skip_connect', 0, 3) in gated
  assert {edge[1:] for edge in softmax if edge[2] == 3} == {(1, 3), (0, 3)}


def test_alpha_may_be_any_tree(key):
  def init(key, space):
    return {'groups': jnp.zeros((5, 1)), 'inner': [jnp.zeros(POOL_SHAPE)]}

  mean = lambda alpha, knobs: jax.nn.sigmoid(alpha['groups']) * jax.nn.softmax(alpha['inner'][0])
  own = relaxation.Relaxation(init, lambda alpha, key, knobs: mean(alpha, knobs), mean, mean)
  search = skip_search(bilevel.mixed(), relaxation=own, arch_tx=optimizers.arch_tx())
  state = random_state(search)
  after, _ = jax.jit(search.step)(state, random_batch(key), key)
  chex.assert_trees_all_equal_shapes(after, state)
  assert float(abs(after.arch.alpha['reduce']['groups']).max()) > 0
  assert search.derive(after).normal != ()


@pytest.mark.parametrize('field', ['weights', 'mean'])
def test_a_relaxation_of_the_wrong_shape_is_named(field, key):
  wrong = relaxation.softmax()._replace(**{field: lambda *args: jnp.ones((5, 3))})
  search = skip_search(relaxation=wrong)
  with pytest.raises(
    ValueError, match=rf'relaxation.{field} returns \[5, 3\]; it must be \[5, 2\]'
  ):
    state = jax.eval_shape(search.init, key)
    jax.eval_shape(search.step, state, random_batch(key), key)
    jax.eval_shape(search.evaluate, state, random_batch(key).train, jnp.ones(8))
