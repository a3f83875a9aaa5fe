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
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, ScalarLike

from stretchnas_jax.cells import decoding as decoding_lib
from stretchnas_jax.cells import genotype, topology
from stretchnas_jax.cells import relaxation as relaxation_lib
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.promotion import with_usual_promotion
from stretchnas_jax.cells.relaxation import Relaxation
from stretchnas_jax.data.batches.examples import Batch, Examples
from stretchnas_jax.learning import evaluation, losses, scanned_step, search_step
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
from stretchnas_jax.learning.search_parts import Scores, SearchParts, Weights
from stretchnas_jax.learning.second_order import virtual_step
from stretchnas_jax.learning.state import AVERAGES_START, Arch, Context, SearchState, StepInputs
from stretchnas_jax.networks import initializers
from stretchnas_jax.networks.running_averages import settle
from stretchnas_jax.networks.search_network import SearchNetwork

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

  All functions beside `init` and `step` look back: they take the knobs of the last of `step` steps.

  Attributes:
    init: `init(key) -> state`.
    step: `step(state, batch, key, *, axis_name=None) -> state, metrics`, one step.
    evaluate: `evaluate(state, examples, valid, *, axis_name=None) -> sums` over the examples whose
      `valid` is 1: loss, correct and count. In place of `state.arch` it takes a
      `evaluation.Mixture`.
    derive: `derive(state) -> Genotype`, on the host.
    decode: `decode(arch, step, control=()) -> genotype, notes`, the same with a sentence for each
      thing that was repaired or pruned.
    mixture: `mixture(arch, step, control=()) -> op_weights, edge_scores` of an evaluation, by cell
      type.
    strength: `strength(arch, step, control=())`, the numbers by which decoding ranks operations, by
      cell type, on the host.
    network_inputs: `network_inputs(step, control=())`, the arguments of an evaluation that only
      some networks have.
    topology_logits: `topology_logits(arch, step, control=())`, beta over its temperature, by cell
      type: the logits of the probabilities of codes.
  """

  init: Callable[..., SearchState]
  step: Callable[..., tuple[SearchState, search_step.Metrics]]
  evaluate: Callable[..., dict[str, Float[Array, '']]]
  derive: Callable[..., genotype.AnyGenotype]
  decode: Callable[..., tuple[genotype.AnyGenotype, tuple[str, ...]]]
  mixture: Callable[..., tuple[Weights, Scores]]
  strength: Callable[..., dict[str, Float[np.ndarray, '...']]]
  network_inputs: Callable[..., dict[str, Any]]
  topology_logits: Callable[..., dict[str, Float[AnyArray, 'R K']]]


def make_search(
  net: SearchNetwork,
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
  knobs: Callable[[Int[Array, '']], Mapping[str, ScalarLike]] | None = None,
  image_shape: tuple[int, ...] = (32, 32, 3),
  unroll: bool = False,
  together: bool = False,
  decoding: decoding_lib.Decoding | Mapping[str, decoding_lib.Decoding] | None = None,
) -> Search:
  """Builds a search from its parts.

  Args:
    net: the search network: a `Supernet`, or a `NasBenchSupernet`.
    table: the topology table of both cell types.
    rule: an update rule, or a function `(loss_fn, params, arch, batch) -> Arch` of gradients.
    weights_tx: the optimizer of the weights.
    arch_tx: the optimizer of alpha.
    beta_tx: the optimizer of beta. None for `arch_tx`, with a state of its own.
    virtual_tx: the optimizer of the step that a second-order rule looks ahead. It reads the state
      of `weights_tx`, and None stands for that one. DARTS' has no clipping.
    penalty_weight: lambda of Eq. 15.
    relaxation: how alpha becomes operation weights.
    penalties: functions `(arch, op_weights, edge_scores, knobs) -> scalar`, with the operation
      weights of an evaluation. Their gradients join those of the rule once in a step.
    knobs: from the number of the step to named scalars. It is traced, so that nothing compiles
      again when a knob changes. Relaxation, rule and penalties see these and 'step'. Where
      'moves_arch' is 0, alpha and beta rest, and the losses for them are not computed.
    image_shape: `(H, W, C)` of one image.
    unroll: compile each loss of a rule with passes on its own, with only the gradients that it
      needs, instead of one body for all: steps take less time and compilation more.
    together: pass all losses of alpha and beta through the network as one batch, each with its own
      moments and draws. A GPU then starts fewer kernels, and maps take more memory.
    decoding: how a cell is read off, see `cells.decoding`; None for the way of the table.

  Returns:
    The functions of the search.

  Raises:
    ValueError: the table does not fit the graph, the rule is none, or `together` needs another.

  Example:
    >>> space = snas.darts_space(1)
    >>> table = topology.output_subsets(space.graph)
    >>> optimizers = snas.optimizers.weights_tx(10), snas.optimizers.arch_tx()
    >>> net = snas.Supernet(space, channels=2, num_layers=1, num_classes=3)
    >>> search = make_search(
    ...   net, table, mixed(), weights_tx=optimizers[0], arch_tx=optimizers[1]
    ... )
    >>> jax.eval_shape(search.init, jax.random.key(0)).arch.beta['normal'].shape  # [R, K]
    (2, 2)
  """
  topology.check_table(table, net.space.graph)
  rule = as_rule(rule)
  if together and not rule.may_run_together:
    raise ValueError('together is True; the rule must have passes, and none with the weights')
  parts = SearchParts(
    net,
    table,
    rule,
    search_step.Optimizers(weights_tx, arch_tx, beta_tx or arch_tx),
    virtual_tx or weights_tx,
    penalty_weight,
    relaxation_lib.checked(relaxation_lib.by_layer(relaxation), net.space),
    tuple(penalties),
    knobs or _no_knobs,
    image_shape,
    unroll,
    together,
    decoding,
  )
  return _functions(parts)


def _functions(parts: SearchParts) -> Search:
  """Returns the functions of a search."""

  @with_usual_promotion
  def init(key: PRNGKeyArray) -> SearchState:
    return _init(parts, key)

  @with_usual_promotion
  def step(
    state: SearchState, batch: Batch, key: PRNGKeyArray, *, axis_name: str | None = None
  ) -> tuple[SearchState, search_step.Metrics]:
    return _step(parts, state, batch, key, axis_name)

  @with_usual_promotion
  def evaluate(
    state: SearchState,
    examples: Examples,
    valid: Float[AnyArray, ' B'],
    *,
    axis_name: str | None = None,
  ) -> dict[str, Float[Array, '']]:
    return evaluation.evaluate(parts, state, examples, valid, axis_name)

  def looking_back(of: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of an architecture and its knobs as one of the number of steps."""

    @with_usual_promotion
    def at(arch: Any, step: ScalarLike, control: PyTree = ()) -> Any:
      return of(arch, parts.knobs_after(step, control), control)

    return at

  decode = looking_back(parts.decode)

  def derive(state: SearchState) -> genotype.AnyGenotype:
    return decode(state.arch, state.step, state.control)[0]

  @with_usual_promotion
  def network_inputs(step: ScalarLike, control: PyTree = ()) -> dict[str, Any]:
    return parts.network_inputs(parts.knobs_after(step, control))

  mixture, strength = looking_back(parts.mixture), looking_back(parts.strength)
  logits = looking_back(lambda arch, knobs, control: parts.topology_logits(arch.beta, knobs))
  return Search(init, step, evaluate, derive, decode, mixture, strength, network_inputs, logits)


def _no_knobs(step: Int[Array, '']) -> dict[str, ScalarLike]:
  """Returns no knobs: nothing changes with the step."""
  del step
  return {}


def _init(parts: SearchParts, key: PRNGKeyArray) -> SearchState:
  """Returns the state before the first step."""
  for_net, *for_arch = jax.random.split(key, 5)
  variables = initializers.init(parts.net, for_net, jnp.zeros((2, *parts.image_shape)))
  alpha = {c: _init_alpha(parts, c, k) for c, k in zip(parts.net.space.cell_types, for_arch[:2])}
  beta = {
    c: topology.init_beta(k, parts.table) for c, k in zip(parts.net.space.cell_types, for_arch[2:])
  }
  params, tx = variables['params'], parts.optimizers
  return SearchState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=variables['batch_stats'],
    arch=Arch(alpha, beta),
    weights_opt=tx.weights.init(params),
    alpha_opt=tx.alpha.init(alpha),
    beta_opt=tx.beta.init(beta),
  )


def _init_alpha(parts: SearchParts, cell: str, key: PRNGKeyArray) -> PyTree:
  """Returns the first logits of a cell type, for each of its layers where these differ."""
  net, init = parts.net, parts.relaxation.init
  if not parts.relaxation.per_layer:
    return init(key, net.space)
  keys = jax.random.split(key, net.num_cells_of(cell))
  return jax.vmap(lambda key: init(key, net.space))(keys)


def _step(
  parts: SearchParts,
  state: SearchState,
  batch: Batch,
  key: PRNGKeyArray,
  axis_name: str | None,
) -> tuple[SearchState, search_step.Metrics]:
  """Makes one step of the architecture and of the weights, in the order of the rule."""
  knobs = parts.knobs_at(state.step, state.control)
  key = jax.random.fold_in(key, state.step)
  inputs = StepInputs(state.batch_stats, knobs, state.control, key, axis_name)

  def context(weights_opt: PyTree) -> Context:
    ahead = functools.partial(virtual_step, parts.virtual_tx, weights_opt, axis_name)
    return Context(knobs, ahead, functools.partial(losses.pmean, axis_name=axis_name))

  step_parts = search_step.StepParts(
    rule=parts.rule,
    optimizers=parts.optimizers,
    loss=functools.partial(parts.task_loss, inputs),
    penalty_gradients=functools.partial(parts.penalty_gradients, knobs, state.control),
    knobs=knobs,
    context=context,
    axis_name=axis_name,
    together=parts.together,
  )
  unrolled = parts.unroll or parts.together or parts.rule.passes is None
  run = search_step.unrolled_step if unrolled else scanned_step.scanned_step
  after, metrics = run(step_parts, state, batch)
  logits = parts.topology_logits(after.arch.beta, knobs)
  metrics['penalty'] = penalties_lib.invalid_topology(logits, parts.table)
  start = dict(state.control).get(AVERAGES_START)
  averaged = state.step if start is None else state.step - start
  batch_stats = settle(parts.net, state.batch_stats, after.batch_stats, averaged)
  return after._replace(step=after.step + 1, batch_stats=batch_stats), metrics
