"""The mixed operation of one edge over planes `[C, H, W, B]`: the form for a CPU.

Faster than a convolution of its own for each operation, for four reasons:
- a depthwise convolution, and its gradient for the image, is a sum of weighted shifted copies in
  one loop over the batch, which vectorises; the gradient for the kernel sums all its taps in one
  pass over the image;
- batch norm after a linear map needs only the second moments of what enters the map, so that it,
  and the weight of the operation, fold into the pointwise matrix: nothing is normalised;
- pools are computed once for all edges that leave a node;
- a cell is a loop over its edges (`walk`).
A search step at C 16, 8 layers, S 4, batch 16 takes 2.2 s on two cores, where PyTorch takes 2.6 s
at its best (`experiments/results/benchmarks/compare.md`).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import relu

from stretchnas_jax.networks.forms import layouts
from stretchnas_jax.networks.forms.layouts import flat
from stretchnas_jax.networks.forms.pooling import pooled


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


@functools.partial(jax.jit, static_argnums=(2, 3))
def shifted_sum(kernels, x, stride=1, dilation=1):
  """The sum over taps of `kernels [C, k, k]` times the windows of `x [C, H, W, B]`."""
  taps = kernels.reshape(len(kernels), -1, 1, 1, 1)
  terms = windows(x, kernels.shape[-1], stride, dilation)
  return sum(taps[:, i] * term for i, term in enumerate(terms)).astype(x.dtype)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def tap_sums(x, g, size, stride, dilation):
  """The gradient for the kernel: all taps in one reduction, so that x and g are read once."""
  terms = [term * g for term in windows(x, size, stride, dilation)]
  zeros = [jnp.zeros((), term.dtype) for term in terms]
  add = lambda a, b: tuple(u + v for u, v in zip(a, b))
  return jnp.stack(lax.reduce(tuple(terms), tuple(zeros), add, (1, 2, 3)), -1)


def halved(f, arrays):
  """`f` of a tree of arrays `[C, ...]`, half of the channels at a time, in a loop.

  XLA would fuse what stands around a sum of shifted copies into it, and then not vectorise it; it
  fuses nothing into a loop. An odd C gets a channel of zeros.
  """
  if jax.tree.leaves(arrays)[0].shape[0] % 2:
    filled = jax.tree.map(lambda a: jnp.pad(a, [(0, 1)] + [(0, 0)] * (a.ndim - 1)), arrays)
    return jax.tree.map(lambda y: y[:-1], halved(f, filled))
  arrays = jax.tree.map(lambda a: a.reshape(2, -1, *a.shape[1:]), arrays)
  return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), lax.map(f, arrays))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def depthwise(kernels, xs, learning, stride, dilations):
  """Several depthwise convolutions in one loop.

  Args:
    kernels: o arrays `[C, k, k]`, k odd.
    xs: what they are applied to: o arrays `[C, H, W, B]`, or a single one that serves all of them.
    learning: a number; 0 for zeros in place of the kernels' gradients. They are a fifth of the time
      of a search (C 16, 8 layers, S 6, batch 8; one core); a pass for alpha and beta does without.
    stride: 1 or 2.
    dilations: o distances of a kernel's pixels.

  Returns:
    o arrays `[C, ceil(H / stride), ceil(W / stride), B]`.
  """
  return _depthwise(kernels, xs, stride, dilations)


def _depthwise(kernels, xs, stride, dilations):
  def half(arrays):
    kernels, xs = arrays
    xs = xs * len(kernels) if len(xs) < len(kernels) else xs
    return tuple(shifted_sum(k, x, stride, d) for k, x, d in zip(kernels, xs, dilations))

  return halved(half, (kernels, xs))


def _depthwise_forward(kernels, xs, learning, stride, dilations):
  return _depthwise(kernels, xs, stride, dilations), (kernels, xs, learning)


def _depthwise_backward(stride, dilations, saved, gs):
  kernels, xs, learning = saved
  # Every output goes back to where it came from, through the mirrored kernel.
  spread = lambda length, out: (0, length - (out - 1) * stride - 1, stride - 1)
  sides = [spread(*pair) for pair in zip(xs[0].shape[1:3], gs[0].shape[1:3])]

  def to_x(kernel, g, dilation):
    apart = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *sides, (0, 0, 0)])
    return shifted_sum(kernel[..., ::-1, ::-1], apart, 1, dilation)

  def half(arrays):
    kernels, xs, gs = arrays
    for_xs = tuple(to_x(*args) for args in zip(kernels, gs, dilations))
    for_xs = (sum(for_xs),) if len(xs) < len(kernels) else for_xs
    xs = xs * len(kernels) if len(xs) < len(kernels) else xs
    taps = lambda: tuple(
      tap_sums(x, g, k.shape[-1], stride, d).reshape(k.shape).astype(k.dtype)
      for k, x, g, d in zip(kernels, xs, gs, dilations)
    )
    nothing = lambda: jax.tree.map(jnp.zeros_like, kernels)
    return lax.cond(learning != 0, taps, nothing), for_xs

  return *halved(half, (kernels, xs, gs)), None


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def fold_batch_norm(zs, pointwise, names, norms, weight=1.0):
  """`weight * batch_norm(pointwise' z)` as the affine map `a z + b`, for o operations at once.

  The moments of `pointwise' z` follow from those of z, so that it is never computed for them.

  Args:
    zs: o feature maps `[C, N]`.
    pointwise: `[o, C, D]`.
    names: of the o batch norms.
    norms: their `BatchNorms`.
    weight: `[o]` or a number.

  Returns:
    a `[o, D, C]` and b `[o, D, 1]`.
  """

  def measure():
    size = zs[0].shape[-1]
    ones = jnp.full((size,), 1 / size, zs[0].dtype)
    mean = jnp.stack([product('cm,m->c', z, ones) for z in zs])
    second = jnp.stack([product('cm,dm->cd', z, z) for z in zs]) / size
    square = jnp.einsum('ocd,oce,ode->oe', second, pointwise, pointwise)
    return jnp.einsum('ocd,oc->od', pointwise, mean), square

  mean, scale = norms.group(names, measure)
  scale = scale * jnp.expand_dims(weight, -1)
  a = pointwise.swapaxes(1, 2) * scale[..., None]
  return a.astype(zs[0].dtype), -(scale * mean)[..., None].astype(zs[0].dtype)


def convolutions(params, r, weights, learning, stride, norms):
  """The mixture of separable and dilated convolutions; r is the node after ReLU."""
  names = [name for name in weights if 'conv' in name]
  if not names:
    return 0.0
  twice = [name for name in names if name.startswith('sep')]
  depth = lambda name, stage: params[name]['depthwise'][stage]
  points = lambda names, stage: jnp.stack([params[n]['pointwise'][stage] for n in names])
  dilations = tuple(1 if name in twice else 2 for name in names)
  zs = depthwise(tuple(depth(name, 0) for name in names), (r,), learning, stride, dilations)
  zs, shape = dict(zip(names, zs)), zs[0].shape
  if twice:
    first = tuple(name + '_first' for name in twice)
    inputs = [flat(zs[name]) for name in twice]
    a, b = fold_batch_norm(inputs, points(twice, 0), first, norms)
    middle = tuple(relu(a[o] @ z + b[o]).reshape(shape) for o, z in enumerate(inputs))
    kernels = tuple(depth(name, 1) for name in twice)
    zs |= zip(twice, depthwise(kernels, middle, learning, 1, (1,) * len(twice)))
  inputs = [flat(zs[name]) for name in names]
  weight = jnp.stack([weights[name] for name in names])
  a, b = fold_batch_norm(inputs, points(names, -1), names, norms, weight)
  return (sum(a[o] @ z for o, z in enumerate(inputs)) + b.sum(0)).reshape(shape)


def strided_skip(kernel, r, weight, norms):
  """A factorized reduction: even positions give half of the channels, odd the rest.

  Args:
    kernel: `[1, C, D]`.
    r: the node after ReLU, `[C, H, W, B]`.
    weight: a number.
    norms: the `BatchNorms` of this edge.
  """
  even, odd = layouts.Planes.halves(r)
  z = jnp.concatenate([flat(even), flat(odd)])
  is_even = np.arange(kernel.shape[-1]) < kernel.shape[-1] // 2
  both = jnp.concatenate([kernel * is_even, kernel * ~is_even], 1)
  a, b = fold_batch_norm([z], both, ['skip_connect'], norms, weight)
  return (a[0] @ z + b[0]).reshape(-1, *even.shape[1:])


def edge(params, r, weights, learning, stride, norms):
  """The mixture of what an edge has for itself, all operations with parameters.

  Args:
    params: `{operation: {'depthwise': [stages, C, k, k], 'pointwise': [stages, C, C]}}`, and
      `{'skip_connect': {'pointwise': [1, C, C]}}` at stride 2.
    r: the node that it leaves, after ReLU, `[C, H, W, B]`.
    weights: `{operation: a number}`, operation weight times edge score, float32.
    learning: as for `depthwise`.
    stride: 1 or 2.
    norms: the `BatchNorms` of this edge.

  Returns:
    `[C, ceil(H / stride), ceil(W / stride), B]`.
  """
  total = convolutions(params, r, weights, learning, stride, norms)
  if 'skip_connect' in weights:
    skip = params['skip_connect']['pointwise']
    total += strided_skip(skip, r, weights['skip_connect'], norms)
  return total


def shared(x, weights, stride, norms):
  """The mixtures of what all edges of a node share: pools and, at stride 1, the node itself.

  Args:
    x: the node, `[C, H, W, B]`.
    weights: `{operation: [S]}`, one number for each node that an edge could end in.
    stride: 1 or 2.
    norms: the `BatchNorms` of this node.

  Returns:
    `[S, C, ceil(H / stride), ceil(W / stride), B]`.
  """
  own = lambda name: layouts.Planes.normalize(pooled(x, name, stride), name, norms)
  maps = [x if name == 'skip_connect' else own(name) for name in weights]
  columns = jnp.stack(list(weights.values())).astype(x.dtype)
  # A product, not a sum over s: its gradients, sums over n, are products too and as fast.
  mixture = jnp.einsum('sn,sm->nm', columns, jnp.stack(maps).reshape(len(maps), -1))
  return mixture.reshape(-1, *maps[0].shape)
