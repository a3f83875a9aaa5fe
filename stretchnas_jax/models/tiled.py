"""The mixed operations of a fan over tiles, as matrix products: the fast form on a CPU.

On a CPU it is faster than the dense convolutions of `merged`, for three reasons:
- a depthwise convolution over tiles with halo is one matrix product a channel, for all edges and
  kernel sizes of a fan together;
- batch norm after a linear map needs only the second moments of what enters the map, so that it,
  and the weight of the operation, fold into the pointwise matrix: the mixture is a matrix product;
- pools are computed once for all edges of a fan.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import relu

from stretchnas_jax.models import layout
from stretchnas_jax.models import norms as norms_lib
from stretchnas_jax.models.layout import channel_rows, halos, retile


def product(subscripts, *operands):
  """An einsum that sums in float32, whatever the type of its operands."""
  return jnp.einsum(
    subscripts, *operands, preferred_element_type=jnp.promote_types(operands[0].dtype, jnp.float32)
  )


@jax.custom_vjp
def tile_product(matrix, tiles):
  """`[..., inputs, outputs], [..., inputs, M] -> [..., outputs, M]`.

  The gradient is written out for the order of its operands: the other order is slower on a CPU.
  """
  return jnp.einsum('...ba,...bm->...am', matrix, tiles)


def _tile_product_forward(matrix, tiles):
  return tile_product(matrix, tiles), (matrix, tiles)


def _tile_product_backward(saved, g):
  matrix, tiles = saved
  to_matrix = jnp.einsum('...bm,...am->...ba', tiles, g)
  return to_matrix, jnp.einsum('...ba,...am->...bm', matrix, g)


tile_product.defvjp(_tile_product_forward, _tile_product_backward)


def stack_kernels(params, names, stage, dtype):
  """Depthwise kernels of several operations, small ones framed by zeros. -> `[n, o, C, k, k]`"""
  kernels = [params[name]['depthwise'][:, stage] for name in names]
  size = max(k.shape[-1] for k in kernels)
  frames = [(size - k.shape[-1]) // 2 for k in kernels]
  padded = [jnp.pad(k, [(0, 0)] * 2 + [(f, f)] * 2) for k, f in zip(kernels, frames)]
  return jnp.stack(padded, 1).astype(dtype)


def stack_pointwise(params, names, stage):
  """-> `[n, o, C, D]`"""
  return jnp.stack([params[name]['pointwise'][:, stage] for name in names], 1)


def depthwise(kernels, tiles, t, stride=1):
  """All kernels `[n, o, C, k, k]` over the tiles `[C, i, i, ...]` of one node.

  Returns:
    `[n, o, C, outputs, M]`.
  """
  n, o, channels, size, _ = kernels.shape
  expand = layout.kernel_matrix(size, t, stride).astype(kernels.dtype)
  inputs = expand.shape[2]
  matrix = jnp.einsum('nochw,hwba->cbnoa', kernels, expand).reshape(channels, inputs, -1)
  z = tile_product(matrix, tiles.reshape(channels, inputs, -1)).reshape(channels, n * o, -1)
  # [C, n * o] -> [n * o, C] in whole blocks: a transposition would be fused into every consumer.
  parts = lax.split(z, [1] * (n * o), 1)
  z = lax.concatenate([part.reshape(1, channels, -1) for part in parts], 0)
  return z.reshape(n, o, channels, -1)


def dilated_depthwise(kernels, r, stride):
  """Dilation 2: even and odd rows and columns never meet, so each parity is a plain convolution.

  Returns:
    `[n, o, C, N]`, and the function that puts positions, here by parity, back in order.
  """
  channels, t, _, rows, columns, batch = r.shape
  width, half = kernels.shape[-1] // 2, t // 2
  if stride == 2:
    return depthwise(kernels, halos(r[:, ::2, ::2], width), half), lambda y: y
  r = r.reshape(channels, half, 2, half, 2, rows, columns, batch).transpose(0, 1, 3, 2, 4, 5, 6, 7)

  def in_order(y):
    by_parity = y.reshape(-1, half, half, 2, 2, rows * columns * batch)
    return by_parity.swapaxes(2, 3).reshape(y.shape)

  return depthwise(kernels, halos(r, width, between=2), half), in_order


def fold_batch_norm(z, pointwise, names, norms, weight=None):
  """`weight * batch_norm(pointwise' z)` as the affine map `a z + b`.

  Args:
    z: `[..., o, C, N]`.
    pointwise: `[..., o, C, D]`.
    names: of the o batch norms.
    norms: their `BatchNorms`.
    weight: `[..., o]` or None for ones.

  Returns:
    a `[..., o, D, C]` and b `[..., o, D, 1]`.
  """

  def measure():
    n = z.shape[-1]
    mean = product('...cm,m->...c', z, jnp.full((n,), 1 / n, z.dtype))
    second = product('...cm,...dm->...cd', z, z) / n
    square = jnp.einsum('...cd,...ce,...de->...e', second, pointwise, pointwise)
    return jnp.einsum('...cd,...c->...d', pointwise, mean), square

  mean, scale = norms(names, measure)
  if weight is not None:
    scale = scale * weight[..., None]
  a = pointwise.swapaxes(-1, -2) * scale[..., None]
  return a.astype(z.dtype), -(scale * mean)[..., None]


def mix(z, pointwise, names, norms, weight):
  """The weighted sum over operations of `batch_norm(pointwise' z)`. -> `[n, D, N]`, `[n, D, 1]`"""
  n, o, channels, _ = z.shape
  a, b = fold_batch_norm(z, pointwise, names, norms, weight)
  a = a.swapaxes(1, 2).reshape(n, channels, o * channels)
  return a @ z.reshape(n, o * channels, -1), b.sum(1)


def pool(x, reduce, fill, stride):
  """A padded 3x3 pooling window as shifted copies: one axis, then the other."""
  for axis in (-5, -4):
    last = x.shape[axis] - stride + 1
    wide = layout.halo(x, 1, axis, axis + 2, fill)
    shifted = (lax.slice_in_dim(wide, d, d + last, stride, axis) for d in range(3))
    x = functools.reduce(reduce, shifted)
  return x


def pooled(x, name, stride):
  """Max pooling, or average pooling that does not count the padding. -> `[C, N]`"""
  if name == 'max_pool_3x3':
    y = pool(x, jnp.maximum, -jnp.inf, stride)
  else:
    t, rows, columns = x.shape[1], x.shape[3], x.shape[4]
    height, width = (
      layout.window_counts(t * tiles, stride).reshape(tiles, -1).T for tiles in (rows, columns)
    )
    counts = (height[:, None, :, None] * width[None, :, None, :])[..., None]
    y = pool(x, jnp.add, 0.0, stride) / counts.astype(x.dtype)
  return channel_rows(retile(y) if stride == 2 else y)


def shared(x, weights, stride, norms):
  """The mixture of what all edges share: pools and, at stride 1, the node itself. -> `[n, C, N]`"""
  names = tuple(name for name in weights if '_pool_' in name)
  maps = []
  if names:
    pools = [pooled(x, name, stride) for name in names]
    measure = lambda: jax.tree.map(
      lambda *m: jnp.stack(m), *[norms_lib.moments(y, 1) for y in pools]
    )
    mean, scale = norms(names, measure)
    maps = [
      (y * s[:, None] - (m * s)[:, None]).astype(x.dtype) for y, m, s in zip(pools, mean, scale)
    ]
  if stride == 1 and 'skip_connect' in weights:
    maps, names = maps + [channel_rows(x)], names + ('skip_connect',)
  if not maps:
    return 0.0
  columns = jnp.stack([weights[name] for name in names]).astype(x.dtype)
  return jnp.einsum('sn,scm->ncm', columns, jnp.stack(maps))


def strided_skips(params, r, weights, norms):
  """The factorized reductions of a fan as one map of even and odd positions. -> `[n, C, N]`"""
  if 'skip_connect' not in weights:
    return 0.0
  kernel = params['skip_connect']['pointwise']  # [n, 1, C, D]
  z = jnp.concatenate([channel_rows(half) for half in layout.Tiled.halves(r)])
  even = np.arange(kernel.shape[-1]) < kernel.shape[-1] // 2
  both = jnp.concatenate([kernel * even, kernel * ~even], 2)
  weight = weights['skip_connect'][:, None]
  a, b = fold_batch_norm(z[None, None], both, ('skip_connect',), norms, weight)
  return a[:, 0] @ z + b[:, 0]


def separable(params, x, r, weights, stride, norms):
  """Both stages of all separable convolutions of a fan. -> `[n, C, N]`"""
  names = tuple(name for name in weights if name.startswith('sep_conv'))
  if not names:
    return 0.0
  channels, t = x.shape[:2]
  kernels = stack_kernels(params, names, 0, x.dtype)
  n, o, width = *kernels.shape[:2], kernels.shape[-1] // 2
  z = depthwise(kernels, halos(r, width), t, stride)
  shape = (channels, t // stride, t // stride) + x.shape[3:]
  if stride == 2:
    z = retile(z.reshape((n, o) + shape))
    shape = z.shape[2:]
    z = z.reshape(n, o, channels, -1)
  first = tuple(name + '_first' for name in names)
  a, b = fold_batch_norm(z, stack_pointwise(params, names, 0), first, norms)
  middle = relu(a @ z + b.astype(x.dtype)).reshape((n, o) + shape)
  kernels = stack_kernels(params, names, 1, x.dtype)
  expand = layout.kernel_matrix(kernels.shape[-1], shape[1]).astype(x.dtype)
  matrix = jnp.einsum('nochw,hwba->nocba', kernels, expand)
  tiles = halos(middle, width).reshape(n, o, channels, expand.shape[2], -1)
  z = tile_product(matrix, tiles).reshape(n, o, channels, -1)
  weight = jnp.stack([weights[name] for name in names], 1)
  y, b = mix(z, stack_pointwise(params, names, 1), names, norms, weight)
  return y + b.astype(x.dtype)


def dilated(params, x, r, weights, stride, norms):
  """All dilated convolutions of a fan. -> `[n, C, N]`"""
  names = tuple(name for name in weights if name.startswith('dil_conv'))
  if not names:
    return 0.0
  z, in_order = dilated_depthwise(stack_kernels(params, names, 0, x.dtype), r, stride)
  if stride == 2:
    half, (n, o, channels) = x.shape[1] // 2, z.shape[:3]
    z = retile(z.reshape((n, o, channels, half, half) + x.shape[3:])).reshape(n, o, channels, -1)
  weight = jnp.stack([weights[name] for name in names], 1)
  y, b = mix(z, stack_pointwise(params, names, 0), names, norms, weight)
  return in_order(y) + b.astype(x.dtype)


def fan(params, x, weights, stride, norms):
  """As `merged.fan`, over tiles: x `[C, t, t, T, U, B]` -> `[n, C, t, t, T / stride, ...]`."""
  n, r = len(next(iter(weights.values()))), relu(x)
  out = shared(x, weights, stride, norms) + separable(params, x, r, weights, stride, norms)
  out += dilated(params, x, r, weights, stride, norms)
  like = x
  if stride == 2:
    out += strided_skips(params, r, weights, norms)
    like = jax.eval_shape(lambda x: retile(x[:, ::2, ::2]), x)
  if isinstance(out, float):  # no operation of ours in this space
    return jnp.zeros((n,) + like.shape, x.dtype)
  return out.astype(x.dtype).reshape((n,) + like.shape)
