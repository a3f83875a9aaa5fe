"""The supernet as it is defined: one operation of one edge after another, in `[B, H, W, C]`.

It takes the parameters of `networks.supernet.Supernet`, so that both can be compared leaf by leaf.
It is plain and slow on purpose, and shares no code with the package.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree


def batch_norm(x):
  mean = x.mean((0, 1, 2))
  return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean((0, 1, 2)) + 1e-5)


def conv(x, kernel, stride=1, dilation=1, groups=1):
  pad = dilation * (kernel.shape[0] // 2)
  return lax.conv_general_dilated(
    x, kernel, (stride, stride), [(pad, pad)] * 2, rhs_dilation=(dilation, dilation),
    feature_group_count=groups, dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )  # fmt: skip


def depthwise(x, kernel, stride=1, dilation=1):
  """kernel `[C, k, k]`"""
  return conv(x, jnp.moveaxis(kernel, 0, -1)[:, :, None], stride, dilation, groups=x.shape[-1])


def pool(x, init, op, stride):
  padding = [(0, 0), (1, 1), (1, 1), (0, 0)]
  return lax.reduce_window(x, init, op, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def halve(x, kernel):
  half = kernel.shape[1] // 2
  shifted = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
  return jnp.concatenate(
    [x[:, ::2, ::2] @ kernel[:, :half], shifted[:, 1::2, 1::2] @ kernel[:, half:]], -1
  )


def operation(name, params, e, x, stride):
  """One operation on edge `e`, counted by source; None for `none`."""
  if name == 'none':
    return None
  if name == 'max_pool_3x3':
    return batch_norm(pool(x, -jnp.inf, lax.max, stride))
  if name == 'avg_pool_3x3':
    return batch_norm(pool(x, 0.0, lax.add, stride) / pool(jnp.ones_like(x), 0.0, lax.add, stride))
  if name == 'skip_connect':
    return x if stride == 1 else batch_norm(halve(jax.nn.relu(x), params['skip_connect'][e, 0]))
  k, pw = params[f'{name}_depthwise'][e], params[f'{name}_pointwise'][e]
  if name.startswith('dil_conv'):
    return batch_norm(depthwise(jax.nn.relu(x), k[0], stride, 2) @ pw[0])
  y = batch_norm(depthwise(jax.nn.relu(x), k[0], stride) @ pw[0])
  return batch_norm(depthwise(jax.nn.relu(y), k[1]) @ pw[1])


def cell(params, space, s0, s1, op_weights, edge_scores, reduction, after_reduction):
  enter0 = halve if after_reduction else lambda x, k: x @ k
  nodes = [
    batch_norm(enter0(jax.nn.relu(s0), params['entry0'])),
    batch_norm(jax.nn.relu(s1) @ params['entry1']),
  ]
  edges = space.graph.edges
  place = {edge: e for e, edge in enumerate(sorted(edges))}
  for node in range(2, space.graph.num_intermediate + 2):
    total = 0.0
    for e, (src, dst) in enumerate(edges):
      if dst != node:
        continue
      stride = 2 if reduction and src < 2 else 1
      for o, name in enumerate(space.primitives):
        y = operation(name, params, place[src, dst], nodes[src], stride)
        if y is not None:
          total = total + edge_scores[e] * op_weights[e, o] * y
    nodes.append(total)
  return jnp.concatenate(nodes[2:], -1)


def supernet(net, params, images, op_weights, edge_scores):
  """Logits of `net` in training mode."""
  stem = params['stem_norm']
  x = batch_norm(conv(images, params['stem']['kernel'])) * stem['scale'] + stem['bias']
  s0 = s1 = x
  after_reduction = False
  for layer in range(net.num_layers):
    reduction = layer in (net.num_layers // 3, 2 * net.num_layers // 3)
    kind = 'reduce' if reduction else 'normal'
    s0, s1 = s1, cell(
      params[f'cell_{layer}'], net.space, s0, s1, op_weights[kind], edge_scores[kind],
      reduction, after_reduction,
    )  # fmt: skip
    after_reduction = reduction
  return s1.mean((1, 2)) @ params['classifier']['kernel'] + params['classifier']['bias']


def furthest(a: PyTree, b: PyTree) -> float:
  """The largest distance between two leaves, relative to the norm of the tree's largest leaf."""
  scale = max(float(jnp.linalg.norm(x.ravel())) for x in jax.tree.leaves(b))

  def distance(x: Array, y: Array) -> float:
    difference, norm = float(jnp.linalg.norm((x - y).ravel())), float(jnp.linalg.norm(y.ravel()))
    return difference / max(norm, 1e-3 * scale)

  return max(jax.tree.leaves(jax.tree.map(distance, a, b)))
