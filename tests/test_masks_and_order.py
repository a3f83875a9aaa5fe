"""Allowed operations, resting architectures, weights that move first, and logits for each layer."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import POOL_SPACE, SKIP_SPACE, pool_search, random_batch, random_state

from stretchnas_jax.cells import graph, relaxation, relaxations, space, topology
from stretchnas_jax.learning import bilevel, optimizers
from stretchnas_jax.learning.rules import weighted_sum
from stretchnas_jax.machine import parallel

EDGES, OPERATIONS = 5, 2
MASK = np.ones((EDGES, OPERATIONS), bool)
MASK[1] = True, False
MASK[3] = False, True


def both(mask):
  return {'normal': mask, 'reduce': mask}


# ---- allowed operations --------------------------------------------------------------------------


def test_a_space_keeps_its_allowed_operations():
  own = space.SearchSpace(POOL_SPACE.graph, POOL_SPACE.primitives, both(MASK))
  np.testing.assert_array_equal(own.allowed['reduce'], MASK)
  assert own != POOL_SPACE and hash(own) != hash(POOL_SPACE) and POOL_SPACE.allowed is None
  assert own == space.SearchSpace(POOL_SPACE.graph, POOL_SPACE.primitives, both(MASK.copy()))
  np.testing.assert_array_equal(own.allowed_on('normal', ~MASK), np.zeros_like(MASK))


@pytest.mark.parametrize(
  'allowed, words',
  [
    ({'normal': MASK}, 'exactly the cell types normal and reduce'),
    (both(MASK[1:]), r'the shape \(4, 2\)'),
    (both(MASK.astype(int)), 'type int64; it must be .* bool'),
    (both(MASK & (np.arange(5) != 2)[:, None]), 'leaves edge 2 no operation'),
  ],
)
def test_wrong_allowed_operations_are_named(allowed, words, unchecked):
  with pytest.raises(ValueError, match=words):
    space.SearchSpace(POOL_SPACE.graph, POOL_SPACE.primitives, allowed)


def test_weights_are_a_softmax_over_the_allowed_operations_alone():
  alpha = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32)
  allowed = np.array([[1, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
  own = relaxation.restricted(relaxation.softmax(0.5), allowed)
  found = own.mean(alpha, {})
  np.testing.assert_allclose(
    found[0, allowed[0]], jax.nn.softmax(alpha[0, allowed[0]] / 0.5), rtol=1e-6
  )
  np.testing.assert_array_equal(found[~allowed], 0)
  np.testing.assert_array_equal(found[1], [0, 0, 1, 0, 0])
  gradient = jax.grad(lambda alpha: (own.mean(alpha, {}) ** 2).sum())(alpha)
  np.testing.assert_array_equal(gradient[~allowed], 0)
  assert np.isfinite(gradient).all() and abs(gradient[0]).max() > 0
  strength = own.strength(alpha, {})
  assert (strength[~allowed] == 0).all() and strength[1, 2] == 1


def test_a_step_and_a_cell_follow_the_allowed_operations(key):
  """The mask of the space and that of a monitor restrict a search together."""
  static, decided = MASK.copy(), np.ones_like(MASK)
  decided[4] = False, True
  own = space.SearchSpace(POOL_SPACE.graph, POOL_SPACE.primitives, both(static))
  search = pool_search(of=own, table=topology.none)
  control = {'allowed': both(jnp.asarray(decided)), 'extra': jnp.float32(2)}
  state = random_state(search)
  assert state.control == ()
  state = state._replace(control=control)
  after, _ = jax.jit(search.step)(state, random_batch(key), key)
  chex.assert_trees_all_equal(after.control, control)
  op_weights, _ = search.mixture(after.arch, 1, after.control)
  effective = static & decided
  np.testing.assert_array_equal(op_weights['normal'] > 0, effective)
  np.testing.assert_allclose(op_weights['normal'].sum(1), 1, rtol=1e-6)
  moved = np.asarray(after.arch.alpha['normal'] != state.arch.alpha['normal'])
  assert not moved[[1, 3, 4]].any()  # edges with one operation have no choice to learn
  for edge in search.derive(after).normal:
    e = own.graph.edges.index(edge[1:])
    assert effective[e, own.primitives.index(edge[0])]


def test_an_edge_without_operations_never_stays():
  own = space.SearchSpace(graph.CellGraph(2), ('none', 'skip_connect'))
  allowed = np.ones((5, 2), bool)
  allowed[1] = True, False
  search = pool_search(of=own, table=topology.output_subsets)
  state = random_state(search)._replace(control={'allowed': both(jnp.asarray(allowed))})
  assert (1, 2) not in {edge[1:] for edge in search.derive(state).normal}


def test_scalars_of_the_control_join_the_knobs(key):
  seen = {}

  def penalty(arch, op_weights, edge_scores, knobs):
    seen.update(knobs)
    return knobs['multiplier'] * op_weights['normal'][:, 0].sum()

  search = pool_search(penalties=(penalty,), knobs=lambda step: {'multiplier': 0.0}, of=SKIP_SPACE)
  state = random_state(search)
  plain, _ = jax.jit(search.step)(state, random_batch(key), key)
  decided = state._replace(control={'multiplier': jnp.float32(3)})
  after, _ = jax.jit(search.step)(decided, random_batch(key), key)
  assert sorted(seen) == ['multiplier', 'step']
  assert abs(after.arch.alpha['normal'] - plain.arch.alpha['normal']).max() > 0.1


# ---- resting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  'rule, form',
  [
    (bilevel.mixed(), {}),
    (bilevel.mixed(), {'together': True}),
    pytest.param(bilevel.one_level(), {'unroll': True}, marks=pytest.mark.long),
    pytest.param(bilevel.second_order(), {}, marks=pytest.mark.long),
  ],
)
def test_alpha_and_beta_rest_where_the_knob_says_so(key, rule, form):
  options = {'arch_tx': optimizers.arch_tx(0.1), 'of': SKIP_SPACE, **form}
  warming = pool_search(rule, knobs=lambda step: {'moves_arch': step >= 1}, **options)
  plain = pool_search(rule, **options)
  first, batch = random_state(plain), random_batch(key)
  step = jax.jit(warming.step)
  rested, metrics = step(first, batch, key)
  for field in ('arch', 'alpha_opt', 'beta_opt'):
    chex.assert_trees_all_equal(getattr(rested, field), getattr(first, field))
  assert float(abs(rested.params['cell_0']['entry0'] - first.params['cell_0']['entry0']).max()) > 0
  # Afterwards a step is that of a search without the knob; also its optimizer begins then.
  moved, later = step(rested, batch, key)
  expected, expected_metrics = jax.jit(plain.step)(rested, batch, key)
  chex.assert_trees_all_close(moved, expected, atol=1e-6)
  chex.assert_trees_all_close(later, expected_metrics, atol=1e-6)
  assert int(moved.alpha_opt[1][0].count) == 1
  assert float(metrics['train_loss']) > 0


@pytest.mark.parametrize('unroll', [False, True])
@pytest.mark.parametrize('first', ['arch', 'weights'])
def test_a_resting_architecture_costs_no_pass(key, unroll, first):
  passes, softmax = [], relaxation.softmax()

  def weights(alpha, key, knobs):
    jax.debug.callback(lambda: passes.append(1))
    return softmax.weights(alpha, key, knobs)

  rule = bilevel.first_order()._replace(weights_first=first == 'weights')
  search = pool_search(
    rule,
    relaxation=softmax._replace(weights=weights),
    knobs=lambda step: {'moves_arch': step % 2},
    unroll=unroll,
    of=SKIP_SPACE,
  )
  step, state, counts = jax.jit(search.step), random_state(search), []
  for _ in range(2):
    passes.clear()
    state, _ = step(state, random_batch(key), key)
    jax.effects_barrier()
    counts.append(len(passes) // 2)  # two cell types
  assert counts == [1, 3]


@pytest.mark.long
def test_devices_rest_and_move_together(key):
  """A gradient of alpha is a mean over devices, inside a branch that all of them take."""
  search = pool_search(
    bilevel.first_order()._replace(weights_first=True),
    relaxation=relaxations.gdas(),
    knobs=lambda step: {'moves_arch': step % 2},
    unroll=True,
    of=SKIP_SPACE,
  )
  first, found = random_state(search), []
  for chosen, devices in (('single', jax.devices()[:1]), ('pmap', jax.devices())):
    step = parallel.data_parallel(search.step, backend=chosen, devices=devices)
    state = parallel.replicate(jax.tree.map(jnp.array, first), chosen, devices)
    for i in range(2):
      state, metrics = step(state, random_batch(jax.random.key(i)), key)
    found.append(jax.device_get((state, metrics)))
  chex.assert_trees_all_close(*found, atol=2e-4, rtol=2e-3)
  assert abs(found[0][0].arch.alpha['reduce'] - first.arch.alpha['reduce']).max() > 1e-5


# ---- order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  'form', [{}, {'together': True}, pytest.param({'unroll': True}, marks=pytest.mark.long)]
)
def test_weights_move_first_and_alpha_follows_at_the_new_weights(key, form):
  """A step equals a step of the weights alone, then one of the architecture alone."""
  batch = random_batch(key)
  make = lambda rule, **options: pool_search(rule, of=SKIP_SPACE, **form, **options)
  rule = bilevel.first_order()._replace(weights_first=True)
  search = make(rule)
  state = random_state(search)
  after, metrics = jax.jit(search.step)(state, batch, key)
  weights_only = make(rule, knobs=lambda step: {'moves_arch': 0})
  new, expected_metrics = jax.jit(weights_only.step)(state, batch, key)
  chex.assert_trees_all_close(after.params, new.params, atol=1e-6)
  still = make(bilevel.first_order(), weights_tx=optax.set_to_zero())
  at_new = state._replace(params=new.params, weights_opt=optax.EmptyState())
  expected, _ = jax.jit(still.step)(at_new, batch, key)
  chex.assert_trees_all_close(after.arch, expected.arch, atol=1e-6)
  chex.assert_trees_all_close(metrics, expected_metrics | {'penalty': metrics['penalty']})
  arch_first, _ = jax.jit(make(bilevel.first_order()).step)(state, batch, key)
  assert float(abs(arch_first.arch.alpha['reduce'] - after.arch.alpha['reduce']).max()) > 1e-6


def test_a_rule_is_not_simultaneous_with_weights_first():
  with pytest.raises(ValueError, match='simultaneous or has weights_first'):
    pool_search(weighted_sum(1.0, 0.0, True)._replace(weights_first=True))


# ---- logits for each layer -----------------------------------------------------------------------


def test_logits_for_each_layer():
  own, softmax = POOL_SPACE, relaxation.softmax()._replace(per_layer=True)
  layered = relaxation.by_layer(softmax)
  alpha = jnp.asarray(np.random.default_rng(0).normal(size=(3, EDGES, OPERATIONS)), jnp.float32)
  found = relaxation.restricted(layered, MASK).mean(alpha, {})
  for one, expected in zip(found, alpha):
    alone = relaxation.restricted(relaxation.softmax(), MASK).mean(expected, {})
    np.testing.assert_allclose(one, alone, rtol=1e-6)
  assert relaxation.checked(layered, own).strength(alpha, {}).shape == alpha.shape
