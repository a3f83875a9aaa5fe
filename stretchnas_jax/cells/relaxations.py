"""The relaxations of published methods, each a `Relaxation` for `make_search` and `get_parts`.

Alpha is one array `[E, O]` unless a docstring says otherwise. A weight of an evaluation is the
expectation of the weight of a pass, so that an expected cost can be read off it. The Gumbel softmax
has its limit at T = 0 there, softmax(alpha); the expectation at a higher T is another number.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.relaxation import (
  Init,
  Knobs,
  Relaxation,
  mask_logits,
  normal_init,
  softmax_strength,
)

# DOTS divides the temperature once more for the choice between its groups.
_BALANCE_TEMPERATURE = 1e-3


def sigmoid(init: Init | None = None) -> Relaxation:
  """Builds gates that do not compete: `w = 1 / (1 + exp(-alpha))` (Chu et al. 2020).

  Args:
    init: the initial logits. None for zeros, so that all gates are half open.

  Returns:
    The relaxation.

  Example:
    >>> sigmoid().mean(jnp.zeros((1, 3)), {}).tolist()
    [[0.5, 0.5, 0.5]]
  """

  def weights(
    alpha: Float[AnyArray, 'E O'], key: PRNGKeyArray, knobs: Knobs
  ) -> Float[Array, 'E O']:
    del key
    return mean(alpha, knobs)

  def mean(alpha: Float[AnyArray, 'E O'], knobs: Knobs) -> Float[Array, 'E O']:
    del knobs
    return jax.nn.sigmoid(alpha)

  def strength(alpha: Float[AnyArray, 'E O'], knobs: Knobs) -> Float[np.ndarray, 'E O']:
    del knobs
    return np.exp(-np.logaddexp(0.0, -np.asarray(alpha, np.float64)))

  return Relaxation(init or normal_init(0.0), weights, mean, strength)


def gumbel(temperature: float = 1.0, init: Init | None = None) -> Relaxation:
  """Builds the Gumbel softmax of SNAS: `softmax((alpha + g) / T)` (Xie et al. 2019).

  One g is drawn for each pass and cell type. In an evaluation there is no noise and T is 1.

  Args:
    temperature: T. A knob named 'temperature' takes its place.
    init: the initial logits. None for 1e-3 times normal noise; SNAS has N(1, 0.01).

  Returns:
    The relaxation.

  Example:
    >>> alpha, key = jnp.array([[0.0, 2.0]]), jax.random.key(0)
    >>> gumbel(temperature=0.1).weights(alpha, key, {}).round(2).tolist()
    [[0.0, 1.0]]
  """

  def weights(
    alpha: Float[AnyArray, 'E O'], key: PRNGKeyArray, knobs: Knobs
  ) -> Float[Array, 'E O']:
    return jax.nn.softmax(_noisy(alpha, key, knobs.get('temperature', temperature)), axis=-1)

  return Relaxation(init or normal_init(), weights, _probabilities, softmax_strength)


def gdas(temperature: float = 1.0, init: Init | None = None) -> Relaxation:
  """Builds the sampled operation of GDAS (Dong and Yang 2019).

  With `p = softmax((log_softmax(alpha) + g) / T)` the weights are 1 for the operation i of the
  largest p, else 0. Only that weight has a gradient, that of `p_i`: `p_i (1[i=j] - p_j) / T`. So
  the other operations need not be computed.

  Args:
    temperature: T. A knob named 'temperature' takes its place.
    init: the initial logits. None for 1e-3 times normal noise.

  Returns:
    The relaxation.

  Example:
    >>> alpha, key = jnp.array([[0.0, 2.0]]), jax.random.key(0)
    >>> gdas().weights(alpha, key, {}).tolist()
    [[0.0, 1.0]]
  """

  def weights(
    alpha: Float[AnyArray, 'E O'], key: PRNGKeyArray, knobs: Knobs
  ) -> Float[Array, 'E O']:
    probs = jax.nn.softmax(_noisy(alpha, key, knobs.get('temperature', temperature)), axis=-1)
    # The difference is 0; the product keeps the gradient of the sampled entry alone.
    return _one_hot(probs) * (1.0 + (probs - lax.stop_gradient(probs)))

  return Relaxation(init or normal_init(), weights, _probabilities, softmax_strength, sparse=True)


def straight_through(
  temperature: float = 1.0, noise: bool = True, init: Init | None = None
) -> Relaxation:
  """Builds a sampled operation whose weights have the gradients of all probabilities.

  With `p` as below the weights are 1 for one operation, else 0, with the gradient
  `p_k (1[k=j] - p_j) / T` of each weight k.

  Args:
    temperature: T. A knob named 'temperature' takes its place.
    noise: True: `p = softmax((alpha + g) / T)` and its largest entry is taken (Jang et al. 2017).
      False: `p = softmax(alpha / T)`, from which the operation is drawn: the binary gates of
      ProxylessNAS (Cai et al. 2019).
    init: the initial logits. None for 1e-3 times normal noise.

  Returns:
    The relaxation.

  Example:
    >>> alpha, key = jnp.array([[0.0, 2.0]]), jax.random.key(0)
    >>> straight_through(noise=False).weights(alpha, key, {}).tolist()
    [[0.0, 1.0]]
  """

  def weights(
    alpha: Float[AnyArray, 'E O'], key: PRNGKeyArray, knobs: Knobs
  ) -> Float[Array, 'E O']:
    divisor = knobs.get('temperature', temperature)
    if noise:
      probs = jax.nn.softmax(_noisy(alpha, key, divisor), axis=-1)
      chosen = _one_hot(probs)
    else:
      probs = jax.nn.softmax(alpha / divisor, axis=-1)
      chosen = jax.nn.one_hot(jax.random.categorical(key, alpha / divisor), alpha.shape[-1])
    return lax.stop_gradient(chosen) + (probs - lax.stop_gradient(probs))

  return Relaxation(init or normal_init(), weights, _probabilities, softmax_strength)


def dirichlet(init: Init | None = None) -> Relaxation:
  """Builds weights that are drawn from a Dirichlet distribution (DrNAS, Chen et al. 2021).

  Its concentration is `elu(alpha) + 1`, and the draw is differentiable in it. In an evaluation the
  weights are the mean of the distribution. The strength is the softmax of alpha, as in DrNAS.

  Args:
    init: the initial logits. None for 1e-3 times normal noise.

  Returns:
    The relaxation.

  Example:
    >>> alpha, key = jnp.array([[0.0, 2.0]]), jax.random.key(0)
    >>> round(float(dirichlet().weights(alpha, key, {}).sum()), 4)
    1.0
  """

  def weights(
    alpha: Float[AnyArray, 'E O'], key: PRNGKeyArray, knobs: Knobs
  ) -> Float[Array, 'E O']:
    del knobs
    allowed = jnp.isfinite(alpha)
    # Draws without some operations, divided by their sum, are those of the others alone.
    drawn = jax.random.dirichlet(key, concentration(jnp.where(allowed, alpha, 0.0)))
    kept = jnp.where(allowed, drawn, 0.0)
    return kept / kept.sum(-1, keepdims=True)

  def mean(alpha: Float[AnyArray, 'E O'], knobs: Knobs) -> Float[Array, 'E O']:
    del knobs
    allowed = jnp.isfinite(alpha)
    kept = jnp.where(allowed, concentration(jnp.where(allowed, alpha, 0.0)), 0.0)
    return kept / kept.sum(-1, keepdims=True)

  return Relaxation(init or normal_init(), weights, mean, softmax_strength)


def concentration(alpha: Float[AnyArray, '*L E O']) -> Float[Array, '*L E O']:
  """Returns the parameters of DrNAS' Dirichlet distributions: `elu(alpha) + 1`, above 0.

  Example:
    >>> concentration(jnp.array([[0.0, 2.0]])).tolist()
    [[1.0, 3.0]]
  """
  return jax.nn.elu(alpha) + 1.0


def groups(
  members: Sequence[Sequence[int]],
  temperature: float = 1.0,
  balance: bool = False,
  init: Init | None = None,
) -> Relaxation:
  """Builds softmaxes over groups of operations, which do not compete with each other (DOTS).

  Alpha has the logits 'operations' `[E, O]` and 'balance' `[E, G]` for G groups. Without balance
  each group has a softmax of its own, so that the weights of an edge sum to G. With balance these
  softmaxes are multiplied by `softmax(balance / (1e-3 T))`, the choice between the groups of the
  second phase of DOTS (Gu et al. 2021). There each group has one allowed operation left.

  Args:
    members: the places of the operations of each group; each operation is in one group.
    temperature: T. A knob named 'temperature' takes its place.
    balance: whether the groups compete.
    init: the initial logits of the operations. None for zeros, as in DOTS; so are those of balance.

  Returns:
    The relaxation.

  Raises:
    ValueError: an operation is in no group or in several.

  Example:
    >>> relaxation = groups(((0, 1), (2, 3)))
    >>> alpha = {'operations': jnp.zeros((1, 4)), 'balance': jnp.zeros((1, 2))}
    >>> relaxation.mean(alpha, {}).tolist()
    [[0.5, 0.5, 0.5, 0.5]]
  """
  places = sorted(o for group in members for o in group)
  if places != list(range(len(places))):
    raise ValueError(f'members is {members!r}; each operation must be in exactly one group')
  of_group = np.zeros((len(members), len(places)), bool)
  for g, group in enumerate(members):
    of_group[g, list(group)] = True
  first = init or normal_init(0.0)

  def start(key: PRNGKeyArray, space: space_lib.SearchSpace) -> dict[str, Float[Array, '...']]:
    zeros = jnp.zeros((len(space.graph.edges), len(members)))
    return {'operations': first(key, space), 'balance': zeros}

  def parts(alpha: PyTree, divisor: PyTree) -> list[Float[Array, 'E O']]:
    """Returns the softmax of each group, 0 for the operations of the others."""
    found = []
    for own in of_group:
      inside = own & jnp.isfinite(alpha['operations'])
      logits = mask_logits(alpha['operations'] / divisor, inside)
      # A group without any allowed operation has the weight 0.
      probs = jax.nn.softmax(jnp.where(inside.any(-1, keepdims=True), logits, 0.0), axis=-1)
      found.append(jnp.where(inside, probs, 0.0))
    return found

  def mixed(alpha: PyTree, divisor: PyTree, of_balance: PyTree) -> Float[Array, 'E O']:
    stacked = jnp.stack(parts(alpha, divisor), axis=1)
    if not balance:
      return stacked.sum(1)
    return (jax.nn.softmax(alpha['balance'] / of_balance, axis=-1)[:, :, None] * stacked).sum(1)

  def mean(alpha: PyTree, knobs: Knobs) -> Float[Array, 'E O']:
    divisor = knobs.get('temperature', temperature)
    return mixed(alpha, divisor, _BALANCE_TEMPERATURE * divisor)

  def strength(alpha: PyTree, knobs: Knobs) -> Float[np.ndarray, 'E O']:
    del knobs
    return np.asarray(mixed(alpha, 1.0, 1.0))

  def mask(alpha: PyTree, allowed: Bool[AnyArray, 'E O']) -> PyTree:
    return alpha | {'operations': jnp.where(allowed, alpha['operations'], -jnp.inf)}

  return Relaxation(start, lambda alpha, key, knobs: mean(alpha, knobs), mean, strength, mask)


def _probabilities(alpha: Float[AnyArray, 'E O'], knobs: Knobs) -> Float[Array, 'E O']:
  """Returns the probabilities with which operations are drawn."""
  del knobs
  return jax.nn.softmax(alpha, axis=-1)


def _noisy(
  alpha: Float[AnyArray, 'E O'], key: PRNGKeyArray, temperature: PyTree
) -> Float[Array, 'E O']:
  """Returns `(alpha + g) / T` with Gumbel noise g."""
  noise = jax.random.gumbel(key, alpha.shape, alpha.dtype)
  return (jax.nn.log_softmax(alpha, axis=-1) + noise) / temperature


def _one_hot(probs: Float[Array, 'E O']) -> Float[Array, 'E O']:
  return jax.nn.one_hot(probs.argmax(-1), probs.shape[-1], dtype=probs.dtype)
