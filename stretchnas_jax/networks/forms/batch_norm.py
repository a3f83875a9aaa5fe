"""Batch norm without scale and bias, for whole groups of feature maps at once."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.networks.forms.pixel_sums import sum_pixels

EPSILON = 1e-5
MOMENTUM = 0.9  # of the running averages; PyTorch calls it 0.1

RULES = ('corrected', 'plain')
"""How running averages move; see `count_factor` and `networks.running_averages`."""

Averages: TypeAlias = Mapping[str, Mapping[str, Float[AnyArray, '...']]]
"""For each batch norm, by its name, `{'mean': [..., C], 'var': [..., C]}`."""

Measure: TypeAlias = Callable[[], tuple[Float[Array, '...'], Float[Array, '...']]]
"""Gives the mean and the mean of squares of this device's part of a batch, `[..., C]` each."""


class BatchNorms:
  """The statistics with which the batch norms of a group normalise.

  They are running averages, or the moments of the batch; the latter are remembered in `batch`. An
  object lives for the length of one trace, so it holds no state between calls.
  """

  def __init__(self, running: Averages | None = None, axis_name: str | None = None) -> None:
    """Chooses the statistics.

    Args:
      running: the running averages to normalise with, or None for the moments of the batch.
      axis_name: the parallel axis over which a batch is spread, or None.
    """
    self._running, self._axis_name = running, axis_name
    self.batch: dict[str, dict[str, Array]] = {}

  def get(self, name: str, measure: Measure) -> tuple[Float[Array, '*r C'], Float[Array, '*r C']]:
    """Returns the mean and the reciprocal standard deviation of one batch norm, `[..., C]`.

    Args:
      name: the name of the batch norm.
      measure: gives the moments of the batch, float32; called only where they are needed.
    """
    if self._running is not None:
      mean, var = (jnp.asarray(self._running[name][field]) for field in ('mean', 'var'))
    else:
      mean, square = measure()
      if self._axis_name is not None:
        mean, square = lax.pmean((mean, square), self._axis_name)
      var = jnp.maximum(square - mean * mean, 0.0)
      self.batch[name] = {'mean': mean, 'var': var}
    return mean, lax.rsqrt(var + EPSILON)

  def get_group(
    self, names: Sequence[str], measure: Measure
  ) -> tuple[Float[Array, '*r o C'], Float[Array, '*r o C']]:
    """Returns the statistics of o batch norms, side by side on the axis before the channels.

    Args:
      names: the names of the o batch norms.
      measure: as for `get`, with moments `[..., o, C]`.
    """
    measured = functools.cache(measure)
    found = [
      self.get(name, functools.partial(_take_moments, measured, i)) for i, name in enumerate(names)
    ]
    means, scales = zip(*found)
    return jnp.stack(means, -2), jnp.stack(scales, -2)


def _take_moments(measure: Measure, i: int) -> tuple[Float[Array, '*r C'], Float[Array, '*r C']]:
  """The moments of batch norm i of a group."""
  mean, square = measure()
  return mean[..., i, :], square[..., i, :]


def moments(
  x: Float[Array, '...'], axes: tuple[int, ...]
) -> tuple[Float[Array, '...'], Float[Array, '...']]:
  """Returns the mean and the mean of squares over some axes, in float32 or wider.

  Args:
    x: any array of floats.
    axes: the axes of `x` that disappear.
  """
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  return x.mean(axes), (x * x).mean(axes)


def pixel_moments(
  maps: Sequence[Float[Array, 'B H W ...']],
) -> list[tuple[Float[Array, '...'], Float[Array, '...']]]:
  """Returns mean and mean of squares of each map over images and pixels, in float32 or wider."""
  maps = [x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in maps]
  count = maps[0].shape[0] * maps[0].shape[1] * maps[0].shape[2]
  found = [total / count for total in sum_pixels([*maps, *(x * x for x in maps)])]
  return list(zip(found[: len(maps)], found[len(maps) :]))


def count_factor(x: Float[AnyArray, '...'], channel_axis: int, axis_name: str | None) -> float:
  """Returns n / (n - 1), by which PyTorch multiplies variances before they enter the averages.

  The n values of a channel lie in all images of the batch, at all pixels. With it the average
  estimates the variance of all images, not that within a batch.

  Args:
    x: feature maps as they enter a batch norm.
    channel_axis: the axis of the channels.
    axis_name: the parallel axis over which the batch is spread, or None.
  """
  count = x.size // x.shape[channel_axis]
  if axis_name is not None:
    count *= lax.axis_size(axis_name)
  return count / max(count - 1, 1)


def update_running(
  running: Averages,
  batch: Averages,
  factors: Mapping[str, float] | None = None,
  ran: Mapping[str, Bool[Array, 'n 1']] | None = None,
) -> Averages:
  """Returns the running averages, moved a tenth of the way to the moments of a batch.

  Args:
    running: the averages so far.
    batch: the moments of the batch, with the same names.
    factors: a factor of the variance by name, see `count_factor`; None for 1.
    ran: by name, which batch norms have moments; the averages of others stay. None: all have.
  """
  factors, ran = factors or {}, ran or {}
  moved = {}
  for name in running:
    mean, var = batch[name]['mean'], batch[name]['var']
    if name in factors:
      var = factors[name] * var
    moved[name] = {
      field: MOMENTUM * running[name][field] + (1 - MOMENTUM) * value
      for field, value in (('mean', mean), ('var', var))
    }
    if name in ran:
      moved[name] = {
        field: jnp.where(ran[name], value, running[name][field])
        for field, value in moved[name].items()
      }
  return moved
