"""Penalties of the architecture: scalars whose gradients join those of the update rule.

A penalty is a function `(arch, op_weights, edge_scores, knobs) -> scalar`. `op_weights` are the
mean operation weights `[E, O]` and `edge_scores` the merged scores `[E]`, in a dict by cell type.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stretchnas_jax.cells import topology
from stretchnas_jax.cells.relaxation import Knobs
from stretchnas_jax.learning.state import Arch

Penalty = Callable[
  [Arch, Mapping[str, Float[Array, 'E O']], Mapping[str, Float[Array, ' E']], Knobs],
  Float[Array, ''],
]
_Mixture = Callable[
  [Arch], tuple[Mapping[str, Float[Array, 'E O']], Mapping[str, Float[Array, ' E']]]
]


def invalid_topology(
  beta: Mapping[str, Float[Array, 'R K']], table: topology.TopologyTable
) -> Float[Array, '']:
  """Returns r(beta), summed over the cell types (Eq. 14).

  Args:
    beta: the topology logits by cell type.
    table: the table of both.

  Returns:
    A scalar.
  """
  return sum(topology.invalid_topology_penalty(one, table) for one in beta.values())


def gradients(
  penalties: Sequence[Penalty], arch: Arch, mixture: _Mixture, knobs: Knobs
) -> Arch | None:
  """Returns the gradients of the sum of penalties for alpha and beta.

  Args:
    penalties: any number of penalties.
    arch: where the gradients are taken.
    mixture: from `arch` to the operation weights and edge scores of an evaluation.
    knobs: the knobs of the step.

  Returns:
    An `Arch` of gradients; None without penalties.

  Raises:
    ValueError: a penalty is not a scalar.
  """
  if not penalties:
    return None

  def total(arch: Arch) -> Float[Array, '']:
    op_weights, edge_scores = mixture(arch)
    return sum(
      _scalar(penalty, penalty(arch, op_weights, edge_scores, knobs)) for penalty in penalties
    )

  return jax.grad(total)(arch)


def _scalar(penalty: Penalty, value: object) -> Float[Array, '']:
  """Returns the value of a penalty; ValueError if it is not a scalar."""
  name = getattr(penalty, '__name__', type(penalty).__name__)
  try:
    value = jnp.asarray(value)
  except TypeError:
    found = f'a {type(value).__name__}'
  else:
    if value.shape == () and jnp.issubdtype(value.dtype, jnp.floating):
      return value
    found = f'{value.dtype} of the shape {list(value.shape)}'
  raise ValueError(f'the penalty {name} returns {found}; it must be a floating-point scalar')
