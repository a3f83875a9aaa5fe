"""The mixed operations of a fan over planes `[C, H, W, B]`: the fast form on a CPU.

On a CPU it is faster than the dense convolutions of `merged`, for three reasons:
- a depthwise convolution, and its gradient for the image, is a sum of weighted shifted copies in
  one loop over the batch, which vectorises; the gradient for the kernel sums all its taps in one
  pass over the image;
- batch norm after a linear map needs only the second moments of what enters the map, so that it,
  and the weight of the operation, fold into the pointwise matrix: nothing is normalised;
- pools are computed once for all edges of a fan.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import relu

from stretchnas_jax.models import layout
from stretchnas_jax.models.layout import flat
from stretchnas_jax.models.pools import pooled


def product(subscripts, *operands):
  """An einsum that sums in float32, whatever the type of its operands."""
  return jnp.einsum(
    subscripts, *operands, preferred_element_type=jnp.promote_types(operands[0].dtype, jnp.float32)
  )


def windows(x, size, stride, dilation):
  """The copies of `x [..., H, W, B]` that the taps of a kernel meet, row by row.

  Yields size * size arrays `[..., ceil(H / stride), ceil(W / stride), B]` of what is `dilation`
  pixels further each, zeros outside; float32 at least, as they are summed.
  """
  pad = dilation * (size // 2)
  wide = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(pad, pad), (pad, pad), (0, 0)])
  wide = wide.astype(jnp.promote_types(x.dtype, jnp.float32))
  height, width = x.shape[-3:-1]
  for row, column in np.ndindex(size, size):
    part = lax.slice_in_dim(wide, row * dilation, row * dilation + height, stride, -3)
    yield lax.slice_in_dim(part, column * dilation, column * dilation + width, stride, -2)


def shifted_sum(kernels, x, stride=1, dilation=1):
  """The sum over taps of `kernels [C, k, k]` times the windows of `x [C, H, W, B]`."""
  taps = kernels.reshape(len(kernels), -1, 1, 1, 1)
  terms = windows(x, kernels.shape[-1], stride, dilation)
  return sum(taps[:, i] * term for i, term in enumerate(terms)).astype(x.dtype)


def tap_sums(x, g, size, stride, dilation):
  """The gradient for the kernel: all taps in one reduction, so that x and g are read once."""
  terms = [term * g for term in windows(x, size, stride, dilation)]
  zeros = [jnp.zeros((), term.dtype) for term in terms]
  add = lambda a, b: tuple(u + v for u, v in zip(a, b))
  return jnp.stack(lax.reduce(tuple(terms), tuple(zeros), add, (1, 2, 3)), -1)


def per_edge(f, *arrays):
  """`f` over the leading axis, in a loop: XLA would fuse what is around it into its own loops.

  A single edge is cut into two halves of its channels, as a loop of one turn is no loop to XLA.
  """
  if len(arrays[0]) > 1:
    return lax.map(lambda slices: f(*slices), arrays)
  halved = [a.reshape(2, -1, *a.shape[2:]) for a in arrays]
  y = lax.map(lambda slices: f(*slices), tuple(halved))
  return y.reshape(1, -1, *y.shape[2:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(kernels, x, stride=1, dilation=1):
  """A depthwise convolution on each of the n edges of a fan.

  Args:
    kernels: `[n, C, k, k]`, k odd; C even.
    x: `[n, C, H, W, B]`, or `[1, C, H, W, B]`, the same for all edges.
    stride: 1 or 2.
    dilation: distance of the kernel's pixels.

  Returns:
    `[n, C, ceil(H / stride), ceil(W / stride), B]`.
  """
  if len(x) == len(kernels):
    return per_edge(lambda k, x: shifted_sum(k, x, stride, dilation), kernels, x)
  return per_edge(lambda k: shifted_sum(k, x[0], stride, dilation), kernels)


def _depthwise_forward(kernels, x, stride, dilation):
  return depthwise(kernels, x, stride, dilation), (kernels, x)


def _depthwise_backward(stride, dilation, saved, g):
  kernels, x = saved
  size = kernels.shape[-1]
  # Every output goes back to where it came from, through the mirrored kernel.
  spread = lambda length, out: (0, length - (out - 1) * stride - 1, stride - 1)
  sides = [spread(*pair) for pair in zip(x.shape[2:4], g.shape[2:4])]

  def to_x(kernel, g):
    apart = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *sides, (0, 0, 0)])
    return shifted_sum(kernel[..., ::-1, ::-1], apart, 1, dilation)

  if len(x) == len(kernels):
    for_x = per_edge(to_x, kernels, g)
    taps = per_edge(lambda x, g: tap_sums(x, g, size, stride, dilation), x, g)
  else:
    add = lambda total, slices: (total + to_x(*slices), None)
    for_x = lax.scan(add, jnp.zeros_like(x[0]), (kernels, g))[0][None]
    taps = per_edge(lambda g: tap_sums(x[0], g, size, stride, dilation), g)
  return taps.reshape(kernels.shape).astype(kernels.dtype), for_x


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def fold_batch_norm(z, pointwise, name, norms, weight=None):
  """`weight * batch_norm(pointwise' z)` as the affine map `a z + b`.

  The moments of `pointwise' z` follow from those of z, so that it is never computed for them.

  Args:
    z: `[n, C, N]`, or `[C, N]` where it is the same for all edges.
    pointwise: `[n, C, D]`.
    name: of the batch norm.
    norms: the `BatchNorms` of this fan.
    weight: `[n]` or None for ones.

  Returns:
    a `[n, D, C]` and b `[n, D, 1]`.
  """

  def measure():
    n = z.shape[-1]
    mean = product('...cm,m->...c', z, jnp.full((n,), 1 / n, z.dtype))
    second = product('...cm,...dm->...cd', z, z) / n
    square = jnp.einsum('...cd,...ce,...de->...e', second, pointwise, pointwise)
    return jnp.einsum('...cd,...c->...d', pointwise, mean), square

  mean, scale = norms(name, measure)
  if weight is not None:
    scale = scale * weight[:, None]
  a = pointwise.swapaxes(1, 2) * scale[..., None]
  return a.astype(z.dtype), -(scale * mean)[..., None].astype(z.dtype)


def affine(z, pointwise, name, norms, weight=None):
  """`weight * batch_norm(pointwise' z)`, planes `[n, C, H, W, B]` as z is."""
  a, b = fold_batch_norm(flat(z), pointwise, name, norms, weight)
  return (a @ flat(z) + b).reshape(z.shape)


def convolved(params, name, r, weight, stride, norms):
  """One separable or dilated convolution on all edges of a fan; r is the node after ReLU."""
  r = r[None]
  depth, point = params[name]['depthwise'], params[name]['pointwise']
  if name.startswith('dil'):
    return affine(depthwise(depth[:, 0], r, stride, 2), point[:, 0], name, norms, weight)
  first = affine(depthwise(depth[:, 0], r, stride), point[:, 0], name + '_first', norms)
  return affine(depthwise(depth[:, 1], relu(first)), point[:, 1], name, norms, weight)


def strided_skip(kernel, r, weight, norms):
  """The factorized reductions of a fan: even positions give half of the channels, odd the rest.

  Args:
    kernel: `[n, C, D]`.
    r: the node after ReLU, `[C, H, W, B]`.
    weight: `[n]`.
    norms: the `BatchNorms` of this fan.
  """
  even, odd = layout.Planes.halves(r)
  z = jnp.concatenate([flat(even), flat(odd)])
  is_even = np.arange(kernel.shape[-1]) < kernel.shape[-1] // 2
  both = jnp.concatenate([kernel * is_even, kernel * ~is_even], 1)
  a, b = fold_batch_norm(z, both, 'skip_connect', norms, weight)
  return (a @ z + b).reshape(-1, kernel.shape[-1], *even.shape[1:])


def shared(x, weights, stride, norms):
  """The mixture of what all edges share: pools and, at stride 1, the node itself."""
  names = [name for name in weights if '_pool_' in name]
  maps = [layout.Planes.normalize(pooled(x, name, stride), name, norms) for name in names]
  if stride == 1 and 'skip_connect' in weights:
    maps, names = maps + [x], names + ['skip_connect']
  if not maps:
    return 0.0
  columns = jnp.stack([weights[name] for name in names]).astype(x.dtype)
  # A product, not a sum over s: its gradients, sums over n, are products too and as fast.
  mixture = jnp.einsum('sn,sm->nm', columns, jnp.stack(maps).reshape(len(maps), -1))
  return mixture.reshape(-1, *maps[0].shape)


def fan(params, x, weights, stride, norms):
  """As `merged.fan`, over planes: x `[C, H, W, B]` -> `[n, C, H / stride, W / stride, B]`."""
  r, total = relu(x), shared(x, weights, stride, norms)
  for name, weight in weights.items():
    if name == 'skip_connect' and stride == 2:
      total += strided_skip(params[name]['pointwise'][:, 0], r, weight, norms)
    elif 'conv' in name:
      total += convolved(params, name, r, weight, stride, norms)
  if isinstance(total, float):  # no operation of ours in this space
    like = jax.eval_shape(lambda x: x[:, ::stride, ::stride], x)
    return jnp.zeros((len(next(iter(weights.values()), ())), *like.shape), x.dtype)
  return total
