"""Bilevel learning: how alpha and beta learn beside the weights (Eq. 15-18).

`make_search` turns a network, a topology table, an update rule and optax transformations into pure
functions. Each axis of a search is one value: the rule (a `Rule`, or a plain function
`(loss_fn, params, arch, batch) -> Arch`), the relaxation, the penalties and the knobs, which are
numbers that change with the step.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, ScalarLike

from stretchnas_jax.cells import genotype, topology
from stretchnas_jax.cells import relaxation as relaxation_lib
from stretchnas_jax.cells.relaxation import Knobs, Relaxation
from stretchnas_jax.cells.space import CELL_TYPES
from stretchnas_jax.data.batches.examples import Batch, Examples
from stretchnas_jax.learning import losses, search_step
from stretchnas_jax.learning import penalties as penalties_lib
from stretchnas_jax.learning.rules import (
  Pass,
  Rule,
  as_rule,
  exact_second_order,
  first_order,
  mixed,
  one_level,
  second_order,
  weighted_sum,
)
from stretchnas_jax.learning.second_order import virtual_step
from stretchnas_jax.learning.state import Arch, Context, SearchState
from stretchnas_jax.networks import initializers
from stretchnas_jax.networks.supernet import Supernet

__all__ = [
  'Arch',
  'Context',
  'Pass',
  'Rule',
  'Search',
  'SearchState',
  'exact_second_order',
  'first_order',
  'make_search',
  'mixed',
  'one_level',
  'second_order',
  'weighted_sum',
]


_SOFTMAX = relaxation_lib.softmax()


class Search(NamedTuple):
  """A search as pure functions.

  Attributes:
    init: `init(key) -> state`.
    step: `step(state, batch, key, *, axis_name=None) -> state, metrics`, one step.
    evaluate: `evaluate(state, examples, valid, *, axis_name=None) -> sums` over the examples whose
      `valid` is 1: loss, correct and count.
    derive: `derive(state) -> Genotype`, on the host.
    decode: `decode(arch, step) -> genotype, notes`, the same with a sentence for each thing that
      was repaired or pruned.
    mixture: `mixture(arch, step) -> op_weights, edge_scores` of an evaluation, by cell type.
  """

  init: Callable[..., SearchState]
  step: Callable[..., Any]
  evaluate: Callable[..., dict[str, Float[Array, '']]]
  derive: Callable[..., genotype.Genotype]
  decode: Callable[..., tuple[genotype.Genotype, tuple[str, ...]]]
  mixture: Callable[..., tuple[dict[str, Array], dict[str, Array]]]


def no_knobs(step: Int[Array, '']) -> dict[str, ScalarLike]:
  """Returns no knobs: nothing changes with the step."""
  del step
  return {}


def make_search(
  net: Supernet,
  table: topology.TopologyTable,
  rule: Rule | Callable[..., Arch],
  *,
  weights_tx: optax.GradientTransformation,
  arch_tx: optax.GradientTransformation,
  beta_tx: optax.GradientTransformation | None = None,
  virtual_tx: optax.GradientTransformation | None = None,
  penalty_weight: float = 10.0,
  relaxation: Relaxation = _SOFTMAX,
  penalties: Sequence[penalties_lib.Penalty] = (),
  knobs: Callable[[Int[Array, '']], Mapping[str, ScalarLike]] = no_knobs,
  image_shape: tuple[int, int, int] = (32, 32, 3),
  unroll: bool = False,
) -> Search:
  """Builds a search from its parts.

  Args:
    net: the search network.
    table: the topology table of both cell types.
    rule: an update rule, or a function `(loss_fn, params, arch, batch) -> Arch` of gradients.
    weights_tx: the optimizer of the weights.
    arch_tx: the optimizer of alpha.
    beta_tx: the optimizer of beta. None for `arch_tx`, with a state of its own.
    virtual_tx: the optimizer of the step that a second-order rule looks ahead. It reads the state
      of `weights_tx`, and None stands for that one. DARTS' has no clipping.
    penalty_weight: lambda of Eq. 15.
    relaxation: how alpha becomes operation weights.
    penalties: functions `(arch, op_weights, edge_scores, knobs) -> scalar`. Their gradients for
      alpha and beta join those of the rule once in a step. They see the operation weights of an
      evaluation.
    knobs: from the number of the step to named scalars. It is traced, so that nothing compiles
      again when a knob changes. Relaxation, rule and penalties see these and 'step'.
    image_shape: `(H, W, C)` of one image.
    unroll: compile each loss of a rule with passes on its own, with only the gradients that it
      needs, instead of one body for all: steps take less time and compilation more.

  Returns:
    The functions of the search.

  Raises:
    ValueError: the table does not fit the graph, or the rule is none.
  """
  topology.check_table(table, net.space.graph)
  parts = _Parts(
    net,
    table,
    as_rule(rule),
    search_step.Optimizers(weights_tx, arch_tx, beta_tx or arch_tx),
    virtual_tx or weights_tx,
    penalty_weight,
    relaxation_lib.checked(relaxation, net.space),
    tuple(penalties),
    knobs,
    image_shape,
    unroll,
  )
  functions = (_init, _step, _evaluate, _derive, _decode, _mixture)
  return Search(*(_bind(function, parts) for function in functions))


class _Parts(NamedTuple):
  """The parts of a search, as `make_search` takes them."""

  net: Supernet
  table: topology.TopologyTable
  rule: Rule
  optimizers: search_step.Optimizers
  virtual_tx: optax.GradientTransformation
  penalty_weight: float
  relaxation: Relaxation
  penalties: tuple[penalties_lib.Penalty, ...]
  knobs: Callable[[Int[Array, '']], Mapping[str, ScalarLike]]
  image_shape: tuple[int, int, int]
  unroll: bool


def _bind(function: Callable[..., Any], parts: _Parts) -> Callable[..., Any]:
  """Returns a function of the remaining arguments, under the name that users know."""

  def bound(*args: Any, **kwargs: Any) -> Any:
    return function(parts, *args, **kwargs)

  bound.__name__ = bound.__qualname__ = function.__name__.removeprefix('_')
  bound.__doc__ = function.__doc__
  return bound


def _init(parts: _Parts, key: PRNGKeyArray) -> SearchState:
  """Returns the state before the first step."""
  for_net, *for_arch = jax.random.split(key, 5)
  variables = initializers.init(parts.net, for_net, jnp.zeros((2, *parts.image_shape)))
  init_alpha = parts.relaxation.init
  alpha = {c: init_alpha(k, parts.net.space) for c, k in zip(CELL_TYPES, for_arch[:2])}
  beta = {c: topology.init_beta(k, parts.table) for c, k in zip(CELL_TYPES, for_arch[2:])}
  params, tx = variables['params'], parts.optimizers
  optimizers = tx.weights.init(params), tx.alpha.init(alpha), tx.beta.init(beta)
  step = jnp.zeros((), jnp.int32)
  return SearchState(step, params, variables['batch_stats'], Arch(alpha, beta), *optimizers)


def _step(
  parts: _Parts,
  state: SearchState,
  batch: Batch,
  key: PRNGKeyArray,
  *,
  axis_name: str | None = None,
) -> tuple[SearchState, search_step.Metrics]:
  """Makes one step: alpha and beta, then the weights, as the rule has it."""
  knobs = _knobs_at(parts, state.step)
  ahead = functools.partial(virtual_step, parts.virtual_tx, state.weights_opt, axis_name)
  step_parts = search_step.StepParts(
    parts.rule,
    parts.optimizers,
    functools.partial(
      _loss, parts, state.batch_stats, knobs, jax.random.fold_in(key, state.step), axis_name
    ),
    functools.partial(_penalty_gradients, parts, knobs),
    Context(knobs, ahead),
    axis_name,
  )
  unrolled = parts.unroll or parts.rule.passes is None
  run = search_step.unrolled_step if unrolled else search_step.scanned_step
  after, metrics = run(step_parts, state, batch)
  metrics['penalty'] = penalties_lib.invalid_topology(after.arch.beta, parts.table)
  return after._replace(step=after.step + 1), metrics


def _loss(
  parts: _Parts,
  batch_stats: PyTree,
  knobs: Knobs,
  step_key: PRNGKeyArray,
  axis_name: str | None,
  params: PyTree,
  arch: Arch,
  examples: Examples,
  draw: Int[Array, ''] | int,
  learning: Float[Array, ''] | float = 1.0,
) -> tuple[Float[Array, ''], tuple[Float[Array, ''], PyTree]]:
  """Returns the task loss of one pass, and `(accuracy, batch_stats)`."""
  keys = jax.random.split(jax.random.fold_in(step_key, draw))
  op_weights = {
    c: parts.relaxation.weights(arch.alpha[c], k, knobs) for c, k in zip(CELL_TYPES, keys)
  }
  logits, updated = parts.net.clone(axis_name=axis_name).apply(
    {'params': params, 'batch_stats': batch_stats},
    examples.images,
    op_weights,
    _edge_scores(parts, arch),
    train=True,
    learning=learning,
    mutable=['batch_stats'],
  )
  value, accuracy = losses.pmean(losses.scores(logits, examples.labels), axis_name)
  return value, (accuracy, updated['batch_stats'])


def _evaluate(
  parts: _Parts,
  state: SearchState,
  examples: Examples,
  valid: Float[Array, 'B'],
  *,
  axis_name: str | None = None,
) -> dict[str, Float[Array, '']]:
  """Returns the sums of one batch of an evaluation, over all devices."""
  op_weights, edge_scores = _mixture(parts, state.arch, state.step)
  logits = parts.net.apply(
    {'params': state.params, 'batch_stats': state.batch_stats},
    examples.images,
    op_weights,
    edge_scores,
  )
  sums = losses.evaluation_sums(logits, examples.labels, valid)
  return sums if axis_name is None else lax.psum(sums, axis_name)


def _derive(parts: _Parts, state: SearchState) -> genotype.Genotype:
  """Returns the genotype of a state."""
  return _decode(parts, state.arch, state.step)[0]


def _decode(
  parts: _Parts, arch: Arch, step: Int[Array, ''] | int
) -> tuple[genotype.Genotype, tuple[str, ...]]:
  """Returns the genotype of architecture parameters, and the notes of the decoder."""
  knobs = _knobs_at(parts, step)
  strength = {c: parts.relaxation.strength(arch.alpha[c], knobs) for c in CELL_TYPES}
  return genotype.derive(parts.net.space, parts.table, strength, arch.beta)


def _mixture(
  parts: _Parts, arch: Arch, step: Int[Array, ''] | int
) -> tuple[dict[str, Array], dict[str, Array]]:
  """Returns the operation weights and edge scores of an evaluation, by cell type."""
  return _mean_mixture(parts, _knobs_at(parts, step), arch)


def _mean_mixture(
  parts: _Parts, knobs: Knobs, arch: Arch
) -> tuple[dict[str, Array], dict[str, Array]]:
  """Returns the same for known knobs."""
  op_weights = {c: parts.relaxation.mean(arch.alpha[c], knobs) for c in CELL_TYPES}
  return op_weights, _edge_scores(parts, arch)


def _edge_scores(parts: _Parts, arch: Arch) -> dict[str, Array]:
  """Returns the merged edge scores, by cell type."""
  return {c: topology.edge_scores(arch.beta[c], parts.table) for c in CELL_TYPES}


def _penalty_gradients(parts: _Parts, knobs: Knobs, arch: Arch) -> tuple[PyTree, Arch | None]:
  """Returns the gradients of lambda r(beta) for beta, and those of the other penalties."""
  validity = functools.partial(penalties_lib.invalid_topology, table=parts.table)
  for_beta = jax.tree.map(lambda g: parts.penalty_weight * g, jax.grad(validity)(arch.beta))
  mixture = functools.partial(_mean_mixture, parts, knobs)
  return for_beta, penalties_lib.gradients(parts.penalties, arch, mixture, knobs)


def _knobs_at(parts: _Parts, step: Int[Array, ''] | int) -> Knobs:
  """Returns the knobs at a step; ValueError if they are not named scalars."""
  step = jnp.asarray(step, jnp.int32)
  knobs = parts.knobs(step)
  if not isinstance(knobs, Mapping):
    raise ValueError(f'knobs returns a {type(knobs).__name__}; it must be a dict of scalars')
  if 'step' in knobs:
    raise ValueError("knobs names 'step', which is always there; choose another name")
  for name, value in knobs.items():
    if jnp.shape(value) != ():
      raise ValueError(f'the knob {name} has the shape {list(jnp.shape(value))}; it must be scalar')
  return {**knobs, 'step': step}
