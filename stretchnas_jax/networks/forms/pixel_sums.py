"""Sums of feature maps over images and pixels, and their transpose, for GPUs.

XLA gives the sum of a small map over all axes at once to one or two blocks of a GPU, which leaves
the rest of the chip idle. Here the pixels of each image are summed first, and maps that are summed
together share one further kernel. The gradient of a sum is a spread, and that of a spread a sum. So
both are primitives of JAX, each of which knows the other as its transpose.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

_Arrays = Sequence[Any]
_Dims = Sequence[int | None]


def sum_pixels(maps: Sequence[Float[Array, 'B H W ...']]) -> list[Float[Array, '...']]:
  """Returns the sum of each map over images and pixels.

  Args:
    maps: feature maps of the same images; other sizes may differ.
  """
  return _sum.bind(*maps, batches=0)


def spread(
  values: Sequence[Float[Array, '*r']], shape: tuple[Any, ...]
) -> list[Float[Array, 'B H W *r']]:
  """Returns maps that equal a value at every pixel.

  Args:
    values: arrays of one shape.
    shape: the shape `(B, H, W, ...)` of a map; it ends in the shape of a value. In an export B
      is a symbol.
  """
  return _spread.bind(*values, shapes=(tuple(shape[:3]),) * len(values), batches=0)


# ---- the primitives ------------------------------------------------------------------------------
# `batches` counts the axes in front of the images: `jax.vmap` adds one.


def _sum_maps(*maps: Array, batches: int) -> list[Array]:
  of_images = [x.sum((batches + 1, batches + 2)) for x in maps]
  rows = [x.reshape(*x.shape[: batches + 1], -1) for x in of_images]
  ends = np.cumsum([row.shape[-1] for row in rows])[:-1]
  total = jnp.concatenate(lax.optimization_barrier(rows), -1).sum(batches)
  shapes = [x.shape[:batches] + x.shape[batches + 1 :] for x in of_images]
  return [part.reshape(shape) for part, shape in zip(jnp.split(total, ends, -1), shapes)]


def _spread_values(*values: Array, shapes: Sequence[tuple[Any, ...]], batches: int) -> list[Array]:
  pixels = tuple(range(batches, batches + 3))
  return [
    jnp.broadcast_to(jnp.expand_dims(x, pixels), (*x.shape[:batches], *shape, *x.shape[batches:]))
    for x, shape in zip(values, shapes)
  ]


def _shapes_of_sums(*maps: Any, batches: int) -> list[jax.core.ShapedArray]:
  shapes = [x.shape[:batches] + x.shape[batches + 3 :] for x in maps]
  return [jax.core.ShapedArray(shape, x.dtype) for x, shape in zip(maps, shapes)]


def _shapes_of_maps(
  *values: Any, shapes: Sequence[tuple[Any, ...]], batches: int
) -> list[jax.core.ShapedArray]:
  return [
    jax.core.ShapedArray((*x.shape[:batches], *shape, *x.shape[batches:]), x.dtype)
    for x, shape in zip(values, shapes)
  ]


def _transpose_sum(sums: _Arrays, *maps: Any, batches: int) -> list[Array | None]:
  places, sums = _wanted(sums, maps)
  shapes = tuple(maps[i].aval.shape[batches : batches + 3] for i in places)
  found = dict(zip(places, _spread.bind(*sums, shapes=shapes, batches=batches)))
  return [found.get(i) for i in range(len(maps))]


def _transpose_spread(maps: _Arrays, *values: Any, shapes: Any, batches: int) -> list[Array | None]:
  del shapes
  places, maps = _wanted(maps, values)
  found = dict(zip(places, _sum.bind(*maps, batches=batches)))
  return [found.get(i) for i in range(len(values))]


def _wanted(cotangents: _Arrays, operands: _Arrays) -> tuple[list[int], list[Array]]:
  """Returns the places of the operands whose gradients are wanted, and those of their results."""
  places = [i for i, x in enumerate(operands) if ad.is_undefined_primal(x)]
  return places, [ad.instantiate_zeros(cotangents[i]) for i in places]


def _make(
  name: str,
  compute: Callable[..., list[Array]],
  shapes: Callable[..., list[jax.core.ShapedArray]],
  transpose: Callable[..., list[Array | None]],
) -> Primitive:
  """Returns a linear primitive of several arrays, each of which has one result."""
  made = Primitive(name)
  made.multiple_results = True
  made.def_impl(compute)
  made.def_abstract_eval(shapes)
  mlir.register_lowering(made, mlir.lower_fun(compute, multiple_results=True))

  def differentiate(
    primals: _Arrays, tangents: _Arrays, **given: Any
  ) -> tuple[list[Array], list[Array]]:
    tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
    return made.bind(*primals, **given), made.bind(*tangents, **given)

  def add_batches(
    arrays: _Arrays, dims: _Dims, *, batches: int, **given: Any
  ) -> tuple[list[Array], list[int]]:
    (size,) = {x.shape[dim] for x, dim in zip(arrays, dims) if dim is not None}
    front = [batching.bdim_at_front(x, dim, size) for x, dim in zip(arrays, dims)]
    return made.bind(*front, batches=batches + 1, **given), [0] * len(front)

  ad.primitive_jvps[made] = differentiate
  ad.primitive_transposes[made] = transpose
  batching.primitive_batchers[made] = add_batches
  return made


_sum = _make('sum_pixels', _sum_maps, _shapes_of_sums, _transpose_sum)
_spread = _make('spread', _spread_values, _shapes_of_maps, _transpose_spread)
