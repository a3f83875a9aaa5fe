"""Penalties of the architecture: scalars whose gradients join those of the update rule.

A penalty is a function `(arch, op_weights, edge_scores, knobs) -> scalar`. `op_weights` are the
mean operation weights `[E, O]` and `edge_scores` the merged scores `[E]`, in a dict by cell type.
An operation that is not allowed has the mean weight 0.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Bool, Float

from stretchnas_jax.cells import relaxations, topology
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.relaxation import Knobs
from stretchnas_jax.learning.state import Arch

_Weights = Mapping[str, Float[AnyArray, '*L E O']]
_Scores = Mapping[str, Float[AnyArray, ' E']]
_Value = Float[Array, '']
_Mixture = Callable[[Arch], tuple[_Weights, _Scores]]

Penalty = Callable[[Arch, _Weights, _Scores, Knobs], _Value]


def invalid_topology(
  beta: Mapping[str, Float[Array, 'R K']], table: topology.TopologyTable
) -> Float[Array, '']:
  """Returns r(beta), summed over the cell types (Eq. 14).

  Args:
    beta: the topology logits by cell type.
    table: the table of both.

  Returns:
    A scalar.

  Example:
    >>> table = topology.output_subsets(snas.CellGraph(1))
    >>> empty = jnp.array([[1.0, 0.0], [1.0, 0.0]])  # both inputs choose no edge
    >>> round(float(invalid_topology({'normal': empty}, table)), 3)
    0.4
  """
  return sum(topology.invalid_topology_penalty(one, table) for one in beta.values())


def zero_one(weight: float) -> Penalty:
  """Builds Fair DARTS' loss `-weight * mean((w - 0.5)^2)`, which drives gates to 0 or 1.

  The mean is over the weights of both cell types (Chu et al. 2020; the form L2 of its code).

  Args:
    weight: the factor; 10 in the paper.

  Returns:
    The penalty.

  Example:
    >>> arch = snas.Arch({'normal': jnp.zeros((1, 2))}, {})
    >>> weights = {'normal': jnp.full((1, 2), 0.5)}
    >>> float(zero_one(10.0)(arch, {'normal': jnp.array([[0.0, 1.0]])}, {}, {}))
    -2.5
  """

  def zero_one_loss(arch: Arch, op_weights: _Weights, edge_scores: _Scores, knobs: Knobs) -> _Value:
    del arch, edge_scores, knobs
    count = sum(w.size for w in op_weights.values())
    total = sum(((w - 0.5) ** 2).sum() for w in op_weights.values())
    return -weight * total / count

  return zero_one_loss


def logsumexp(weight: float) -> Penalty:
  """Builds beta-DARTS' decay: `weight` times the mean of `logsumexp(alpha)` (Ye et al. 2022).

  The mean is over the edges of both cell types. Its gradient is `weight * softmax(alpha)` over the
  number of edges.

  Args:
    weight: the factor. A knob named 'logsumexp_factor' multiplies it.

  Returns:
    The penalty; alpha must be one array `[E, O]`, or `[L, E, O]`.

  Example:
    >>> arch = snas.Arch({'normal': jnp.zeros((1, 2))}, {})
    >>> weights = {'normal': jnp.full((1, 2), 0.5)}
    >>> round(float(logsumexp(1.0)(arch, weights, {}, {})), 3)
    0.693
  """

  def beta_decay(arch: Arch, op_weights: _Weights, edge_scores: _Scores, knobs: Knobs) -> _Value:
    del edge_scores
    rows = [
      jax.nn.logsumexp(arch.alpha[cell], axis=-1, where=op_weights[cell] > 0).ravel()
      for cell in op_weights
    ]
    return weight * knobs.get('logsumexp_factor', 1.0) * jnp.concatenate(rows).mean()

  return beta_decay


def kl(weight: float) -> Penalty:
  """Builds DrNAS' `weight * sum KL(Dir(elu(alpha) + 1) || Dir(1))` (Chen et al. 2021).

  The sum is over the edges of both cell types.

  Args:
    weight: the factor; 1e-3 in the code of DrNAS, which then has no weight decay of alpha.

  Returns:
    The penalty; alpha must be one array `[E, O]`, or `[L, E, O]`.

  Example:
    >>> arch = snas.Arch({'normal': jnp.ones((1, 2))}, {})
    >>> weights = {'normal': jnp.full((1, 2), 0.5)}
    >>> round(float(kl(1.0)(arch, weights, {}, {})), 3)
    0.125
  """

  def divergence(arch: Arch, op_weights: _Weights, edge_scores: _Scores, knobs: Knobs) -> _Value:
    del edge_scores, knobs
    return weight * sum(
      _divergence(relaxations.concentration(arch.alpha[cell]), op_weights[cell] > 0).sum()
      for cell in op_weights
    )

  return divergence


def expected_cost(weight: float, expected: Callable[..., _Value]) -> Penalty:
  """Builds `weight` times an expected cost of the network.

  Args:
    weight: the factor. A knob named 'cost_multiplier' multiplies it.
    expected: `expected(op_weights, edge_scores) -> scalar`, see `networks.operation_costs`.

  Returns:
    The penalty.

  Example:
    >>> arch = snas.Arch({'normal': jnp.zeros((1, 2))}, {})
    >>> weights = {'normal': jnp.full((1, 2), 0.5)}
    >>> macs = lambda op_weights, scores: (op_weights['normal'] * jnp.array([0.0, 6.0])).sum()
    >>> round(float(expected_cost(0.1, macs)(arch, weights, {}, {})), 3)
    0.3
  """

  def cost(arch: Arch, op_weights: _Weights, edge_scores: _Scores, knobs: Knobs) -> _Value:
    del arch
    return weight * knobs.get('cost_multiplier', 1.0) * expected(op_weights, edge_scores)

  return cost


def _divergence(
  concentration: Float[Array, '*L E O'], allowed: Bool[Array, '*L E O']
) -> Float[Array, '*L E']:
  """Returns the KL divergence of Dirichlet distributions from uniform ones, of allowed entries."""
  own = jnp.where(allowed, concentration, 1.0)
  count = jnp.maximum(allowed.sum(-1), 1)
  total = jnp.where(allowed, own, 0.0).sum(-1)
  total = jnp.where(total > 0, total, 1.0)
  terms = (own - 1) * (digamma(own) - digamma(total)[..., None]) - gammaln(own)
  return gammaln(total) - gammaln(count.astype(total.dtype)) + terms.sum(-1)


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

  Example:
    >>> arch = snas.Arch({'normal': jnp.zeros((1, 2))}, {})
    >>> weights = {'normal': jnp.full((1, 2), 0.5)}
    >>> found = gradients((logsumexp(1.0),), arch, lambda arch: (weights, {}), {})
    >>> found.alpha['normal'].tolist()
    [[0.5, 0.5]]
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
