"""The mixed operations of a fan over `[B, H, W, C]`, as dense convolutions.

Between the depthwise and the pointwise convolution of a separable or dilated operation stands no
non-linearity, so the two kernels are multiplied into one dense kernel. Edges and operations are
output channels side by side, so that one convolution does what takes dozens otherwise: on a GPU
these maps are so small that the number of kernels counts more than their arithmetic.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import relu

from stretchnas_jax.models import norms as norms_lib
from stretchnas_jax.models.pools import pooled

# Rows of an image that the kernels of a fan's first convolution reach over; wider ones are apart.
NEAR = 5

# Output channels that a matrix unit computes at once: fewer of them take as long.
WIDTH = 128


def conv(x, kernel, stride=1, dilation=1, padding=None):
  """A dense convolution, kernel HWIO, padded so that stride 1 keeps the size unless told how."""
  same = dilation * (kernel.shape[0] // 2)
  return lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    (stride, stride),
    padding or [(same, same)] * 2,
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


# ---- dense kernels -------------------------------------------------------------------------------


def merge(params, stage):
  """Depthwise `[n, C, h, w]` times pointwise `[n, C, D]` -> `[h, w, C, n, D]`."""
  depthwise, pointwise = params['depthwise'][:, stage], params['pointwise'][:, stage]
  return jnp.einsum('nchw,ncd->hwcnd', depthwise, pointwise)


def widen(kernel, dilation, size):
  """A dilated kernel `[h, w, ...]` as one without dilation, `[size, size, ...]`."""
  edge = (size - dilation * (kernel.shape[0] - 1) - 1) // 2
  nothing = jnp.zeros((), kernel.dtype)
  spread = [(edge, edge, dilation - 1)] * 2 + [(0, 0, 0)] * (kernel.ndim - 2)
  return lax.pad(kernel, nothing, spread)


def diagonal(kernel):
  """`[h, w, C, m, D] -> [h, w, m * C, m * D]`: each of m edges sees its own channels alone."""
  height, width, channels, m, outputs = kernel.shape
  own = np.eye(m, dtype=bool)[:, None, :, None]
  apart = jnp.where(own, kernel[:, :, None], 0)
  return apart.reshape(height, width, m * channels, m * outputs)


def halving(pointwise):
  """`[n, C, D] -> [2, 2, C, n, D]`, for stride 2: half of D from even positions, half from odd.

  One convolution, that XLA cannot take for matrix products over slices of its input: for those of a
  strided skip its GPU compiler (JAX 0.11) came to an end that took the process with it.
  """
  width = pointwise.shape[-1]
  is_even = np.arange(width) < width // 2
  nothing = jnp.zeros_like(pointwise)
  taps = jnp.stack([pointwise * is_even, nothing, nothing, pointwise * ~is_even]).swapaxes(1, 2)
  return taps.reshape(2, 2, *taps.shape[1:])


# ---- operations ----------------------------------------------------------------------------------


def joined(kernel):
  """`[h, w, C, ..., D]`: all outputs on one axis."""
  return kernel.reshape(*kernel.shape[:3], -1)


def dilation_of(name):
  return 2 if name.startswith('dil') else 1


def reach(name):
  return dilation_of(name) * (int(name[-1]) - 1) + 1


def first_stages(params, names, r, stride):
  """The first convolutions of some operations on all edges, `[B, H, W, n, o, C]`."""
  if len(names) == 1:
    kernel, dilation = merge(params[names[0]], 0)[..., None, :], dilation_of(names[0])
  else:
    size, dilation = max(map(reach, names)), 1
    kernels = [widen(merge(params[name], 0), dilation_of(name), size) for name in names]
    kernel = jnp.stack(kernels, -2)
  y = conv(r, joined(kernel), stride, dilation)
  return y.reshape(*y.shape[:3], *kernel.shape[3:])


def second_stage(params, x):
  """The second convolution of a separable operation, `[B, H, W, n, C] -> [B, H, W, n, C]`."""
  kernel, (n, channels) = merge(params, 1), x.shape[3:]
  together, parts = max(1, WIDTH // channels), []
  for start in range(0, n, together):
    some = slice(start, start + together)
    part = x[..., some, :]
    parts.append(conv(part.reshape(*x.shape[:3], -1), diagonal(kernel[..., some, :])))
  return jnp.concatenate(parts, -1).reshape(x.shape)


def scaled(y, names, weights, norms):
  """Batch norms side by side, each times a weight for every edge.

  Args:
    y: `[B, H, W, n, o, C]`, or `[B, H, W, o, C]` of what all edges have in common.
    names: of the o batch norms.
    weights: o arrays `[n]`.
    norms: the `BatchNorms` of the fan.

  Returns:
    o maps `[B, H, W, n, C]`, float32.
  """
  mean, scale = norms.group(names, lambda: norms_lib.moments(y, (0, 1, 2)))
  scale = scale * jnp.stack(weights, -1)[..., None]  # [n, o, C]
  shift = mean * scale
  y = y if y.ndim == 6 else y[..., None, :, :]
  return [y[..., i, :] * scale[:, i] - shift[:, i] for i in range(len(names))]


def convolutions(params, r, weights, stride, norms):
  """The weighted separable and dilated convolutions; r is the node after ReLU."""
  names = [name for name in weights if 'conv' in name]
  near = [name for name in names if reach(name) <= NEAR]
  groups = [near] * bool(near) + [[name] for name in names if name not in near]
  ones, maps = jnp.ones(len(next(iter(weights.values())))), []
  is_last = lambda name: name.startswith('dil')
  for group in groups:
    y = first_stages(params, group, r, stride)
    labels = [name if is_last(name) else name + '_first' for name in group]
    after = scaled(y, labels, [weights[n] if is_last(n) else ones for n in group], norms)
    for name, x in zip(group, after):
      if not is_last(name):
        y = second_stage(params[name], relu(x).astype(r.dtype))
        (x,) = scaled(y[..., None, :], [name], [weights[name]], norms)
      maps.append(x)
  return maps


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
  r = relu(x)
  maps = convolutions(params, r, weights, stride, norms)
  if 'skip_connect' in weights and stride == 2:
    kernel = halving(params['skip_connect']['pointwise'][:, 0])
    y = conv(r, joined(kernel), 2, padding=[(0, size % 2) for size in r.shape[1:3]])
    y = y.reshape(*y.shape[:3], *kernel.shape[3:])
    maps += scaled(y[..., None, :], ['skip_connect'], [weights['skip_connect']], norms)
  elif 'skip_connect' in weights:
    maps.append(x[..., None, :] * weights['skip_connect'][:, None])
  if pools := [name for name in weights if '_pool_' in name]:
    y = jnp.stack([pooled(x, name, stride) for name in pools], -2)
    maps += scaled(y, pools, [weights[name] for name in pools], norms)
  return jnp.moveaxis(sum(maps).astype(x.dtype), 3, 0)


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
