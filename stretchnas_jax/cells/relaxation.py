"""Relaxations of the choice of an operation.

A relaxation says how logits become the weights of the E x O operations of a cell: in a pass of a
step, in an evaluation, and where a cell is decoded. `softmax` is the one of DARTS. The module
`relaxations` has the others. For one of your own, fill the first four fields of `Relaxation`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, ScalarLike

from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.cells.arrays import AnyArray

Knobs = Mapping[str, ScalarLike]
"""Numbers that change with the step, by name; 'step' is always there."""

Init = Callable[[PRNGKeyArray, space_lib.SearchSpace], PyTree]
"""`init(key, space) -> alpha`, the logits of one cell type of a new search."""


def mask_logits(
  alpha: Float[AnyArray, '*L E O'], allowed: Bool[AnyArray, 'E O']
) -> Float[Array, '*L E O']:
  """Puts minus infinity where an operation is not allowed.

  A row without any allowed operation stays as it is, so that a softmax over it is finite. The
  search sets the weights of such a row to 0.

  Args:
    alpha: the logits.
    allowed: which operations an edge may have.

  Returns:
    The logits, whose exponentials are 0 where an operation is not allowed.

  Example:
    >>> mask_logits(jnp.zeros((1, 3)), np.array([[True, False, True]])).tolist()
    [[0.0, -inf, 0.0]]
  """
  return jnp.where(allowed | ~allowed.any(-1, keepdims=True), alpha, -jnp.inf)


class Relaxation(NamedTuple):
  """Operation logits as operation weights; alpha is any pytree of one cell type.

  Attributes:
    init: `init(key, space) -> alpha`, the logits of a new search.
    weights: `weights(alpha, key, knobs) -> [E, O]`, the operation weights of one pass; the key is
      for relaxations that draw, and each pass has its own.
    mean: `mean(alpha, knobs) -> [E, O]`, the operation weights of an evaluation; it never draws.
    strength: `strength(alpha, knobs) -> [E, O]`, the numbers by which a decoder ranks operations
      and edges; not negative, since many decodings multiply them by edge scores. Where all are at
      most 1, they count as shares. It runs on the host.
    mask: `mask(alpha, allowed) -> alpha`, the logits with which an operation that is not allowed
      has the weight 0; `allowed` is a bool `[E, O]`. It is called only where something is not
      allowed.
    sparse: whether an operation whose weight is exactly 0 has no gradient either. Then the network
      need not compute it.
    per_layer: whether each layer has logits of its own. The search then stacks what `init` gives,
      with the layers of a cell type first, and calls the other functions for each layer.

  Example:
    >>> one_hot = lambda alpha: jax.nn.one_hot(alpha.argmax(-1), alpha.shape[-1])
    >>> own = Relaxation(
    ...   init=normal_init(),
    ...   weights=lambda alpha, key, knobs: one_hot(alpha),
    ...   mean=lambda alpha, knobs: one_hot(alpha),
    ...   strength=softmax_strength,
    ... )
    >>> own.mean(jnp.array([[0.0, 2.0, 1.0]]), {}).tolist()
    [[0.0, 1.0, 0.0]]
  """

  init: Init
  weights: Callable[[PyTree, PRNGKeyArray, Knobs], Float[AnyArray, '*L E O']]
  mean: Callable[[PyTree, Knobs], Float[AnyArray, '*L E O']]
  strength: Callable[[PyTree, Knobs], Float[AnyArray, '*L E O']]
  mask: Callable[[PyTree, Bool[AnyArray, 'E O']], PyTree] = mask_logits
  sparse: bool = False
  per_layer: bool = False


def normal_init(scale: float = 1e-3, mean: float = 0.0) -> Init:
  """Builds initial logits `[E, O]` with a normal distribution.

  Args:
    scale: its standard deviation; 0 gives equal logits.
    mean: its mean.

  Returns:
    The function `init` of a relaxation.

  Example:
    >>> normal_init()(jax.random.key(0), snas.darts_space(2)).shape
    (5, 7)
  """

  def init(key: PRNGKeyArray, space: space_lib.SearchSpace) -> Float[Array, 'E O']:
    shape = (len(space.graph.edges), space.num_operations)
    if not scale:
      return jnp.full(shape, mean)
    drawn = scale * jax.random.normal(key, shape)
    return drawn + mean if mean else drawn

  return init


def softmax(temperature: float = 1.0, init: Init | None = None) -> Relaxation:
  """Builds the softmax over the operations of each edge (Liu et al. 2018; Eq. 1).

  Alpha is one array `[E, O]`. The strength is the softmax at temperature 1, whatever the
  temperature of the passes: decoding then does not depend on where annealing ended.

  Args:
    temperature: divides the logits. A knob named 'temperature' takes its place.
    init: the initial logits. None for 1e-3 times normal noise, as in DARTS.

  Returns:
    The relaxation.

  Example:
    >>> softmax().mean(jnp.zeros((1, 4)), {}).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
  """

  def weights(
    alpha: Float[AnyArray, 'E O'], key: PRNGKeyArray, knobs: Knobs
  ) -> Float[Array, 'E O']:
    del key
    return mean(alpha, knobs)

  def mean(alpha: Float[AnyArray, 'E O'], knobs: Knobs) -> Float[Array, 'E O']:
    return jax.nn.softmax(alpha / knobs.get('temperature', temperature), axis=-1)

  return Relaxation(init or normal_init(), weights, mean, softmax_strength)


def softmax_strength(alpha: Float[AnyArray, 'E O'], knobs: Knobs) -> Float[np.ndarray, 'E O']:
  """Returns the softmax over the operations of each edge at temperature 1, on the host.

  Args:
    alpha: the logits.
    knobs: of the step; they change nothing.

  Returns:
    The softmax in double precision, so that rounding makes no two operations equal.

  Example:
    >>> softmax_strength(np.zeros((1, 2)), {}).tolist()
    [[0.5, 0.5]]
  """
  del knobs
  logits = np.asarray(alpha, np.float64)
  with np.errstate(invalid='ignore'):  # the decoder refuses values that are not finite
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def entropy(op_weights: Float[AnyArray, '*L E O']) -> Float[Array, '']:
  """Returns the mean entropy of the operations of an edge, in nats.

  It is 0 where every edge has decided. Weights that do not sum to 1 on an edge are normalised
  first.

  Example:
    >>> round(float(entropy(jnp.full((14, 7), 1 / 7)) / np.log(7)), 4)
    1.0
  """
  total = op_weights.sum(-1, keepdims=True)
  probs = op_weights / jnp.where(total > 0, total, 1.0)
  # The logarithm of 1 in place of 0 keeps the gradient finite.
  terms = probs * jnp.log(jnp.where(probs > 0, probs, 1.0))
  return -terms.sum(-1).mean()


def checked(relaxation: Relaxation, space: space_lib.SearchSpace) -> Relaxation:
  """Returns a relaxation whose results are checked to be `[E, O]` where they are computed.

  Args:
    relaxation: any relaxation.
    space: gives E and O.

  Returns:
    The relaxation; its functions raise ValueError where a result has another shape. A result may
    have the layers of a cell type as a first axis, `[L, E, O]`.

  Example:
    >>> wrong = softmax()._replace(mean=lambda alpha, knobs: alpha[0])
    >>> checked(wrong, snas.darts_space(1)).mean(jnp.zeros((2, 7)), {})
    Traceback (most recent call last):
    ValueError: relaxation.mean returns [7]; it must be [2, 7]
  """
  shape = (len(space.graph.edges), space.num_operations)

  def weights(alpha: PyTree, key: PRNGKeyArray, knobs: Knobs) -> Float[AnyArray, '*L E O']:
    return _of_shape('weights', relaxation.weights(alpha, key, knobs), shape)

  def mean(alpha: PyTree, knobs: Knobs) -> Float[AnyArray, '*L E O']:
    return _of_shape('mean', relaxation.mean(alpha, knobs), shape)

  def strength(alpha: PyTree, knobs: Knobs) -> Float[AnyArray, '*L E O']:
    return _of_shape('strength', relaxation.strength(alpha, knobs), shape)

  return relaxation._replace(weights=weights, mean=mean, strength=strength)


def by_layer(relaxation: Relaxation) -> Relaxation:
  """Returns a relaxation that also takes logits with a leading axis of layers.

  Args:
    relaxation: any relaxation; one that is not `per_layer` is returned as it is.

  Returns:
    The relaxation, whose results are then `[L, E, O]`.

  Example:
    >>> by_layer(softmax()._replace(per_layer=True)).mean(jnp.zeros((8, 14, 7)), {}).shape
    (8, 14, 7)
  """
  if not relaxation.per_layer:
    return relaxation

  def weights(alpha: PyTree, key: PRNGKeyArray, knobs: Knobs) -> Float[AnyArray, 'L E O']:
    keys = jax.random.split(key, len(jax.tree.leaves(alpha)[0]))
    return jax.vmap(lambda one, key: relaxation.weights(one, key, knobs))(alpha, keys)

  def mean(alpha: PyTree, knobs: Knobs) -> Float[AnyArray, 'L E O']:
    return jax.vmap(lambda one: relaxation.mean(one, knobs))(alpha)

  def strength(alpha: PyTree, knobs: Knobs) -> Float[np.ndarray, 'L E O']:
    layers = range(len(jax.tree.leaves(alpha)[0]))
    of = lambda layer: jax.tree.map(lambda leaf: leaf[layer], alpha)
    return np.stack([np.asarray(relaxation.strength(of(layer), knobs)) for layer in layers])

  def mask(alpha: PyTree, allowed: Bool[AnyArray, 'E O']) -> PyTree:
    return jax.vmap(lambda one: relaxation.mask(one, allowed))(alpha)

  return relaxation._replace(weights=weights, mean=mean, strength=strength, mask=mask)


def restricted(relaxation: Relaxation, allowed: Bool[AnyArray, 'E O'] | None) -> Relaxation:
  """Returns a relaxation of the allowed operations alone; all others have the weight 0.

  Args:
    relaxation: any relaxation.
    allowed: which operations an edge may have. None: all, and the relaxation is returned as it is.

  Returns:
    The relaxation.

  Example:
    >>> only = restricted(softmax(), np.array([[True, False, True]]))
    >>> only.mean(jnp.zeros((1, 3)), {}).tolist()
    [[0.5, 0.0, 0.5]]
  """
  if allowed is None:
    return relaxation

  def weights(alpha: PyTree, key: PRNGKeyArray, knobs: Knobs) -> Float[AnyArray, '*L E O']:
    found = relaxation.weights(relaxation.mask(alpha, allowed), key, knobs)
    return jnp.where(allowed, found, 0.0)

  def mean(alpha: PyTree, knobs: Knobs) -> Float[AnyArray, '*L E O']:
    return jnp.where(allowed, relaxation.mean(relaxation.mask(alpha, allowed), knobs), 0.0)

  def strength(alpha: PyTree, knobs: Knobs) -> Float[np.ndarray, '*L E O']:
    found = relaxation.strength(relaxation.mask(alpha, allowed), knobs)
    return np.where(allowed, found, 0.0)

  return relaxation._replace(weights=weights, mean=mean, strength=strength)


def _of_shape(name: str, values: object, shape: tuple[int, int]) -> AnyArray:
  """Returns the result of a relaxation's function; ValueError if it is not `[E, O]`."""
  if not isinstance(values, AnyArray):
    found = f'a {type(values).__name__}'
  elif values.shape[-2:] != shape or values.ndim > 3:
    found = str(list(values.shape))
  else:
    return values
  raise ValueError(f'relaxation.{name} returns {found}; it must be {list(shape)}')
