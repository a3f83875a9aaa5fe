"""Batch norm without scale and bias, for whole groups of feature maps at once."""

import functools

import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import linear_call

EPSILON = 1e-5
MOMENTUM = 0.9  # of the running averages; PyTorch calls it 0.1


class BatchNorms:
  """Where the batch norms of a group take their moments from; remembers those of the batch.

  Lives for the length of one trace: it holds no state between calls.

  Args:
    running: running averages `{name: {'mean': [..., C], 'var': [..., C]}}` to normalise with, or
      None to normalise with the moments of the batch.
    axis_name: the parallel axis over which a batch is spread, or None.
  """

  def __init__(self, running=None, axis_name=None):
    self.running, self.axis_name = running, axis_name
    self.batch = {}

  def __call__(self, name, measure):
    """What the batch norm of that name normalises with.

    Args:
      name: of the batch norm.
      measure: a function without arguments that gives mean and mean of squares, float32
        `[..., C]`, of this device's part of the batch.

    Returns:
      The mean and the reciprocal standard deviation, `[..., C]`.
    """
    if self.running is not None:
      mean, var = self.running[name]['mean'], self.running[name]['var']
    else:
      mean, square = measure()
      if self.axis_name is not None:
        mean, square = lax.pmean((mean, square), self.axis_name)
      var = jnp.maximum(square - mean * mean, 0.0)
      self.batch[name] = {'mean': mean, 'var': var}
    return mean, lax.rsqrt(var + EPSILON)

  def group(self, names, measure):
    """The same for several at once, side by side on the axis before the channels.

    Args:
      names: names of the batch norms.
      measure: as above, with `[..., len(names), C]`.

    Returns:
      `[..., len(names), C]`, twice.
    """
    measured = functools.cache(measure)
    pick = lambda i: lambda: [moment[..., i, :] for moment in measured()]
    found = [self(name, pick(i)) for i, name in enumerate(names)]
    return [jnp.stack(column, -2) for column in zip(*found)]


def moments(x, axes):
  """Mean and mean of squares of `x` over `axes`, in float32 whatever the type of `x`."""
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  return x.mean(axes), (x * x).mean(axes)


def total(maps):
  """Sums some `[B, H, W, ...]` over images and pixels, those of each image first: `[...]` each.

  All at once, XLA gives the sums over small maps to one or two blocks of a GPU: at 8 x 8 pixels
  they took up to 0.6 ms (H100, JAX 0.11). What is summed together is of one shape, so that all need
  one kernel more and not each.
  """
  shape = maps[0].shape

  def add(_, maps):
    of_images = lax.optimization_barrier([x.sum((1, 2)) for x in maps])
    return list(jnp.stack(of_images).sum(1))

  return linear_call(add, lambda _, sums: spread(sums, shape), (), list(maps))


def spread(values, shape):
  """Each `[...] -> [B, H, W, ...]`, equal at all pixels; gradients are summed as by `total`."""
  return linear_call(
    lambda _, values: [jnp.broadcast_to(v, shape) for v in values],
    lambda _, maps: total(maps), (), list(values),
  )  # fmt: skip


def pixel_moments(x):
  """As `moments` of `[B, H, W, ...]` over images and pixels."""
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  count = x.shape[0] * x.shape[1] * x.shape[2]
  return [s / count for s in total([x, x * x])]


def update_running(running, batch):
  """Moves running averages a tenth of the way to the moments of a batch."""
  return {
    name: {
      k: MOMENTUM * running[name][k] + (1 - MOMENTUM) * batch[name][k] for k in ('mean', 'var')
    }
    for name in running
  }
