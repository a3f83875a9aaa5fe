"""The mixed operations of a fan over `[B, H, W, C]`, as dense convolutions.

Between the depthwise and the pointwise convolution of a separable or dilated operation stands no
non-linearity, so the two kernels are multiplied into one dense kernel. Edges and operations are
output channels side by side, so that one convolution does what takes dozens otherwise: on a GPU
these maps are so small that the number of kernels counts more than their arithmetic. A search step
at C 16, 8 layers, S 4, batch 64 takes 0.074 s on an H100 in TF32, where PyTorch, which computes one
operation of one edge after another, takes 0.75 to 0.92 s (`experiments/results/benchmarks/gpu`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import relu

from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib
from stretchnas_jax.networks.forms import layouts
from stretchnas_jax.networks.forms.pooling import pooled

# Output channels of a convolution that edges share, most of which are multiplied with zeros: as
# many as tiles of cuDNN's kernels are wide, so that fewer should not be faster (not measured).
WIDTH = 128


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


# ---- dense kernels -------------------------------------------------------------------------------


def merge(params, stage):
  """Depthwise `[n, C, h, w]` times pointwise `[n, C, D]` -> `[h, w, C, n, D]`."""
  depthwise, pointwise = params['depthwise'][:, stage], params['pointwise'][:, stage]
  return jnp.einsum('nchw,ncd->hwcnd', depthwise, pointwise)


def widen(kernel, size):
  """A kernel `[h, w, ...]` as one of `[size, size, ...]`."""
  edge = (size - kernel.shape[0]) // 2
  return jnp.pad(kernel, [(edge, edge)] * 2 + [(0, 0)] * (kernel.ndim - 2))


def diagonal(kernel):
  """`[h, w, C, m, D] -> [h, w, m * C, m * D]`: each of m edges sees its own channels alone."""
  height, width, channels, m, outputs = kernel.shape
  own = np.eye(m, dtype=bool)[:, None, :, None]
  apart = jnp.where(own, kernel[:, :, None], 0)
  return apart.reshape(height, width, m * channels, m * outputs)


def joined(kernel):
  """`[h, w, C, ..., D]`: all outputs on one axis."""
  return kernel.reshape(*kernel.shape[:3], -1)


# ---- dilation ------------------------------------------------------------------------------------


def take_apart(x):
  """`[B, H, W, C] -> [4 B, H / 2, W / 2, C]`: in each the pixels of equal parity."""
  batch, height, width, channels = x.shape
  x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(2, 4, 0, 1, 3, 5)
  return x.reshape(4 * batch, height // 2, width // 2, channels)


def put_together(x):
  """What `take_apart` has done, undone: `[4 B, H / 2, W / 2, ...] -> [B, H, W, ...]`."""
  (count, height, width), rest = x.shape[:3], x.shape[3:]
  x = x.reshape(2, 2, count // 4, height, width, -1).transpose(2, 3, 0, 4, 1, 5)
  return x.reshape(count // 4, 2 * height, 2 * width, *rest)


# ---- operations ----------------------------------------------------------------------------------


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
  mean, scale = norms.group(names, lambda: batch_norm_lib.pixel_moments(y))
  scale = scale * jnp.stack(weights, -1)[..., None]  # [n, o, C]
  n, count, channels = scale.shape
  columns = [v[:, i] for v in (scale, mean * scale) for i in range(count)]
  columns = batch_norm_lib.spread(columns, (*y.shape[:3], n, channels))
  y = y if y.ndim == 6 else y[..., None, :, :]
  return [y[..., i, :] * columns[i] - columns[count + i] for i in range(count)]


def first_stages(params, names, r, dilation, stride):
  """The first convolutions of operations of one dilation, on all edges.

  Returns:
    `[B, H, W, n, o, C]`, and a function that every map `[B, H, W, ...]` made of it goes through.
  """
  kernels = [merge(params[name], 0) for name in names]
  size = max(len(kernel) for kernel in kernels)
  kernel, after = jnp.stack([widen(kernel, size) for kernel in kernels], -2), lambda x: x
  if dilation == 2:
    # Without dilation on a quarter of the pixels, or on each quarter: for the gradient of a dilated
    # kernel cuDNN took eight times as long as for that of another (H100).
    if stride == 2:
      r, stride, dilation = r[:, ::2, ::2], 1, 1
    elif not (r.shape[1] % 2 or r.shape[2] % 2):
      r, after, dilation = take_apart(r), put_together, 1
  y = conv(r, joined(kernel), stride, dilation)
  return y.reshape(*y.shape[:3], *kernel.shape[3:]), after


def separable(params, r, weights, stride, norms):
  """The weighted separable convolutions, as o maps `[B, H, W, n, C]`; r is the node after ReLU."""
  names = [name for name in weights if name.startswith('sep_conv')]
  if not names:
    return []
  y, _ = first_stages(params, names, r, 1, stride)
  ones = [jnp.ones(y.shape[3])] * len(names)
  middle = scaled(y, [name + '_first' for name in names], ones, norms)
  maps = []
  for name, x in zip(names, middle):
    y = second_stage(params[name], relu(x).astype(r.dtype))
    maps += scaled(y[..., None, :], [name], [weights[name]], norms)
  return maps


def dilated(params, r, weights, stride, norms):
  """As `separable`, the dilated ones."""
  names = [name for name in weights if name.startswith('dil_conv')]
  if not names:
    return []
  y, after = first_stages(params, names, r, 2, stride)
  return [after(x) for x in scaled(y, names, [weights[name] for name in names], norms)]


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
  maps = separable(params, r, weights, stride, norms)
  maps += dilated(params, r, weights, stride, norms)
  if 'skip_connect' in weights and stride == 2:
    y = layouts.Plain.halve(r, params['skip_connect']['pointwise'][:, 0].swapaxes(0, 1))
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
  norms = batch_norm_lib.BatchNorms(running and own(lambda a: a[0])(running), axis_name)
  nodes = list(nodes)
  mixtures = fan(params, nodes[fans.first], weights, fans.stride, norms)
  for (_, target), mixture in zip(fans.edges, mixtures):
    nodes[target] += mixture
  return nodes, own(lambda a: a[None])(norms.batch)
