"""Random maps on edges: dropout of skip connections (P-DARTS), and the operation `noise`.

An image's draws depend on the edge's key and on the place of the image in the batch over all
devices. So one device and four draw the same.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray


class Draws(NamedTuple):
  """The random draws of some edges.

  Attributes:
    keys: a key for each edge, or the key of one edge.
    positions: `[B]`, the places of the images in the batch over all devices.
    rate: the probability that a number of a skip connection at stride 1 becomes 0; None for no
      dropout.
  """

  keys: PRNGKeyArray
  positions: Int[Array, 'B']
  rate: Float[Array, ''] | None = None


def positions(batch: int, axis_name: str | None) -> Int[Array, 'B']:
  """Returns the places of this device's images in the batch over all devices.

  Args:
    batch: images of this device.
    axis_name: the parallel axis, or None.
  """
  here = jnp.arange(batch, dtype=jnp.int32)
  return here if axis_name is None else here + batch * lax.axis_index(axis_name)


def skip_factors(draws: Draws, shape: tuple[int, ...]) -> Float[Array, 'B H W C']:
  """Returns the factor of each number of a skip connection: 0 by chance, else `1 / (1 - rate)`.

  The numbers that are left grow, so that the mean stays. At a rate of 0 all factors are 1.

  Args:
    draws: with the key of one edge, and a rate.
    shape: `(H, W, C)` of a feature map.
  """
  drawn = _for_images(draws, 0, lambda key: jax.random.uniform(key, shape))
  rate = jnp.asarray(draws.rate)
  return jnp.where(drawn < rate, 0.0, 1 / (1 - rate))


def noise(draws: Draws, shape: tuple[int, ...]) -> Float[Array, 'B H W C']:
  """Returns normal noise, as the operation `noise` gives it whatever its input (Zela et al. 2020).

  Args:
    draws: with the key of one edge.
    shape: `(H, W, C)` of a feature map.
  """
  return _for_images(draws, 1, lambda key: jax.random.normal(key, shape))


def _for_images(
  draws: Draws, number: int, draw: Callable[[PRNGKeyArray], Array]
) -> Float[Array, 'B H W C']:
  """Draws for each image from a key of its own; `number` tells the kinds of draws apart."""
  key = jax.random.fold_in(draws.keys, number)
  return jax.vmap(lambda position: draw(jax.random.fold_in(key, position)))(draws.positions)
