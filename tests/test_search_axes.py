"""Each axis of a search takes a value of your own: relaxation, rule, penalties, knobs, table."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_batch

from stretchnas_jax.cells import graph, relaxation, space, topology
from stretchnas_jax.learning import bilevel, optimizers
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.networks import supernet

SPACE = space.SearchSpace(graph.CellGraph(2), ('max_pool_3x3', 'skip_connect'))
SHAPE = (5, 2)  # edges, operations


def make(rule=None, table=topology.output_subsets, **options):
  """Returns a search of a network without convolutions on edges: it compiles fast."""
  net = supernet.Supernet(SPACE, 2, 1, 3, form='merged')
  options = {'arch_tx': optax.sgd(1.0), 'penalty_weight': 0.0, 'image_shape': (8, 8, 1)} | options
  return bilevel.make_search(
    net, table(SPACE.graph), rule or bilevel.first_order(),
    weights_tx=optimizers.weights_tx(100, learning_rate=0.1), **options,
  )  # fmt: skip


def abstract_step(search):
  """Traces a step, and runs nothing."""
  key = jax.random.key(0)
  return jax.eval_shape(search.step, jax.eval_shape(search.init, key), random_batch(key), key)


def start(search):
  """Returns a state with random weights; `search.init` would be compiled for longer."""
  rng = np.random.default_rng(0)
  state = jax.eval_shape(search.init, jax.random.key(0))
  draw = lambda x: jnp.asarray(rng.uniform(-0.1, 0.1, x.shape), x.dtype)
  return jax.tree.map(jnp.zeros_like, state)._replace(
    params=jax.tree.map(draw, state.params), arch=jax.tree.map(draw, state.arch)
  )


def same(states, atol=1e-6):
  first, second = (state._replace(step=0) for state in states)
  chex.assert_trees_all_close(first, second, atol=atol)


# ---- knobs ---------------------------------------------------------------------------------------


def annealed(step):
  return {'temperature': 2.0 / (1 + step)}


def test_a_temperature_follows_the_step_without_another_compilation(key):
  search = make(knobs=annealed)
  chex.clear_trace_counter()
  step = jax.jit(chex.assert_max_traces(search.step, n=1))
  state = first = start(search)
  for _ in range(3):
    before = state
    state, _ = step(state, random_batch(key), key)
  # The third step is that of a search with the temperature of step 2.
  fixed = make(relaxation=relaxation.softmax(2.0 / 3))
  expected, _ = jax.jit(fixed.step)(before, random_batch(key), key)
  same((state, expected))
  op_weights, _ = search.mixture(first.arch, 9)
  np.testing.assert_allclose(
    op_weights['reduce'], jax.nn.softmax(first.arch.alpha['reduce'] / 0.2), rtol=1e-6
  )


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

  search = make(
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
    abstract_step(make(knobs=knobs))


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
  search = make(rule, relaxation=drawing(record), **options)
  state, step, keys = start(search), jax.jit(search.step), []
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
  unrolled, other = keys_of_two_steps(bilevel.mixed(), batch, key, unroll=True)
  assert unrolled == scanned
  same((state, other), atol=1e-5)


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

  search = make(relaxation=relaxation.softmax()._replace(weights=weights))
  state, batch = start(search), random_batch(key)
  sums = jax.jit(search.evaluate)(state, batch.train, jnp.ones(8))
  assert int(sums['count']) == 8 and np.isfinite(sums['loss'])
  assert search.derive(state).normal != ()
  op_weights, edge_scores = search.mixture(state.arch, state.step)
  assert op_weights['normal'].shape == SHAPE and edge_scores['normal'].shape == (5,)


def sigmoid():
  gates = lambda alpha, knobs: jax.nn.sigmoid(alpha)
  return relaxation.Relaxation(
    init=lambda key, space: jnp.zeros(SHAPE),
    weights=lambda alpha, key, knobs: gates(alpha, knobs),
    mean=gates,
    strength=gates,
  )


def test_decoding_follows_the_strength_of_the_relaxation(key):
  """Two edges enter node 3 beside a strong one; sigmoid and softmax rank them differently."""
  alpha = np.zeros(SHAPE, np.float32)
  alpha[2], alpha[3], alpha[4] = (3, 3.2), (1, -9), (9, 9)
  table = functools.partial(topology.none, k=2)
  state = jax.eval_shape(make(table=table).init, key)
  state = state._replace(arch=Arch(dict.fromkeys(('normal', 'reduce'), alpha), state.arch.beta))
  beta = dict.fromkeys(('normal', 'reduce'), np.zeros((0, 0), np.float32))
  state = state._replace(arch=state.arch._replace(beta=beta), step=0)
  gated = make(table=table, relaxation=sigmoid()).derive(state).normal
  softmax = make(table=table).derive(state).normal
  assert {edge[1:] for edge in gated if edge[2] == 3} == {(0, 3), (2, 3)}
  assert ('skip_connect', 0, 3) in gated
  assert {edge[1:] for edge in softmax if edge[2] == 3} == {(1, 3), (0, 3)}


def test_alpha_may_be_any_tree(key):
  def init(key, space):
    return {'groups': jnp.zeros((5, 1)), 'inner': [jnp.zeros(SHAPE)]}

  mean = lambda alpha, knobs: jax.nn.sigmoid(alpha['groups']) * jax.nn.softmax(alpha['inner'][0])
  own = relaxation.Relaxation(init, lambda alpha, key, knobs: mean(alpha, knobs), mean, mean)
  search = make(bilevel.mixed(), relaxation=own, arch_tx=optimizers.arch_tx())
  state = start(search)
  after, _ = jax.jit(search.step)(state, random_batch(key), key)
  chex.assert_trees_all_equal_shapes(after, state)
  assert float(abs(after.arch.alpha['reduce']['groups']).max()) > 0
  assert search.derive(after).normal != ()


@pytest.mark.parametrize('field', ['weights', 'mean'])
def test_a_relaxation_of_the_wrong_shape_is_named(field, key):
  wrong = relaxation.softmax()._replace(**{field: lambda *args: jnp.ones((5, 3))})
  search = make(relaxation=wrong)
  with pytest.raises(
    ValueError, match=rf'relaxation.{field} returns \[5, 3\]; it must be \[5, 2\]'
  ):
    state = jax.eval_shape(search.init, key)
    jax.eval_shape(search.step, state, random_batch(key), key)
    jax.eval_shape(search.evaluate, state, random_batch(key).train, jnp.ones(8))


# ---- penalties -----------------------------------------------------------------------------------


def own_penalty(arch, op_weights, edge_scores, knobs):
  """Products of all that a penalty is given, so that every gradient counts."""
  total = 0.0
  for cell, weights in op_weights.items():
    cost = jnp.array([1.0, 3.0])
    total += ((weights @ cost) * edge_scores[cell]).sum()
    total += (arch.alpha[cell] ** 2).sum() * arch.beta[cell].sum()
  return total * (1 + knobs['step'])


def by_differences(function, values, size=1e-6):
  """Returns the gradient of a function of an array, one entry after the other."""
  gradient = np.zeros_like(values)
  for i in np.ndindex(values.shape):
    ends = []
    for sign in (1, -1):
      moved = values.copy()
      moved[i] += sign * size
      ends.append(function(moved))
    gradient[i] = (ends[0] - ends[1]) / (2 * size)
  return gradient


def plain_penalty(alpha, beta, table, step):
  """`own_penalty` of one cell type in plain numpy."""
  weights = np.exp(alpha) / np.exp(alpha).sum(1, keepdims=True)
  logits = np.where(table.mask, beta, -np.inf)
  probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  scores = table.scale * np.einsum('rk,rke->e', probs, table.codes)
  return (((weights @ [1.0, 3.0]) * scores).sum() + (alpha**2).sum() * beta.sum()) * (1 + step)


@pytest.mark.parametrize('unroll', [False, True], ids=['scanned', 'unrolled'])
def test_a_penalty_moves_alpha_and_beta_by_its_gradient_once(key, unroll):
  rng, table = np.random.default_rng(0), topology.output_subsets(SPACE.graph)
  alpha = {c: rng.normal(size=SHAPE).astype(np.float32) for c in space.CELL_TYPES}
  beta = {c: rng.normal(size=table.mask.shape).astype(np.float32) for c in space.CELL_TYPES}
  moved = []
  for penalties in ((), (own_penalty,)):
    search = make(bilevel.mixed(), penalties=penalties, unroll=unroll)
    state = start(search)._replace(step=jnp.int32(1), arch=Arch(alpha, beta))
    after, _ = jax.jit(search.step)(state, random_batch(key), key)
    moved.append(after)
  found = jax.tree.map(lambda x, y: x - y, moved[0].arch, moved[1].arch)
  for cell in space.CELL_TYPES:
    a, b = alpha[cell].astype(np.float64), beta[cell].astype(np.float64)
    for_alpha = by_differences(lambda a, b=b: plain_penalty(a, b, table, 1), a)
    for_beta = by_differences(lambda b, a=a: plain_penalty(a, b, table, 1), b)
    np.testing.assert_allclose(found.alpha[cell], for_alpha, atol=2e-5)
    np.testing.assert_allclose(found.beta[cell], for_beta, atol=2e-5)


def test_a_penalty_that_is_no_scalar_is_named():
  def of_each_edge(arch, op_weights, edge_scores, knobs):
    return edge_scores['normal']

  words = r'the penalty of_each_edge returns float32 of the shape \[5\]; it must be a floating'
  with pytest.raises(ValueError, match=words):
    abstract_step(make(penalties=(of_each_edge,)))


# ---- rules ---------------------------------------------------------------------------------------


def test_a_wrapped_rule_is_the_rule_and_the_wrapping(key):
  inner = bilevel.one_level()

  def doubled(*args):
    return jax.tree.map(lambda g: 2 * g, inner(*args))

  batch, states = random_batch(key), []
  for rule in (
    bilevel.Rule(doubled, simultaneous=inner.simultaneous),
    bilevel.weighted_sum(2.0, 0.0, simultaneous=True),
    inner._replace(passes=lambda *args: [one._replace(for_alpha=2.0, for_beta=2.0)
                                         for one in inner.passes(*args)]),
  ):  # fmt: skip
    search = make(rule)
    states.append(jax.jit(search.step)(start(search), batch, key)[0])
  same(states[:2], atol=1e-5)
  same(states[1:], atol=1e-5)


def zeros(loss_fn, params, arch, batch):
  return jax.tree.map(jnp.zeros_like, arch)


def with_attribute(name):
  def rule(*args):
    return zeros(*args)

  setattr(rule, name, True)
  return rule


def with_alpha(change):
  def rule(loss_fn, params, arch, batch):
    return Arch(change(jax.tree.map(jnp.zeros_like, arch.alpha)), arch.beta)

  return rule


@pytest.mark.parametrize(
  'rule, words',
  [
    (with_alpha(lambda alpha: {**alpha, 'normal': jnp.zeros((5, 3))}),
     r"gradients of .alpha\['normal'\] have the shape \[5, 3\]; it must be \[5, 2\]"),
    (with_alpha(lambda alpha: {'normal': alpha['normal']}),
     r"gradients lack .alpha\['reduce'\]"),
    (with_alpha(lambda alpha: {**alpha, 'third': alpha['normal']}),
     r"gradients have the unknown part .alpha\['third'\]"),
    (bilevel.Rule(passes=lambda batch, knobs: []), 'the rule has no passes'),
    (bilevel.Rule(), 'both or neither'),
    (bilevel.first_order()._replace(gradients=zeros), 'both or neither'),
    (with_attribute('looks_ahead'), 'the attribute looks_ahead; make a Rule of it'),
    (with_attribute('simultaneous'), 'the attribute simultaneous; make a Rule of it'),
  ],
)  # fmt: skip
def test_a_wrong_rule_is_named(rule, words):
  with pytest.raises(ValueError, match=words):
    abstract_step(make(rule))


def test_a_rule_of_a_wrong_type_is_named(unchecked):
  with pytest.raises(ValueError, match='the rule is a int; it must be a Rule or a function'):
    make(3)


def test_gradients_of_a_wrong_type_are_named(unchecked):
  with pytest.raises(ValueError, match='the rule returns a tuple; it must be an Arch'):
    abstract_step(make(lambda *args: tuple(zeros(*args))))


# ---- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  'change, words',
  [
    ({'codes': np.zeros((2, 4, 6))}, r'the codes of the table have the shape \[2, 4, 6\]'),
    ({'codes': np.zeros((4, 5))}, r'they must be \[R, K, 5\]'),
    ({'mask': np.ones((2, 3), bool)}, r'the mask of the table has the shape \[2, 3\]'),
    ({'scale': np.ones(6)}, r'the scale of the table has the shape \[6\]; .* must be \[5\]'),
    ({'by': 'both'}, "by is 'both'; allowed are source, target"),
  ],
)
def test_a_table_that_does_not_fit_is_named(change, words):
  with pytest.raises(ValueError, match=words):
    make(table=lambda graph: topology.output_subsets(graph)._replace(**change))
