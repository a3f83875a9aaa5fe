"""The supernet as it is defined: one operation of one edge after another, in `[B, H, W, C]`.

It takes the parameters of `networks.supernet.Supernet`, so that both can be compared leaf by leaf.
It is plain and slow on purpose, and shares no code with the package.
"""

import typing

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import PyTree


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
  """One operation; e is the row of its edge in the arrays of the operation. None for `none`."""
  if name == 'none':
    return None
  if name == 'max_pool_3x3':
    return batch_norm(pool(x, -jnp.inf, lax.max, stride))
  if name == 'avg_pool_3x3':
    return batch_norm(pool(x, 0.0, lax.add, stride) / pool(jnp.ones_like(x), 0.0, lax.add, stride))
  if name in ('skip_connect', 'auxiliary_skip'):
    return x if stride == 1 else batch_norm(halve(jax.nn.relu(x), params[name][e, 0]))
  k, pw = params[f'{name}_depthwise'][e], params[f'{name}_pointwise'][e]
  if name.startswith('dil_conv'):
    return batch_norm(depthwise(jax.nn.relu(x), k[0], stride, 2) @ pw[0])
  y = batch_norm(depthwise(jax.nn.relu(x), k[0], stride) @ pw[0])
  return batch_norm(depthwise(jax.nn.relu(y), k[1]) @ pw[1])


class Options(typing.NamedTuple):
  """The options of a network.

  `partial` is K of PC-DARTS; `allowed` has a table `[E, O]` of booleans for each cell type;
  `auxiliary` is the weight b of DARTS-; `edge_factors(layer, e)` gives `[B]` and `skip_factors` the
  same of `[B, H, W, C]`, for edge e by source.
  """

  partial: int = 1
  allowed: dict | None = None
  auxiliary: float | None = None
  edge_factors: typing.Callable | None = None
  skip_factors: typing.Callable | None = None


PLAIN = Options()


def shuffle(x, k):
  """The channels of PC-DARTS' node: those of the operations land on 0, K, 2K, ..."""
  size = x.shape[-1] // k
  return x[..., np.array([g * size + c for c in range(size) for g in range(k)])]


def mixed_edge(params, rows, x, stride, weights, factors, options):
  """The mixture on one edge before its score, not yet shuffled.

  `rows` has the edge's row of each operation that stands on it, `weights` the weight of each,
  `factors` those of dropout, or None.
  """
  seen = x.shape[-1] // options.partial
  part, total = x[..., :seen], 0.0
  for name, weight in weights.items():
    y = operation(name, params, rows.get(name), part, stride)
    if y is not None:
      if name == 'skip_connect' and stride == 1 and factors is not None:
        y = y * factors
      total = total + weight * y
  if options.auxiliary is not None:
    y = operation('auxiliary_skip', params, rows['auxiliary_skip'], part, stride)
    total = total + options.auxiliary * y
  if options.partial == 1:
    return total
  rest = x[..., seen:]
  if stride == 2:
    rest = lax.reduce_window(rest, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'SAME')
  empty = jnp.zeros((*rest.shape[:-1], seen), rest.dtype)
  return jnp.concatenate([total + empty, rest], -1)


def rows_of_edges(space, kind, options):
  """For each edge by source, the row of each operation that stands on it."""
  edges = sorted(space.graph.edges)
  found, counts = [{} for _ in edges], {}
  for e, edge in enumerate(edges):
    for o, name in enumerate((*space.primitives, 'auxiliary_skip')):
      allowed = True
      if options.allowed is not None and name != 'auxiliary_skip':
        allowed = options.allowed[kind][space.graph.edges.index(edge), o]
      if allowed:
        counts[name] = counts.get(name, -1) + 1
        found[e][name] = counts[name]
  return found


def cell(
  params, space, s0, s1, op_weights, edge_scores, reduction, after_reduction,
  layer=0, options=PLAIN,
):  # fmt: skip
  enter0 = halve if after_reduction else lambda x, k: x @ k
  nodes = [
    batch_norm(enter0(jax.nn.relu(s0), params['entry0'])),
    batch_norm(jax.nn.relu(s1) @ params['entry1']),
  ]
  edges = space.graph.edges
  place = {edge: e for e, edge in enumerate(sorted(edges))}
  rows = rows_of_edges(space, 'reduce' if reduction else 'normal', options)
  for node in range(2, space.graph.num_intermediate + 2):
    total = 0.0
    for e, (src, dst) in enumerate(edges):
      if dst != node:
        continue
      at = place[src, dst]
      stride = 2 if reduction and src < 2 else 1
      weights = {
        name: op_weights[e, o] for o, name in enumerate(space.primitives) if name in rows[at]
      }
      factors = None
      if options.skip_factors is not None:
        seen = nodes[src][..., : nodes[src].shape[-1] // options.partial]
        factors = options.skip_factors(layer, at, seen)
      y = mixed_edge(params, rows[at], nodes[src], stride, weights, factors, options)
      if options.edge_factors is not None:
        y = y * options.edge_factors(layer, at)[:, None, None, None]
      total = total + edge_scores[e] * y
    nodes.append(shuffle(total, options.partial))
  return jnp.concatenate(nodes[2:], -1)


def supernet(net, params, images, op_weights, edge_scores, options=PLAIN):
  """Logits of `net` in training mode."""
  stem = params['stem_norm']
  x = batch_norm(conv(images, params['stem']['kernel'])) * stem['scale'] + stem['bias']
  s0 = s1 = x
  after_reduction = False
  counts = {'normal': 0, 'reduce': 0}
  for layer in range(net.num_layers):
    reduction = layer in (net.num_layers // 3, 2 * net.num_layers // 3)
    kind = 'reduce' if reduction else 'normal'
    weights = op_weights[kind]
    if weights.ndim == 3:
      weights = weights[counts[kind]]
    counts[kind] += 1
    s0, s1 = s1, cell(
      params[f'cell_{layer}'], net.space, s0, s1, weights, edge_scores[kind],
      reduction, after_reduction, layer, options,
    )  # fmt: skip
    after_reduction = reduction
  if 'final_norm' in params:
    norm = params['final_norm']
    s1 = jax.nn.relu(batch_norm(s1) * norm['scale'] + norm['bias'])
  return s1.mean((1, 2)) @ params['classifier']['kernel'] + params['classifier']['bias']


def furthest(a: PyTree, b: PyTree) -> float:
  """The largest distance between two leaves, relative to the norm of the tree's largest leaf."""
  a, b = (jax.tree.map(lambda x: np.asarray(x, np.float64), tree) for tree in (a, b))
  scale = max(float(np.linalg.norm(x)) for x in map(np.ravel, jax.tree.leaves(b)))

  def distance(x: np.ndarray, y: np.ndarray) -> float:
    difference, norm = float(np.linalg.norm((x - y).ravel())), float(np.linalg.norm(y.ravel()))
    return difference / max(norm, 1e-3 * scale)

  return max(jax.tree.leaves(jax.tree.map(distance, a, b)))
