"""Initial parameters of a whole network from one draw.

A network has hundreds of parameters, and a program with a random draw for each of them compiles for
longer than its search step. So one vector is drawn, and each parameter takes its own piece of it.
"""

import contextlib
import contextvars
import math

import jax
import jax.numpy as jnp

_TAKE = contextvars.ContextVar('take', default=None)  # shape -> uniform values in -1 .. 1


def init(net, key, *args):
  """As `net.init(key, *args)`, but the pieces of one draw where `uniform` initialises.

  Args:
    net: a linen module.
    key: for that draw, and for whatever else the module draws.
    *args: of the module's call.

  Returns:
    The variables of `net`.
  """
  sizes = []

  def measure(shape):
    sizes.append(math.prod(shape))
    return jnp.zeros(shape)

  with _taking(measure):
    jax.eval_shape(lambda key: net.init(key, *args), key)
  draw_key, init_key = jax.random.split(key)
  draw = jax.random.uniform(draw_key, (sum(sizes),), minval=-1.0, maxval=1.0)
  pieces = iter(jnp.split(draw, [sum(sizes[:i]) for i in range(1, len(sizes))]))
  with _taking(lambda shape: next(pieces).reshape(shape)):
    return net.init(init_key, *args)


@contextlib.contextmanager
def _taking(take):
  token = _TAKE.set(take)
  try:
    yield
  finally:
    _TAKE.reset(token)


def uniform(fan_in):
  """PyTorch's default for convolutions and linear maps: uniform in +-1/sqrt(fan_in)."""

  def initialize(key, shape, dtype=jnp.float32):
    if take := _TAKE.get():
      return take(shape).astype(dtype) * fan_in**-0.5
    return jax.random.uniform(key, shape, dtype, -1.0, 1.0) * fan_in**-0.5

  return initialize
