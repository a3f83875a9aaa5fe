"""A search takes your own penalties, rules and topology tables."""

import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import topology_reference
from helpers import (
  POOL_SHAPE,
  SKIP_SPACE,
  abstract_step,
  assert_same_states,
  random_batch,
  random_state,
)

from stretchnas_jax.cells import space, topology
from stretchnas_jax.learning import bilevel
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.machine import parallel

skip_search = functools.partial(helpers.pool_search, of=SKIP_SPACE)
TABLE = topology.output_subsets(SKIP_SPACE.graph)

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


@pytest.mark.parametrize(
  'unroll', [False, pytest.param(True, marks=pytest.mark.long)], ids=['scanned', 'unrolled']
)
def test_a_penalty_moves_alpha_and_beta_by_its_gradient_once(key, unroll):
  rng, table = np.random.default_rng(0), topology.output_subsets(SKIP_SPACE.graph)
  alpha = {c: rng.normal(size=POOL_SHAPE).astype(np.float32) for c in space.CELL_TYPES}
  beta = {c: rng.normal(size=table.mask.shape).astype(np.float32) for c in space.CELL_TYPES}
  moved = []
  for penalties in ((), (own_penalty,)):
    search = skip_search(bilevel.mixed(), penalties=penalties, unroll=unroll)
    state = random_state(search)._replace(step=jnp.int32(1), arch=Arch(alpha, beta))
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
    abstract_step(skip_search(penalties=(of_each_edge,)))


def test_a_topology_temperature_divides_beta_in_r_too(key):
  """Step, metrics and the end of an epoch have r(beta / T), from the plain loops of Eq. 14."""
  heat = 0.3
  rest = bilevel.Rule(lambda loss, params, arch, batch, context: jax.tree.map(jnp.zeros_like, arch))
  search = skip_search(
    rest, knobs=lambda step: {'topology_temperature': heat + step}, penalty_weight=1e-3
  )
  state = random_state(search)
  # The first code of a row, no edge, is the best one: no node is reached.
  beta = {c: b.at[:, 0].set(0.2) for c, b in state.arch.beta.items()}
  state = state._replace(arch=state.arch._replace(beta=beta))
  after, metrics = jax.jit(search.step)(state, random_batch(key), key)
  plain = lambda beta: topology_reference.reference_penalty('subsets', 2, beta / heat)
  for cell in space.CELL_TYPES:
    first = np.float64(state.arch.beta[cell])
    moved = np.where(TABLE.mask, after.arch.beta[cell] - first, 0)
    expected = -1e-3 * by_differences(plain, first)
    np.testing.assert_allclose(moved, expected, atol=1e-2 * abs(expected).max())
    assert abs(expected).max() > 1e-4
    logits = search.topology_logits(after.arch, 1)[cell]
    np.testing.assert_allclose(logits, after.arch.beta[cell] / heat, rtol=1e-6)
  total = sum(plain(np.float64(beta)) for beta in after.arch.beta.values())
  np.testing.assert_allclose(metrics['penalty'], total, rtol=1e-5)


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
    search = skip_search(rule)
    states.append(jax.jit(search.step)(random_state(search), batch, key)[0])
  assert_same_states(*states[:2], atol=1e-5)
  assert_same_states(*states[1:], atol=1e-5)


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
    abstract_step(skip_search(rule))


def test_a_rule_of_a_wrong_type_is_named(unchecked):
  with pytest.raises(ValueError, match='the rule is a int; it must be a Rule or a function'):
    skip_search(3)


def test_gradients_of_a_wrong_type_are_named(unchecked):
  with pytest.raises(ValueError, match='the rule returns a tuple; it must be an Arch'):
    abstract_step(skip_search(lambda *args: tuple(zeros(*args))))


def unit_gradients(loss_fn, params, arch, batch, context):
  """The direction of the gradients alone, which is not linear in them."""
  gradients = context.mean(jax.grad(loss_fn, 1)(params, arch, batch.val_alpha))
  return jax.tree.map(lambda g: g / optax.tree.norm(gradients), gradients)


def test_a_rule_that_is_not_linear_in_gradients_is_the_same_on_several_devices(key):
  search = skip_search(bilevel.Rule(unit_gradients))
  moves = []
  for backend in parallel.BACKENDS:
    devices = jax.devices()[:1] if backend == 'single' else jax.devices()
    step = parallel.data_parallel(search.step, backend=backend, devices=devices)
    before = parallel.fetch(random_state(search))
    after = step(parallel.replicate(before, backend, devices), random_batch(key), key)[0]
    moves.append(jax.tree.map(np.subtract, before.arch, parallel.fetch(after.arch)))
  np.testing.assert_allclose(optax.tree.norm(moves[0]), 1, rtol=1e-5)
  for move in moves[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), move, moves[0])


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
    skip_search(table=lambda graph: topology.output_subsets(graph)._replace(**change))
