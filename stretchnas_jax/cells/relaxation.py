"""Relaxations of the choice of an operation.

A relaxation says how logits become the weights of the E x O operations of a cell: in a pass of a
step, in an evaluation, and where a cell is decoded. `softmax` is the one of DARTS. For another
relaxation, fill the four fields of `Relaxation`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, ScalarLike

from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.cells.arrays import AnyArray

Knobs = Mapping[str, ScalarLike]
"""Numbers that change with the step, by name; 'step' is always there."""


class Relaxation(NamedTuple):
  """Operation logits as operation weights; alpha is any pytree of one cell type.

  Attributes:
    init: `init(key, space) -> alpha`, the logits of a new search.
    weights: `weights(alpha, key, knobs) -> [E, O]`, the operation weights of one pass; the key is
      for relaxations that draw, and each pass has its own.
    mean: `mean(alpha, knobs) -> [E, O]`, the operation weights of an evaluation; it never draws.
    strength: `strength(alpha, knobs) -> [E, O]`, the numbers by which a decoder ranks operations
      and edges. It runs on the host.
  """

  init: Callable[[PRNGKeyArray, space_lib.SearchSpace], PyTree]
  weights: Callable[[PyTree, PRNGKeyArray, Knobs], Float[Array, 'E O']]
  mean: Callable[[PyTree, Knobs], Float[Array, 'E O']]
  strength: Callable[[PyTree, Knobs], Float[AnyArray, 'E O']]


def softmax(temperature: float = 1.0) -> Relaxation:
  """Builds the softmax over the operations of each edge (Liu et al. 2018; Eq. 1).

  Alpha is one array `[E, O]`. The strength is the softmax at temperature 1, whatever the
  temperature of the passes: decoding then does not depend on where annealing ended.

  Args:
    temperature: divides the logits. A knob named 'temperature' takes its place.

  Returns:
    The relaxation.
  """

  def init(key: PRNGKeyArray, space: space_lib.SearchSpace) -> Float[Array, 'E O']:
    return 1e-3 * jax.random.normal(key, (len(space.graph.edges), space.num_operations))

  def weights(
    alpha: Float[AnyArray, 'E O'], key: PRNGKeyArray, knobs: Knobs
  ) -> Float[Array, 'E O']:
    del key
    return mean(alpha, knobs)

  def mean(alpha: Float[AnyArray, 'E O'], knobs: Knobs) -> Float[Array, 'E O']:
    return jax.nn.softmax(alpha / knobs.get('temperature', temperature), axis=-1)

  def strength(alpha: Float[AnyArray, 'E O'], knobs: Knobs) -> Float[np.ndarray, 'E O']:
    del knobs
    # In double precision, so that rounding makes no two operations equal.
    logits = np.asarray(alpha, np.float64)
    with np.errstate(invalid='ignore'):  # the decoder refuses values that are not finite
      shifted = np.exp(logits - logits.max(-1, keepdims=True))
      return shifted / shifted.sum(-1, keepdims=True)

  return Relaxation(init, weights, mean, strength)


def entropy(op_weights: Float[AnyArray, 'E O']) -> Float[Array, '']:
  """Returns the mean entropy of the operations of an edge, in nats.

  It is 0 where every edge has decided. Weights that do not sum to 1 on an edge are normalised
  first.
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
    The relaxation; its functions raise ValueError where a result has another shape.
  """
  shape = (len(space.graph.edges), space.num_operations)

  def weights(alpha: PyTree, key: PRNGKeyArray, knobs: Knobs) -> Float[AnyArray, 'E O']:
    return _of_shape('weights', relaxation.weights(alpha, key, knobs), shape)

  def mean(alpha: PyTree, knobs: Knobs) -> Float[AnyArray, 'E O']:
    return _of_shape('mean', relaxation.mean(alpha, knobs), shape)

  def strength(alpha: PyTree, knobs: Knobs) -> Float[AnyArray, 'E O']:
    return _of_shape('strength', relaxation.strength(alpha, knobs), shape)

  return Relaxation(relaxation.init, weights, mean, strength)  # pyrefly: ignore[bad-argument-type]


def _of_shape(name: str, values: object, shape: tuple[int, int]) -> AnyArray:
  """Returns the result of a relaxation's function; ValueError if it is not `[E, O]`."""
  if not isinstance(values, AnyArray):
    found = f'a {type(values).__name__}'
  elif values.shape != shape:
    found = str(list(values.shape))
  else:
    return values
  raise ValueError(f'relaxation.{name} returns {found}; it must be {list(shape)}')
