"""Drop path: an example loses edges of the network at random (Larsson et al. 2017)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from stretchnas_jax.cells.arrays import AnyArray


def keep_factors(
  key: PRNGKeyArray,
  rate: Float[AnyArray, ''] | float,
  positions: Int[AnyArray, 'B'],
  shape: tuple[int, int],
) -> Float[Array, 'L B E']:
  """Returns the factor of each edge: 0 with probability `rate`, else `1 / (1 - rate)`.

  Args:
    key: with an example's position it alone decides which edges the example loses.
    rate: a probability, that may be traced.
    positions: the places of the examples in the batch over all devices.
    shape: `(L, E)`, layers and edges; all are drawn at once, so that one generator is compiled.
  """
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, positions)
  draws = jax.vmap(lambda key: jax.random.uniform(key, shape), out_axes=1)(keys)
  rate = jnp.asarray(rate, jnp.float32)
  return jnp.where(draws < rate, 0.0, 1 / (1 - rate))
