"""The parts of a search, and the functions of them that its step and its evaluation share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, ScalarLike

from stretchnas_jax.cells import decoding as decoding_lib
from stretchnas_jax.cells import genotype, topology
from stretchnas_jax.cells import relaxation as relaxation_lib
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.relaxation import Knobs, Relaxation
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.learning import losses
from stretchnas_jax.learning import penalties as penalties_lib
from stretchnas_jax.learning.rules import Rule
from stretchnas_jax.learning.search_step import Optimizers
from stretchnas_jax.learning.state import PHASE_START, Arch, StepInputs
from stretchnas_jax.networks.search_network import SearchNetwork

Weights = dict[str, Float[Array, '*L E O']]
"""Operation weights by cell type; with a leading axis of its layers where these differ."""

Scores = dict[str, Float[Array, ' E']]
"""Edge scores by cell type."""

_NETWORK_KNOBS = ('skip_dropout', 'edge_drop', 'auxiliary_skip')
_OF_NETWORK = 2  # the draws of the network, after those of the relaxation for two cell types


class SearchParts(NamedTuple):
  """The parts of a search, as `bilevel.make_search` takes them.

  Attributes:
    net: the search network.
    table: the topology table of both cell types.
    rule: the update rule.
    optimizers: of weights, alpha and beta.
    virtual_tx: the optimizer of the step that a rule looks ahead.
    penalty_weight: lambda of Eq. 15.
    relaxation: the checked relaxation.
    penalties: penalties beside r(beta).
    knobs: from the number of the step to named scalars.
    image_shape: `(H, W, C)` of one image.
    unroll: whether each loss is compiled on its own.
    together: whether the losses for alpha and beta are one batch of the network.
    decoding: the rule of decoding, or None.
  """

  net: SearchNetwork
  table: topology.TopologyTable
  rule: Rule
  optimizers: Optimizers
  virtual_tx: optax.GradientTransformation
  penalty_weight: float
  relaxation: Relaxation
  penalties: tuple[penalties_lib.Penalty, ...]
  knobs: Callable[[Int[Array, '']], Mapping[str, ScalarLike]]
  image_shape: tuple[int, ...]
  unroll: bool
  together: bool
  decoding: decoding_lib.Decoding | Mapping[str, decoding_lib.Decoding] | None = None

  def knobs_at(self, step: ScalarLike, control: PyTree = ()) -> Knobs:
    """Returns the knobs at a step.

    Args:
      step: the number of the step. The knobs of a phase count from its beginning.
      control: its scalars stand beside the knobs, or take their places.

    Returns:
      Scalars by name, 'step' among them.

    Raises:
      ValueError: the knobs are no named scalars.
    """
    step, decided = jnp.asarray(step, jnp.int32), dict(control)
    start = decided.get(PHASE_START)
    knobs = self.knobs(step if start is None else step - start)
    if not isinstance(knobs, Mapping):
      raise ValueError(f'knobs returns a {type(knobs).__name__}; it must be a dict of scalars')
    if 'step' in knobs:
      raise ValueError("knobs names 'step', which is always there; choose another name")
    for name, value in knobs.items():
      if jnp.shape(value) != ():
        shape = list(jnp.shape(value))
        raise ValueError(f'the knob {name} has the shape {shape}; it must be a scalar')
    decided = {name: value for name, value in decided.items() if name != 'allowed'}
    return {**knobs, **decided, 'step': step}

  def knobs_after(self, steps: ScalarLike, control: PyTree = ()) -> Knobs:
    """Returns the knobs of the last step, with which the state after it is evaluated and decoded.

    Before the first step of a phase they are those of that step.

    Args:
      steps: the number of steps so far.
      control: as for `knobs_at`.

    Raises:
      ValueError: the knobs are no named scalars.
    """
    start = dict(control).get(PHASE_START, 0)
    return self.knobs_at(jnp.maximum(jnp.asarray(steps, jnp.int32) - 1, start), control)

  def allowed(self, cell: str, control: PyTree) -> Bool[AnyArray, 'E O'] | None:
    """Returns which operations the edges of a cell type may have; None where all are allowed.

    Args:
      cell: the cell type.
      control: its entry 'allowed' joins that of the space.
    """
    more = dict(control).get('allowed')
    return self.net.space.allowed_on(cell, None if more is None else more[cell])

  def relaxation_of(self, cell: str, control: PyTree) -> Relaxation:
    """Returns the relaxation of a cell type, with its allowed operations.

    Args:
      cell: the cell type.
      control: see `state.SearchState`.
    """
    return relaxation_lib.restricted(self.relaxation, self.allowed(cell, control))

  def topology_logits(
    self, beta: dict[str, Float[AnyArray, 'R K']], knobs: Knobs
  ) -> dict[str, Float[AnyArray, 'R K']]:
    """Returns the logits whose softmax gives the probabilities of codes, by cell type.

    Args:
      beta: of the architecture parameters.
      knobs: 'topology_temperature' divides beta.
    """
    if 'topology_temperature' not in knobs:
      return beta
    return jax.tree.map(lambda logits: logits / knobs['topology_temperature'], beta)

  def edge_scores(self, arch: Arch, knobs: Knobs) -> Scores:
    """Returns the merged edge scores by cell type.

    Args:
      arch: the architecture parameters.
      knobs: the knobs of the step.
    """
    logits = self.topology_logits(arch.beta, knobs)
    return {c: topology.edge_scores(logits[c], self.table) for c in self.net.space.cell_types}

  def mixture(self, arch: Arch, knobs: Knobs, control: PyTree = ()) -> tuple[Weights, Scores]:
    """Returns the operation weights and edge scores of an evaluation, by cell type.

    Args:
      arch: the architecture parameters.
      knobs: the knobs of the step.
      control: see `state.SearchState`.

    Returns:
      Operation weights and edge scores.
    """
    mean = lambda c: self.relaxation_of(c, control).mean(arch.alpha[c], knobs)
    return {c: mean(c) for c in self.net.space.cell_types}, self.edge_scores(arch, knobs)

  def strength(
    self, arch: Arch, knobs: Knobs, control: PyTree = ()
  ) -> dict[str, Float[np.ndarray, '...']]:
    """Returns the numbers by which a decoder ranks operations, by cell type, on the host.

    Args:
      arch: the architecture parameters.
      knobs: the knobs of the step.
      control: see `state.SearchState`.

    Returns:
      `[E, O]`, or `[L, E, O]` where layers have logits of their own.
    """
    of = lambda c: self.relaxation_of(c, control).strength(arch.alpha[c], knobs)
    return {c: np.asarray(of(c)) for c in self.net.space.cell_types}

  def decode(
    self, arch: Arch, knobs: Knobs, control: PyTree = ()
  ) -> tuple[genotype.AnyGenotype, tuple[str, ...]]:
    """Decodes the architecture, on the host.

    Args:
      arch: the architecture parameters.
      knobs: the knobs of the step.
      control: see `state.SearchState`.

    Returns:
      The genotype, and a sentence for each thing that was averaged, repaired or pruned.
    """
    strength = self.strength(arch, knobs, control)
    notes = [
      f'{c} cell: its {len(values)} layers have logits of their own, whose mean was decoded'
      for c, values in strength.items()
      if values.ndim == 3 and len(values) > 1
    ]
    strength = {c: values.mean(0) if values.ndim == 3 else values for c, values in strength.items()}
    found, more = genotype.derive(
      self.net.space,
      self.table,
      strength,
      arch.beta,
      decoding=self.decoding,
      allowed=dict(control).get('allowed'),
    )
    return found, (*notes, *more)

  def network_inputs(
    self, knobs: Knobs, key: PRNGKeyArray | None = None, draw: Int[Array, ''] | int = 0
  ) -> dict[str, Any]:
    """Returns the arguments that only some networks have: 'knobs' and 'key'.

    Args:
      knobs: the knobs of the step.
      key: of all random draws of the step. None in an evaluation.
      draw: the number of the random draws of the pass.
    """
    named = {name: knobs[name] for name in _NETWORK_KNOBS if name in knobs}
    found: dict[str, Any] = {'knobs': named} if named else {}
    if key is not None and (named or 'noise' in self.net.space.primitives):
      found['key'] = jax.random.fold_in(jax.random.fold_in(key, draw), _OF_NETWORK)
    return found

  def task_loss(
    self,
    inputs: StepInputs,
    params: PyTree,
    arch: Arch,
    examples: Examples | None,
    draw: Int[Array, ''] | int,
    learning: Float[Array, ''] | float = 1.0,
  ) -> tuple[Float[Array, ''], tuple[Float[Array, ''], PyTree]]:
    """Returns the task loss of one pass, averaged over devices.

    Args:
      inputs: the values that the passes of the step share.
      params: the weights.
      arch: the architecture parameters.
      examples: the examples of the pass.
      draw: the number of its random draws, see `state.LossFn`.
      learning: 0 where the gradients for the weights are not wanted.

    Returns:
      The loss, and `(accuracy, batch_stats)`.

    Raises:
      ValueError: there are no examples.
    """
    if examples is None:
      raise ValueError(
        'the rule takes the loss of a part that the batch does not have: config.data.split decides '
        'which there are'
      )
    keys = jax.random.split(jax.random.fold_in(inputs.key, draw))
    op_weights = {
      c: self.relaxation_of(c, inputs.control).weights(arch.alpha[c], key, inputs.knobs)
      for c, key in zip(self.net.space.cell_types, keys)
    }
    logits, updated = self.net.clone(axis_name=inputs.axis_name).apply(
      {'params': params, 'batch_stats': inputs.batch_stats},
      examples.images,
      op_weights,
      self.edge_scores(arch, inputs.knobs),
      train=True,
      learning=learning,
      mutable=['batch_stats'],
      **self.network_inputs(inputs.knobs, inputs.key, draw),
    )
    value, accuracy = losses.pmean(losses.scores(logits, examples.labels), inputs.axis_name)
    return value, (accuracy, updated['batch_stats'])

  def penalty_gradients(
    self, knobs: Knobs, control: PyTree, arch: Arch
  ) -> tuple[PyTree, Arch | None]:
    """Returns the gradients of all penalties.

    Args:
      knobs: the knobs of the step.
      control: see `state.SearchState`.
      arch: where the gradients are taken.

    Returns:
      The gradients of lambda r(beta) for beta; and those of the other penalties for alpha and beta,
      None without other penalties.
    """

    def validity(beta: PyTree) -> Float[Array, '']:
      return penalties_lib.invalid_topology(self.topology_logits(beta, knobs), self.table)

    def mixture(arch: Arch) -> tuple[Weights, Scores]:
      return self.mixture(arch, knobs, control)

    for_beta = jax.tree.map(lambda g: self.penalty_weight * g, jax.grad(validity)(arch.beta))
    return for_beta, penalties_lib.gradients(self.penalties, arch, mixture, knobs)
