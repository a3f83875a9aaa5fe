"""Initial parameters of a whole network from one draw.

A network has hundreds of parameters, and a program with a random draw for each of them compiles for
longer than its search step. So one vector is drawn, and each parameter takes its own piece of it.
"""

import contextlib
import contextvars
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

_TAKE = contextvars.ContextVar('take', default=None)  # (shape, bound) -> values in -bound .. bound
_DRAWN = contextvars.ContextVar('drawn', default=None)  # what `compiled` cuts on the host


def init(net, key, *args):
  """As `net.init(key, *args)`, but the pieces of one draw where `uniform` initialises.

  Args:
    net: a linen module.
    key: for that draw, and for whatever else the module draws.
    *args: of the module's call.

  Returns:
    The variables of `net`.
  """
  draw_key, init_key = jax.random.split(key)
  if _TAKE.get():
    return net.init(init_key, *args)
  variables, wanted = _measure(net, init_key, *args)
  size = sum(math.prod(shape) for shape, _ in wanted)
  draw = jax.random.uniform(draw_key, (size,), minval=-1.0, maxval=1.0)
  if (drawn := _DRAWN.get()) is not None:
    drawn.append((draw, wanted))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
  with _set(_TAKE, _taker(_cut(draw, wanted))):
    return net.init(init_key, *args)


def compiled(function):
  """`jax.jit` of a function of a key; what `init` draws in it is cut into pieces on the host.

  On a CPU XLA compiles each of these pieces on its own: for 18 seconds of a core in the training of
  DARTS_V2 with 20 layers. Cut here they are inputs of the compiled program, which hands them on.
  """
  wanted = []

  @jax.jit
  def draw(key):
    with _set(_DRAWN, []) as drawn:
      function(key)
    wanted[:] = [entries for _, entries in drawn]
    return [values for values, _ in drawn]

  @jax.jit
  def run(key, pieces):
    with _set(_TAKE, _taker(pieces)):
      return function(key)

  def initialize(key):
    pieces = map(_cut, jax.device_get(draw(key)), wanted)
    # Copies: a step that reuses the memory of its state must not find the host's there.
    return run(key, jax.device_put(list(itertools.chain(*pieces)), may_alias=False))

  return initialize


def uniform(fan_in):
  """PyTorch's default for convolutions and linear maps: uniform in +-1/sqrt(fan_in)."""
  bound = fan_in**-0.5

  def initialize(key, shape, dtype=jnp.float32):
    if take := _TAKE.get():
      return take(shape, bound).astype(dtype)
    return jax.random.uniform(key, shape, dtype, -1.0, 1.0) * bound

  return initialize


def _measure(net, key, *args):
  """Shapes of the variables of `net`, and the (shape, bound) of what `uniform` initialises."""
  wanted = []

  def take(shape, bound):
    wanted.append((shape, bound))
    return jnp.zeros(shape)

  with _set(_TAKE, take):
    return jax.eval_shape(lambda key: net.init(key, *args), key), wanted


def _cut(draw, wanted):
  """Consecutive pieces of a vector, each of its shape and times its bound."""
  ends = itertools.accumulate(math.prod(shape) for shape, _ in wanted)
  return [
    draw[end - math.prod(shape) : end].reshape(shape) * np.float32(bound)
    for end, (shape, bound) in zip(ends, wanted)
  ]


def _taker(pieces):
  pieces = iter(pieces)
  return lambda shape, bound: next(pieces)


@contextlib.contextmanager
def _set(variable, value):
  token = variable.set(value)
  try:
    yield value
  finally:
    variable.reset(token)
