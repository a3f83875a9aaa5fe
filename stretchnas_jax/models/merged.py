"""The mixed operations of a fan over `[B, H, W, C]`, as dense convolutions.

Between the depthwise and the pointwise convolution of a separable or dilated operation stands no
non-linearity, so the two kernels are multiplied into one dense kernel, and the edges of a fan are
output channels side by side: one convolution for each operation instead of two for each edge.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import relu

from stretchnas_jax.models import layout
from stretchnas_jax.models import norms as norms_lib
from stretchnas_jax.models.pools import pooled


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


def normalized(y, name, norms, weight):
  """`weight [n]` times the batch norm of `y [B, H, W, n, C]`."""
  mean, scale = norms(name, lambda: norms_lib.moments(y, (0, 1, 2)))
  scale = scale * weight[:, None]
  return (y * scale - mean * scale).astype(y.dtype)


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
  maps = [layout.Plain.normalize(pooled(x, name, stride), name, norms) for name in pools]
  if stride == 1 and 'skip_connect' in weights:
    maps, pools = maps + [x], pools + ('skip_connect',)
  if maps:
    columns = jnp.stack([weights[name] for name in pools]).astype(x.dtype)
    out += jnp.einsum('bhwsc,sn->bhwnc', jnp.stack(maps, -2), columns)
  return jnp.moveaxis(out, 3, 0)


def add_fans(fans, params, nodes, weights, learning, running, axis_name):
  """Adds the mixtures of the fan of one node to the nodes where its edges end.

  Args:
    fans: a `Fans` of one node and E edges.
    params: as for `fan`.
    nodes: the S + 2 nodes of a cell, `[B, H, W, C]`, 0.0 where no edge has arrived yet.
    weights: as for `fan`.
    learning: not used here; see `planes.depthwise`.
    running: as for `BatchNorms`, `[1, C]` for pools and `[E, C]` for the rest, or None.
    axis_name: the parallel axis over which a batch is spread, or None.

  Returns:
    The nodes, and the moments of the batch norms as `running` has them; `{}` where that is given.
  """
  own = lambda change: (
    lambda norms: {
      name: jax.tree.map(change, norms[name]) if fans.shares(name) else norms[name]
      for name in norms
    }
  )
  norms = norms_lib.BatchNorms(running and own(lambda a: a[0])(running), axis_name)
  nodes = list(nodes)
  mixtures = fan(params, nodes[fans.first], weights, fans.stride, norms)
  for (_, target), mixture in zip(fans.edges, mixtures):
    nodes[target] += mixture
  return nodes, own(lambda a: a[None])(norms.batch)
