"""The parts of a search, and the functions of them that its step and its evaluation share."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, ScalarLike

from stretchnas_jax.cells import topology
from stretchnas_jax.cells.relaxation import Knobs, Relaxation
from stretchnas_jax.cells.space import CELL_TYPES
from stretchnas_jax.data.batches.examples import Examples
from stretchnas_jax.learning import losses
from stretchnas_jax.learning import penalties as penalties_lib
from stretchnas_jax.learning.rules import Rule
from stretchnas_jax.learning.search_step import Optimizers
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.networks.supernet import Supernet

Weights = dict[str, Float[Array, 'E O']]
"""Operation weights by cell type."""

Scores = dict[str, Float[Array, ' E']]
"""Edge scores by cell type."""


class StepInputs(NamedTuple):
  """The values that all passes of one step share.

  Attributes:
    batch_stats: the running averages before the step.
    knobs: the knobs of the step.
    key: the key of all random draws of the step.
    axis_name: the parallel axis, or None.
  """

  batch_stats: PyTree
  knobs: Knobs
  key: PRNGKeyArray
  axis_name: str | None


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
  """

  net: Supernet
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

  def knobs_at(self, step: ScalarLike) -> Knobs:
    """Returns the knobs at a step, 'step' among them; ValueError if they are no named scalars."""
    step = jnp.asarray(step, jnp.int32)
    knobs = self.knobs(step)
    if not isinstance(knobs, Mapping):
      raise ValueError(f'knobs returns a {type(knobs).__name__}; it must be a dict of scalars')
    if 'step' in knobs:
      raise ValueError("knobs names 'step', which is always there; choose another name")
    for name, value in knobs.items():
      if jnp.shape(value) != ():
        shape = list(jnp.shape(value))
        raise ValueError(f'the knob {name} has the shape {shape}; it must be a scalar')
    return {**knobs, 'step': step}

  def edge_scores(self, arch: Arch) -> Scores:
    """Returns the merged edge scores by cell type."""
    return {c: topology.edge_scores(arch.beta[c], self.table) for c in CELL_TYPES}

  def mixture(self, arch: Arch, knobs: Knobs) -> tuple[Weights, Scores]:
    """Returns the operation weights and edge scores of an evaluation, by cell type.

    Args:
      arch: the architecture parameters.
      knobs: the knobs of the step.

    Returns:
      Operation weights and edge scores.
    """
    op_weights = {c: self.relaxation.mean(arch.alpha[c], knobs) for c in CELL_TYPES}
    return op_weights, self.edge_scores(arch)

  def task_loss(
    self,
    inputs: StepInputs,
    params: PyTree,
    arch: Arch,
    examples: Examples,
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
    """
    keys = jax.random.split(jax.random.fold_in(inputs.key, draw))
    op_weights = {
      c: self.relaxation.weights(arch.alpha[c], key, inputs.knobs)
      for c, key in zip(CELL_TYPES, keys)
    }
    logits, updated = self.net.clone(axis_name=inputs.axis_name).apply(
      {'params': params, 'batch_stats': inputs.batch_stats},
      examples.images,
      op_weights,
      self.edge_scores(arch),
      train=True,
      learning=learning,
      mutable=['batch_stats'],
    )
    value, accuracy = losses.pmean(losses.scores(logits, examples.labels), inputs.axis_name)
    return value, (accuracy, updated['batch_stats'])

  def penalty_gradients(self, knobs: Knobs, arch: Arch) -> tuple[PyTree, Arch | None]:
    """Returns the gradients of all penalties.

    Args:
      knobs: the knobs of the step.
      arch: where the gradients are taken.

    Returns:
      The gradients of lambda r(beta) for beta; and those of the other penalties for alpha and beta,
      None without other penalties.
    """

    def validity(beta: PyTree) -> Float[Array, '']:
      return penalties_lib.invalid_topology(beta, self.table)

    def mixture(arch: Arch) -> tuple[Weights, Scores]:
      return self.mixture(arch, knobs)

    for_beta = jax.tree.map(lambda g: self.penalty_weight * g, jax.grad(validity)(arch.beta))
    return for_beta, penalties_lib.gradients(self.penalties, arch, mixture, knobs)
