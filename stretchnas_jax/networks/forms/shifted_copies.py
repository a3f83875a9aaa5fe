"""Depthwise convolutions over batch-last maps, as sums of weighted shifted copies.

On a CPU such a sum is one loop over the images of a batch, which vectorises. The gradient for the
image is a sum of shifted copies too. The gradient for the kernel sums all taps in one pass.

Letters: C channels, `H x W` pixels, `h x w` pixels of the output, B images, k pixels of a kernel's
side, o convolutions side by side.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Float, Int, PyTree

Maps: TypeAlias = tuple[Float[Array, 'C _ _ B'], ...]
Kernels: TypeAlias = tuple[Float[Array, 'C _ _'], ...]


def _widened(x: Float[Array, 'C H W B'], size: int, dilation: int) -> Float[Array, 'C _ _ B']:
  """Surrounds the images with the zeros that a kernel meets outside of them.

  The result is float32 at least, because copies of it are summed.
  """
  pad = dilation * (size // 2)
  wide = jnp.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
  return wide.astype(jnp.promote_types(x.dtype, jnp.float32))


def _windows(
  wide: Float[Array, 'C _ _ B'], size: int, stride: int, dilation: int
) -> Iterator[Float[Array, 'C h w B']]:
  """Yields the copy of a widened map that each of a kernel's `size * size` taps meets, row by row.

  Neighbours are `dilation` pixels apart.
  """
  height, width = (side - dilation * (size - 1) for side in wide.shape[1:3])
  for row, column in np.ndindex(size, size):
    top, left = row * dilation, column * dilation
    part = lax.slice_in_dim(wide, top, top + height, stride, 1)
    yield lax.slice_in_dim(part, left, left + width, stride, 2)


def _shifted_sum(
  kernels: Float[Array, 'C k k'], wide: Float[Array, 'C _ _ B'], stride: int, dilation: int
) -> Float[Array, 'C h w B']:
  """Convolves each channel of a widened map with its own kernel."""
  taps = kernels.reshape(len(kernels), -1, 1, 1, 1)
  terms = _windows(wide, kernels.shape[-1], stride, dilation)
  return cast(Array, sum(taps[:, i] * term for i, term in enumerate(terms)))


def _tap_sums(
  wide: Float[Array, 'C _ _ B'], x: Float[Array, 'C H W B'], size: int, dilation: int
) -> Float[Array, 'C n']:
  """Sums the products of x with each window, in one reduction, so that both are read once.

  At stride 2 most of them are with the zeros between the outputs.
  """
  terms = [term * x for term in _windows(wide, size, 1, dilation)]
  zeros = [jnp.zeros((), term.dtype) for term in terms]

  def add(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(u + v for u, v in zip(a, b))

  return jnp.stack(lax.reduce(tuple(terms), tuple(zeros), add, (1, 2, 3)), -1)


def _by_itself(result: PyTree) -> PyTree:
  """Tells XLA not to inline the call of a jitted function that gave a result; meant for CPUs.

  XLA would fuse the neighbours of a sum of shifted copies into it, and then not vectorise it; it
  fuses nothing into a call.
  """
  return set_xla_metadata(result, inlineable='false')


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
  return _by_itself(_convolve(kernels, xs, stride, dilations))


class _Saved(NamedTuple):
  """The inputs of `depthwise` that its gradient needs."""

  kernels: Kernels
  xs: Maps
  learning: Float[Array, ''] | Int[Array, ''] | float


def _one_for_each(xs: Maps, kernels: Kernels) -> Maps:
  """Repeats a single input that serves all kernels."""
  return xs * len(kernels) if len(xs) < len(kernels) else xs


@functools.partial(jax.jit, static_argnums=(2, 3))
def _convolve(kernels: Kernels, xs: Maps, stride: int, dilations: tuple[int, ...]) -> Maps:
  found = []
  for kernel, x, dilation in zip(kernels, _one_for_each(xs, kernels), dilations):
    wide = _widened(x, kernel.shape[-1], dilation)
    found.append(_shifted_sum(kernel, wide, stride, dilation).astype(x.dtype))
  return tuple(found)


def _depthwise_forward(
  kernels: Kernels,
  xs: Maps,
  learning: Float[Array, ''] | Int[Array, ''] | float,
  stride: int,
  dilations: tuple[int, ...],
) -> tuple[Maps, _Saved]:
  # Not a call of `depthwise`: a gradient has forward-mode derivatives, and a custom_vjp has none.
  return _by_itself(_convolve(kernels, xs, stride, dilations)), _Saved(kernels, xs, learning)


def _depthwise_backward(
  stride: int, dilations: tuple[int, ...], saved: _Saved, gs: Maps
) -> tuple[Kernels, Maps, None]:
  return (*_by_itself(_gradients(*saved, gs, stride, dilations)), None)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _gradients(
  kernels: Kernels,
  xs: Maps,
  learning: Float[Array, ''] | Int[Array, ''] | float,
  gs: Maps,
  stride: int,
  dilations: tuple[int, ...],
) -> tuple[Kernels, Maps]:
  size = xs[0].shape[1:3]
  wides = tuple(
    _widened(_apart(g, size, stride), kernel.shape[-1], dilation)
    for kernel, g, dilation in zip(kernels, gs, dilations)
  )
  to_xs = tuple(
    _shifted_sum(kernel[..., ::-1, ::-1], wide, 1, dilation)
    for kernel, wide, dilation in zip(kernels, wides, dilations)
  )
  if len(xs) < len(kernels):
    to_xs = (cast(Array, sum(to_xs)),)
  to_xs = tuple(to_x.astype(x.dtype) for to_x, x in zip(to_xs, xs))
  inputs = _one_for_each(xs, kernels)

  def to_kernels() -> Kernels:
    # Each tap meets the mirrored window: what a pixel sends to the right comes from the left.
    return tuple(
      _tap_sums(wide, x, k.shape[-1], d)[:, ::-1].reshape(k.shape).astype(k.dtype)
      for k, x, wide, d in zip(kernels, inputs, wides, dilations)
    )

  def zeros() -> Kernels:
    return jax.tree.map(jnp.zeros_like, kernels)

  return lax.cond(learning != 0, to_kernels, zeros), to_xs


def _apart(
  g: Float[Array, 'C h w B'], size: tuple[int, ...], stride: int
) -> Float[Array, 'C H W B']:
  """Sets the outputs `stride` pixels apart, so that each meets the pixels around its own place."""
  sides = [
    (0, length - (out - 1) * stride - 1, stride - 1) for length, out in zip(size, g.shape[1:3])
  ]
  return lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *sides, (0, 0, 0)])


depthwise.defvjp(_depthwise_forward, _depthwise_backward)
