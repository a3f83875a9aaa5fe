"""The mixed operations of a fan over `[B, H, W, C]`, as dense convolutions.

Between the depthwise and the pointwise convolution of a separable or dilated operation stands no
non-linearity, so the two kernels are multiplied into one dense kernel, and the edges of a fan are
output channels side by side: one convolution for each operation instead of two for each edge.
"""

import functools

import jax.numpy as jnp
from jax import lax
from jax.nn import relu

from stretchnas_jax.models import layout
from stretchnas_jax.models import norms as norms_lib


def conv(x, kernel, stride=1, dilation=1):
  """A dense convolution, kernel HWIO, padded so that stride 1 keeps the size."""
  pad = dilation * (kernel.shape[0] // 2)
  return lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    (stride, stride),
    [(pad, pad)] * 2,
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def merge(depthwise, pointwise):
  """`[n, C, h, w]` times `[n, C, D]` -> one dense kernel `[h, w, C, n * D]`."""
  n, channels, height, width = depthwise.shape
  kernel = jnp.einsum('nchw,ncd->hwcnd', depthwise, pointwise)
  return kernel.reshape(height, width, channels, -1)


def pool(x, reduce, fill, stride):
  """A padded 3x3 pooling window as shifted copies: one axis, then the other."""
  for axis in (1, 2):
    last = (-(-x.shape[axis] // stride) - 1) * stride + 1
    padding = [(1, 1) if a == axis else (0, 0) for a in range(4)]
    padded = jnp.pad(x, padding, constant_values=fill)
    shifted = (lax.slice_in_dim(padded, d, d + last, stride, axis) for d in range(3))
    x = functools.reduce(reduce, shifted)
  return x


def pooled(x, name, stride):
  """Max pooling, or average pooling that does not count the padding."""
  if name == 'max_pool_3x3':
    return pool(x, jnp.maximum, -jnp.inf, stride)
  height, width = (layout.window_counts(length, stride) for length in x.shape[1:3])
  counts = height[:, None, None] * width[:, None]
  return pool(x, jnp.add, 0.0, stride) / counts.astype(x.dtype)


def shared(x, names, stride, norms):
  """What is the same for all edges of a fan: the normalised pools. -> `[B, H, W, len(names), C]`"""
  y = jnp.stack([pooled(x, name, stride) for name in names], -2)
  mean, scale = norms(names, lambda: norms_lib.moments(y, (0, 1, 2)))
  return (y * scale - mean * scale).astype(x.dtype)


def normalized(y, name, norms, weight):
  """`weight [n]` times the batch norm of `y [B, H, W, n, C]`."""
  mean, scale = norms((name,), lambda: [m[:, None] for m in norms_lib.moments(y, (0, 1, 2))])
  scale = scale[:, 0] * weight[:, None]
  return (y * scale - mean[:, 0] * scale).astype(y.dtype)


def separable(params, name, r, weight, stride, norms):
  """Both stages of a separable convolution on all edges of a fan."""
  depthwise, pointwise = params[name]['depthwise'], params[name]['pointwise']
  n = len(weight)
  first = conv(r, merge(depthwise[:, 0], pointwise[:, 0]), stride)
  first = normalized(split(first, n), name + '_first', norms, jnp.ones(n))
  second = [
    conv(relu(first[..., e, :]), merge(depthwise[e : e + 1, 1], pointwise[e : e + 1, 1]))
    for e in range(n)
  ]
  return normalized(jnp.stack(second, -2), name, norms, weight)


def split(y, n):
  """`[B, H, W, n * C] -> [B, H, W, n, C]`."""
  return y.reshape(y.shape[:-1] + (n, -1))


def fan(params, x, weights, stride, norms):
  """The mixtures of operations on the n edges that leave a node (Eq. 1, scaled as in Eq. 6).

  Args:
    params: `{operation: {'depthwise': [n, stages, C, k, k], 'pointwise': [n, stages, C, C]}}`, and
      `{'skip_connect': {'pointwise': [n, 1, C, C]}}` at stride 2.
    x: the node `[B, H, W, C]`.
    weights: `{operation: [n]}`, operation weights times edge scores, float32.
    stride: 1 or 2.
    norms: the `BatchNorms` of this fan.

  Returns:
    `[n, B, ceil(H / stride), ceil(W / stride), C]`.
  """
  n, r, out = len(next(iter(weights.values()))), relu(x), 0.0
  for name, weight in weights.items():
    if name.startswith('sep_conv'):
      out += separable(params, name, r, weight, stride, norms)
    elif name.startswith('dil_conv'):
      kernel = merge(params[name]['depthwise'][:, 0], params[name]['pointwise'][:, 0])
      out += normalized(split(conv(r, kernel, stride, 2), n), name, norms, weight)
    elif name == 'skip_connect' and stride == 2:
      kernel = params[name]['pointwise'][:, 0].astype(x.dtype)
      half = kernel.shape[-1] // 2
      even, odd = layout.Plain.halves(r)
      product = lambda x, k: jnp.einsum('bhwc,ncd->bhwnd', x, k)
      y = jnp.concatenate([product(even, kernel[..., :half]), product(odd, kernel[..., half:])], -1)
      out += normalized(y, name, norms, weight)
  pools = tuple(name for name in weights if '_pool_' in name)
  maps = [shared(x, pools, stride, norms)] if pools else []
  if stride == 1 and 'skip_connect' in weights:
    maps, pools = maps + [x[..., None, :]], pools + ('skip_connect',)
  if maps:
    columns = jnp.stack([weights[name] for name in pools]).astype(x.dtype)
    out += jnp.einsum('bhwsc,sn->bhwnc', jnp.concatenate(maps, -2), columns)
  return jnp.moveaxis(out, 3, 0)
