"""Initial parameters of a whole network from one random draw.

A network has hundreds of parameters. A program with a random draw for each of them compiles for
longer than the network's training step. So `init` draws one vector, and each parameter takes its
own piece of it. This needs two passes over the network:
1. The network is traced without computing anything, which lists the pieces that it asks for.
2. One vector is drawn and cut, and the network is initialised with the pieces in the same order.

Linen calls an initialiser with a key, a shape and a type alone, so it cannot hand pieces on. They
reach `uniform` through a context variable instead, which holds the source of values for the pass
that is under way. Without a source each parameter draws its values from its own key, as usual.
"""

import contextlib
import contextvars
import functools
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from stretchnas_jax.cells.arrays import AnyArray


class _Request(NamedTuple):
  """The piece that a parameter asks for: an array, uniform in -bound .. bound."""

  shape: tuple[int, ...]
  bound: float


class _Draw(NamedTuple):
  """One vector, uniform in -1 .. 1, and the pieces into which it is to be cut."""

  values: Float[AnyArray, 'N']
  requests: list[_Request]


class _Listing:
  """The source of the first pass: notes each request, and gives zeros."""

  def __init__(self) -> None:
    self.requests: list[_Request] = []

  def take(self, request: _Request) -> Float[Array, '...']:
    self.requests.append(request)
    return jnp.zeros(request.shape)


class _Pieces:
  """The source of the second pass: gives ready pieces, in the order of the requests."""

  def __init__(self, pieces: Iterable[Float[AnyArray, '...']]) -> None:
    self._pieces = iter(pieces)

  def take(self, request: _Request) -> Float[AnyArray, '...']:
    return next(self._pieces)


class _Recording:
  """In place of a source: notes the draw of each `init`, for `compiled` to cut on the host."""

  def __init__(self) -> None:
    self.draws: list[_Draw] = []


_Source = _Listing | _Pieces | _Recording
_source: contextvars.ContextVar[_Source | None] = contextvars.ContextVar('source', default=None)


@contextlib.contextmanager
def _use(source: _Source) -> Generator[None, None, None]:
  """Makes a source the one that counts, for a while."""
  token = _source.set(source)
  try:
    yield
  finally:
    _source.reset(token)


def init(net: nn.Module, key: PRNGKeyArray, *args: Any) -> Mapping[str, PyTree]:
  """Returns the variables of a network, as `net.init(key, *args)`, but from one random draw.

  Args:
    net: a linen module whose parameters begin with `uniform`.
    key: the key of the draw, and of other draws of the module.
    *args: the arguments of the module's call.
  """
  draw_key, init_key = jax.random.split(key)
  source = _source.get()
  if isinstance(source, _Pieces):
    return net.init(init_key, *args)
  variables, requests = _list_requests(net, init_key, *args)
  size = sum(math.prod(request.shape) for request in requests)
  draw = _Draw(jax.random.uniform(draw_key, (size,), minval=-1.0, maxval=1.0), requests)
  if isinstance(source, _Recording):
    source.draws.append(draw)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
  with _use(_Pieces(_cut(draw))):
    return net.init(init_key, *args)


def trace_shapes(net: nn.Module, *args: Any) -> Mapping[str, PyTree]:
  """Returns the shapes of a network's variables; nothing is drawn or computed.

  It takes less time than `jax.eval_shape(net.init, ...)`, which traces a draw for each parameter.

  Args:
    net: a linen module.
    *args: the arguments of the module's call, or their shapes.
  """
  with _use(_Listing()):
    return jax.eval_shape(net.init, jax.random.key(0), *args)


def compiled(function: Callable[[PRNGKeyArray], PyTree]) -> Callable[[PRNGKeyArray], PyTree]:
  """Returns the compiled form of a function of a key that calls `init`.

  On a CPU XLA compiles each piece of a draw by itself, which takes long for a deep network. So the
  draws are one program. Their vectors are cut on the host, and the pieces are inputs of a second
  program, which hands them on.

  Args:
    function: a function of a key; it may call `init` several times.
  """
  requests: list[list[_Request]] = []

  @jax.jit
  def draw(key: PRNGKeyArray) -> list[Float[AnyArray, 'N']]:
    recording = _Recording()
    with _use(recording):
      function(key)
    requests[:] = [found.requests for found in recording.draws]
    return [found.values for found in recording.draws]

  @jax.jit
  def run(key: PRNGKeyArray, pieces: Sequence[Float[Array, '...']]) -> PyTree:
    with _use(_Pieces(pieces)):
      return function(key)

  def initialize(key: PRNGKeyArray) -> PyTree:
    vectors = jax.device_get(draw(key))
    pieces = [_cut(_Draw(*pair)) for pair in zip(vectors, requests)]
    # Copies: a step that reuses the memory of its state must not find the host's there.
    copies = jax.device_put(list(itertools.chain(*pieces)), may_alias=False)
    return run(key, copies)

  return initialize


def uniform(fan_in: int) -> Callable[..., Float[AnyArray, '...']]:
  """Returns PyTorch's initialiser for convolutions and linear maps: uniform in +-1/sqrt(fan_in)."""
  return functools.partial(_initialize, fan_in**-0.5)


def _initialize(
  bound: float, key: PRNGKeyArray, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Float[AnyArray, '...']:
  """Takes values in -bound .. bound from the source, or draws them where there is none."""
  source = _source.get()
  if isinstance(source, _Listing | _Pieces):
    return source.take(_Request(tuple(shape), bound)).astype(dtype)
  return jax.random.uniform(key, shape, dtype, -1.0, 1.0) * bound


def _list_requests(net: nn.Module, key: PRNGKeyArray, *args: Any) -> tuple[PyTree, list[_Request]]:
  """Lists the shapes of a network's variables, and the pieces for which it asks."""
  listing = _Listing()
  with _use(listing):
    shapes = jax.eval_shape(lambda key: net.init(key, *args), key)
  return shapes, listing.requests


def _cut(draw: _Draw) -> list[Float[AnyArray, '...']]:
  """Cuts a vector into consecutive pieces, each of its shape and times its bound."""
  ends = itertools.accumulate(math.prod(request.shape) for request in draw.requests)
  return [
    draw.values[end - math.prod(shape) : end].reshape(shape) * np.float32(bound)
    for end, (shape, bound) in zip(ends, draw.requests)
  ]
