"""Bilevel learning: how alpha and beta learn beside the weights (Eq. 15-18).

An update rule is a function `(loss_fn, params, arch, batch) -> Arch` of gradients for alpha and
beta, where `loss_fn(params, arch, examples)` is the task loss; a rule that looks past the weights'
next step is also given that step (see `unrolled`). `make_search` turns a network, a topology table,
a rule and optax transformations into pure functions `init`, `step` and `derive`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from stretchnas_jax.cells import genotype, relaxation, topology
from stretchnas_jax.learning import second_order as second_order_lib
from stretchnas_jax.learning.losses import evaluation_sums, move, pmean, scores
from stretchnas_jax.learning.rules import (
  FirstOrderRule,
  add_scaled,
  exact_second_order,
  first_order,
  mixed,
  one_level,
  second_order,
)
from stretchnas_jax.learning.state import Arch, SearchState
from stretchnas_jax.networks import initializers

__all__ = [
  'FirstOrderRule',
  'Search',
  'exact_second_order',
  'first_order',
  'make_search',
  'mixed',
  'one_level',
  'second_order',
]


class Search(NamedTuple):
  """A search as pure functions."""

  init: Callable[..., SearchState]  # init(key)
  step: Callable[..., Any]  # step(state, batch, key, *, axis_name=None) -> state, metrics
  evaluate: Callable[..., Any]  # evaluate(state, examples, valid, *, axis_name=None) -> sums
  derive: Callable[..., Any]  # derive(state) -> Genotype


def make_search(
  net,
  table,
  rule,
  *,
  weights_tx,
  arch_tx,
  beta_tx=None,
  virtual_tx=None,
  penalty_weight=10.0,
  relax=relaxation.softmax,
  temperature=1.0,
  image_shape=(32, 32, 3),
  unroll=False,
):
  """A search from its parts.

  Args:
    net: a `Supernet`.
    table: the `TopologyTable` of both cell types.
    rule: an update rule.
    weights_tx, arch_tx, beta_tx: optax transformations of the weights, of alpha and of beta; beta
      uses `arch_tx`, with a state of its own, where `beta_tx` is None.
    virtual_tx: of the step that a second-order rule looks ahead; it reads the state of
      `weights_tx`, which it is where it is None. DARTS' has no clipping.
    penalty_weight: lambda of Eq. 15.
    relax: the relaxation `(alpha, key, temperature) -> [E, O]`.
    temperature: of the relaxation.
    image_shape: `(H, W, C)` of one image.
    unroll: compile each loss of a first-order rule on its own, with only the gradients that it
      needs, instead of one body for all: steps take less time and compilation more.

  Returns:
    A `Search`.
  """
  beta_tx, virtual_tx = beta_tx or arch_tx, virtual_tx or weights_tx
  cells = ('normal', 'reduce')

  def init(key):
    for_net, *for_arch = jax.random.split(key, 5)
    variables = initializers.init(net, for_net, jnp.zeros((2, *image_shape)))
    shape = (len(net.space.graph.edges), len(net.space.primitives))
    alpha = {c: 1e-3 * jax.random.normal(k, shape) for c, k in zip(cells, for_arch[:2])}
    beta = {c: topology.init_beta(k, table) for c, k in zip(cells, for_arch[2:])}
    params = variables['params']
    optimizers = weights_tx.init(params), arch_tx.init(alpha), beta_tx.init(beta)
    step = jnp.zeros((), jnp.int32)
    return SearchState(step, params, variables['batch_stats'], Arch(alpha, beta), *optimizers)

  def apply(params, batch_stats, arch, images, key, train, axis_name, learning=1.0):
    op_weights = {
      c: relax(arch.alpha[c], k, temperature) for c, k in zip(cells, jax.random.split(key))
    }
    edge_scores = {c: topology.edge_scores(arch.beta[c], table) for c in cells}
    return net.clone(axis_name=axis_name).apply(
      {'params': params, 'batch_stats': batch_stats}, images, op_weights, edge_scores,
      train=train, learning=learning, mutable=['batch_stats'] if train else False,
    )  # fmt: skip

  def penalty(beta):
    return sum(topology.invalid_topology_penalty(beta[c], table) for c in cells)

  def step(state, batch, key, *, axis_name=None):
    key = jax.random.fold_in(key, state.step)

    def loss(params, arch, examples, learning=1.0):
      logits, updated = apply(
        params, state.batch_stats, arch, examples.images, key, True, axis_name, learning
      )
      value, accuracy = pmean(scores(logits, examples.labels), axis_name)
      return value, (accuracy, updated['batch_stats'])

    ahead = functools.partial(
      second_order_lib.virtual_step, virtual_tx, state.weights_opt, axis_name
    )
    run = functools.partial(
      unrolled_step if unroll or not isinstance(rule, FirstOrderRule) else scanned_step,
      second_order_lib.with_virtual_step(rule, ahead), (weights_tx, arch_tx, beta_tx), loss,
      axis_name,
    )  # fmt: skip
    beta_gradient = lambda beta: jax.tree.map(lambda g: penalty_weight * g, jax.grad(penalty)(beta))
    state, metrics = run(beta_gradient, state, batch)
    metrics['penalty'] = penalty(state.arch.beta)
    return state._replace(step=state.step + 1), metrics

  def evaluate(state, examples, valid, *, axis_name=None):
    logits = apply(
      state.params, state.batch_stats, state.arch, examples.images, jax.random.key(0), False, None
    )
    sums = evaluation_sums(logits, examples.labels, valid)
    return sums if axis_name is None else lax.psum(sums, axis_name)

  def derive(state):
    return genotype.derive(net.space, table, state.arch.alpha, state.arch.beta)[0]

  return Search(init, step, evaluate, derive)


def move_arch(transforms, state, gradients, beta_gradient):
  """One step of alpha and one of beta, the penalty's gradient included."""
  _, alpha_tx, beta_tx = transforms
  arch = state.arch
  for_beta = jax.tree.map(jnp.add, gradients.beta, beta_gradient(arch.beta))
  alpha, alpha_opt = move(alpha_tx, gradients.alpha, state.alpha_opt, arch.alpha)
  beta, beta_opt = move(beta_tx, for_beta, state.beta_opt, arch.beta)
  return state._replace(arch=Arch(alpha, beta), alpha_opt=alpha_opt, beta_opt=beta_opt)


def move_weights(transforms, state, gradients, batch_stats):
  params, opt = move(transforms[0], gradients, state.weights_opt, state.params)
  return state._replace(params=params, weights_opt=opt, batch_stats=batch_stats)


def unrolled_step(rule, transforms, loss, axis_name, beta_gradient, state, batch):
  """alpha and beta by any rule, then the weights: each gradient is its own part of the program."""
  gradients = rule(lambda *args: loss(*args)[0], state.params, state.arch, batch)
  gradients = pmean(gradients, axis_name)
  after = move_arch(transforms, state, gradients, beta_gradient)
  arch = state.arch if getattr(rule, 'simultaneous', False) else after.arch
  (value, (accuracy, batch_stats)), gradients = jax.value_and_grad(loss, has_aux=True)(
    state.params, arch, batch.train
  )
  after = move_weights(transforms, after, pmean(gradients, axis_name), batch_stats)
  return after, {'train_loss': value, 'train_accuracy': accuracy}


def scanned_step(rule, transforms, loss, axis_name, beta_gradient, state, batch):
  """The same for a first-order rule: a loop whose one body serves every loss of the step.

  A program of several thousand operations compiles once instead of two to four times. Each pass
  computes the gradients of weights and architecture alike, which costs time at every step; but
  those for the weights that take longest are left out where they move nothing (`learning`).
  """
  passes = rule.passes(batch)
  if not rule.simultaneous:
    passes.append(('train', 0.0, 0.0))
  fields = sorted({field for field, *_ in passes})
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *[getattr(batch, field) for field in fields])
  which = jnp.array([fields.index(field) for field, *_ in passes])
  factors = jnp.array([p[1:] for p in passes], jnp.float32)
  last = len(passes) - 1
  # What a pass does with its gradients: add them up, move the architecture, move the weights.
  kinds = [0] * last + [3 if rule.simultaneous else 2]
  if not rule.simultaneous:
    kinds[last - 1] = 1

  def body(carry, inputs):
    state, total = carry
    which, (for_alpha, for_beta), kind = inputs
    examples = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, which, 0, False), stacked)
    (value, (accuracy, batch_stats)), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(
      state.params, state.arch, examples, (kind >= 2).astype(jnp.float32)
    )
    to_weights, to_arch = pmean(gradients, axis_name)
    total = add_scaled(total, to_arch, for_alpha, for_beta)
    weights = lambda state: move_weights(transforms, state, to_weights, batch_stats)
    arch = lambda state: move_arch(transforms, state, total, beta_gradient)
    state = lax.switch(kind, [lambda s: s, arch, weights, lambda s: weights(arch(s))], state)
    return (state, total), (value, accuracy)

  start = state, jax.tree.map(jnp.zeros_like, state.arch)
  (after, _), (values, accuracies) = lax.scan(body, start, (which, factors, jnp.array(kinds)))
  return after, {'train_loss': values[-1], 'train_accuracy': accuracies[-1]}
