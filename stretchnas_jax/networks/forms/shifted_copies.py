"""Depthwise convolutions over batch-last maps, as sums of weighted shifted copies.

On a CPU such a sum is one loop over the images of a batch, which vectorises. The gradient for the
image is a sum of shifted copies too. The gradient for the kernel sums all taps in one pass.

Letters: C channels, `H x W` pixels, `h x w` pixels of the output, B images, k pixels of a kernel's
side, o convolutions side by side.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

Maps: TypeAlias = tuple[Float[Array, 'C _ _ B'], ...]
Kernels: TypeAlias = tuple[Float[Array, 'C _ _'], ...]


def _windows(
  x: Float[Array, 'C H W B'], size: int, stride: int, dilation: int
) -> Iterator[Float[Array, 'C h w B']]:
  """Yields the copy of `x` that each of a kernel's `size * size` taps meets, row by row.

  Neighbours are `dilation` pixels apart, and outside the image stand zeros. Copies are float32 at
  least, because they are summed.
  """
  pad = dilation * (size // 2)
  wide = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(pad, pad), (pad, pad), (0, 0)])
  wide = wide.astype(jnp.promote_types(x.dtype, jnp.float32))
  height, width = x.shape[-3:-1]
  for row, column in np.ndindex(size, size):
    top, left = row * dilation, column * dilation
    part = lax.slice_in_dim(wide, top, top + height, stride, -3)
    yield lax.slice_in_dim(part, left, left + width, stride, -2)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _shifted_sum(
  kernels: Float[Array, 'C k k'], x: Float[Array, 'C H W B'], stride: int = 1, dilation: int = 1
) -> Float[Array, 'C h w B']:
  """Convolves each channel with its own kernel."""
  taps = kernels.reshape(len(kernels), -1, 1, 1, 1)
  terms = _windows(x, kernels.shape[-1], stride, dilation)
  total = sum(taps[:, i] * term for i, term in enumerate(terms))
  return cast(Array, total).astype(x.dtype)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _tap_sums(
  x: Float[Array, 'C H W B'], g: Float[Array, 'C h w B'], size: int, stride: int, dilation: int
) -> Float[Array, 'C n']:
  """Computes the gradient for the kernel in one reduction, so that x and g are read once."""
  terms = [term * g for term in _windows(x, size, stride, dilation)]
  zeros = [jnp.zeros((), term.dtype) for term in terms]

  def add(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(u + v for u, v in zip(a, b))

  return jnp.stack(lax.reduce(tuple(terms), tuple(zeros), add, (1, 2, 3)), -1)


def _in_halves(function: Callable[[PyTree], PyTree], arrays: PyTree) -> PyTree:
  """Applies a function to half of the channels at a time, in a loop.

  XLA would fuse the neighbours of a sum of shifted copies into it, and then not vectorise it; it
  fuses nothing into a loop. An odd C gets a channel of zeros.
  """
  if jax.tree.leaves(arrays)[0].shape[0] % 2:
    filled = jax.tree.map(lambda a: jnp.pad(a, [(0, 1)] + [(0, 0)] * (a.ndim - 1)), arrays)
    return jax.tree.map(lambda y: y[:-1], _in_halves(function, filled))
  arrays = jax.tree.map(lambda a: a.reshape(2, -1, *a.shape[1:]), arrays)
  return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), lax.map(function, arrays))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def depthwise(
  kernels: Kernels,
  xs: Maps,
  learning: Float[Array, ''] | Int[Array, ''] | float,
  stride: int,
  dilations: tuple[int, ...],
) -> Maps:
  """Returns o depthwise convolutions, `[C, ceil(H / stride), ceil(W / stride), B]` each.

  Args:
    kernels: o arrays `[C, k, k]`, k odd.
    xs: their inputs, o arrays `[C, H, W, B]`, or a single one that serves all of them.
    learning: a number; where it is 0 the kernels get zeros for gradients, which saves their time.
    stride: 1 or 2.
    dilations: for each convolution, the distance of its kernel's pixels.
  """
  return _depthwise(kernels, xs, stride, dilations)


class _Saved(NamedTuple):
  """The inputs of `depthwise` that its gradient needs."""

  kernels: Kernels
  xs: Maps
  learning: Float[Array, ''] | Int[Array, ''] | float


def _one_for_each(xs: Maps, kernels: Kernels) -> Maps:
  """Repeats a single input that serves all kernels."""
  return xs * len(kernels) if len(xs) < len(kernels) else xs


def _depthwise(kernels: Kernels, xs: Maps, stride: int, dilations: tuple[int, ...]) -> Maps:
  def half(arrays: tuple[Kernels, Maps]) -> Maps:
    kernels, xs = arrays
    inputs = _one_for_each(xs, kernels)
    return tuple(_shifted_sum(k, x, stride, d) for k, x, d in zip(kernels, inputs, dilations))

  return _in_halves(half, (kernels, xs))


def _depthwise_forward(
  kernels: Kernels,
  xs: Maps,
  learning: Float[Array, ''] | Int[Array, ''] | float,
  stride: int,
  dilations: tuple[int, ...],
) -> tuple[Maps, _Saved]:
  return _depthwise(kernels, xs, stride, dilations), _Saved(kernels, xs, learning)


def _depthwise_backward(
  stride: int, dilations: tuple[int, ...], saved: _Saved, gs: Maps
) -> tuple[Kernels, Maps, None]:
  size = saved.xs[0].shape[1:3]

  def half(arrays: tuple[Kernels, Maps, Maps]) -> tuple[Kernels, Maps]:
    kernels, xs, gs = arrays
    to_xs = tuple(
      _gradient_for_input(kernel, g, size, stride, dilation)
      for kernel, g, dilation in zip(kernels, gs, dilations)
    )
    if len(xs) < len(kernels):
      to_xs = (cast(Array, sum(to_xs)),)
    inputs = _one_for_each(xs, kernels)

    def to_kernels() -> Kernels:
      return tuple(
        _tap_sums(x, g, k.shape[-1], stride, d).reshape(k.shape).astype(k.dtype)
        for k, x, g, d in zip(kernels, inputs, gs, dilations)
      )

    def zeros() -> Kernels:
      return jax.tree.map(jnp.zeros_like, kernels)

    return lax.cond(saved.learning != 0, to_kernels, zeros), to_xs

  to_kernels, to_xs = _in_halves(half, (saved.kernels, saved.xs, gs))
  return to_kernels, to_xs, None


def _gradient_for_input(
  kernel: Float[Array, 'C k k'],
  g: Float[Array, 'C h w B'],
  size: tuple[int, ...],
  stride: int,
  dilation: int,
) -> Float[Array, 'C H W B']:
  """Sends every output back to where it came from, through the mirrored kernel."""
  # With stride 2 the outputs stand apart, so that each meets the pixels around its own place.
  sides = [
    (0, length - (out - 1) * stride - 1, stride - 1) for length, out in zip(size, g.shape[1:3])
  ]
  apart = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *sides, (0, 0, 0)])
  return _shifted_sum(kernel[..., ::-1, ::-1], apart, 1, dilation)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)
