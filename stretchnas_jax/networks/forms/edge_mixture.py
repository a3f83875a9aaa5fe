"""The mixed operation of one edge over batch-last maps `[C, H, W, B]`: the form for a CPU.

Four ideas make it faster than a convolution of its own for each operation:
- depthwise convolutions are sums of weighted shifted copies (`shifted_copies`);
- batch norm after a linear map needs only the second moments of the map's input; batch norm and the
  weight of the operation then fold into the pointwise matrix, and nothing is normalised;
- pools are computed once for all edges that leave a node;
- a cell is a loop over its edges (`edge_loop`).
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax.nn import relu
from jaxtyping import Array, Float, Int

from stretchnas_jax.networks.forms import draws as draws_lib
from stretchnas_jax.networks.forms import partial_channels
from stretchnas_jax.networks.forms.batch_norm import BatchNorms
from stretchnas_jax.networks.forms.edge_groups import AUXILIARY_SKIP, DROPPED_SKIP
from stretchnas_jax.networks.forms.layouts import BatchLast, flat, split_parities
from stretchnas_jax.networks.forms.pooling import pooled
from stretchnas_jax.networks.forms.shifted_copies import Maps, depthwise


class EdgeGiven(NamedTuple):
  """The arguments of an edge that have no gradients.

  Attributes:
    learning: as for `shifted_copies.depthwise`.
    draws: of its random map, or None.
  """

  learning: Float[Array, ''] | Int[Array, ''] | float
  draws: draws_lib.Draws | None = None


EdgeParams: TypeAlias = Mapping[str, Mapping[str, Float[Array, '...']]]
"""For each operation, `{'depthwise': [stages, C, k, k], 'pointwise': [stages, C, C]}`."""


def _product(subscripts: str, *operands: Float[Array, '...']) -> Float[Array, '...']:
  """An einsum that sums in float32 or wider, whatever the type of its operands."""
  wide = jnp.promote_types(operands[0].dtype, jnp.float32)
  return jnp.einsum(subscripts, *operands, preferred_element_type=wide)


def _fold_batch_norm(
  zs: Sequence[Float[Array, 'C N']],
  pointwise: Float[Array, 'o C D'],
  names: Sequence[str],
  norms: BatchNorms,
  weight: Float[Array, '*o'] | float = 1.0,
) -> tuple[Float[Array, 'o D C'], Float[Array, 'o D 1']]:
  """Writes `weight * batch_norm(pointwise' z)` as the affine map `a z + b`, o times at once.

  The moments of `pointwise' z` follow from those of z, so that it is never computed for them.

  Args:
    zs: o feature maps.
    pointwise: the o matrices.
    names: the names of the o batch norms.
    norms: the statistics.
    weight: one number, or one for each map.

  Returns:
    a and b.
  """

  def measure() -> tuple[Float[Array, 'o D'], Float[Array, 'o D']]:
    size = zs[0].shape[-1]
    ones = jnp.full((size,), 1 / size, zs[0].dtype)
    mean = jnp.stack([_product('cm,m->c', z, ones) for z in zs])
    second = jnp.stack([_product('cm,dm->cd', z, z) for z in zs]) / size
    square = jnp.einsum('ocd,oce,ode->oe', second, pointwise, pointwise)
    return jnp.einsum('ocd,oc->od', pointwise, mean), square

  mean, scale = norms.get_group(names, measure)
  scale = scale * jnp.expand_dims(weight, -1)
  a = pointwise.swapaxes(1, 2) * scale[..., None]
  return a.astype(zs[0].dtype), -(scale * mean)[..., None].astype(zs[0].dtype)


def _convolutions(
  params: EdgeParams,
  r: Float[Array, 'C H W B'],
  weights: Mapping[str, Float[Array, '']],
  learning: Float[Array, ''] | Int[Array, ''] | float,
  stride: int,
  norms: BatchNorms,
) -> Float[Array, 'C h w B']:
  """The mixture of separable and dilated convolutions; arguments as for `edge`."""
  names = [name for name in weights if 'conv' in name]
  separable = [name for name in names if name.startswith('sep')]
  dilations = tuple(1 if name in separable else 2 for name in names)
  kernels = tuple(params[name]['depthwise'][0] for name in names)
  zs = dict(zip(names, depthwise(kernels, (r,), learning, stride, dilations)))
  shape = zs[names[0]].shape
  if separable:
    middle = _between_stages(params, [zs[name] for name in separable], separable, norms)
    kernels = tuple(params[name]['depthwise'][1] for name in separable)
    zs |= zip(separable, depthwise(kernels, middle, learning, 1, (1,) * len(separable)))
  inputs = [flat(zs[name]) for name in names]
  weight = jnp.stack([weights[name] for name in names])
  pointwise = jnp.stack([params[name]['pointwise'][-1] for name in names])
  a, b = _fold_batch_norm(inputs, pointwise, names, norms, weight)
  return (sum(a[o] @ z for o, z in enumerate(inputs)) + b.sum(0)).reshape(shape)


def _between_stages(
  params: EdgeParams, zs: Sequence[Float[Array, 'C h w B']], names: Sequence[str], norms: BatchNorms
) -> Maps:
  """Pointwise convolution, batch norm and ReLU between the two stages of separable operations."""
  inputs = [flat(z) for z in zs]
  pointwise = jnp.stack([params[name]['pointwise'][0] for name in names])
  norm_names = tuple(name + '_first' for name in names)
  a, b = _fold_batch_norm(inputs, pointwise, norm_names, norms)
  return tuple(relu(a[o] @ z + b[o]).reshape(zs[0].shape) for o, z in enumerate(inputs))


def _strided_skip(
  name: str,
  kernel: Float[Array, '1 C D'],
  r: Float[Array, 'C H W B'],
  weight: Float[Array, ''],
  norms: BatchNorms,
) -> Float[Array, 'D h w B']:
  """A factorized reduction: even positions give half of the channels, odd ones the rest."""
  even, odd = split_parities(r)
  z = jnp.concatenate([flat(even), flat(odd)])
  is_even = np.arange(kernel.shape[-1]) < kernel.shape[-1] // 2
  both = jnp.concatenate([kernel * is_even, kernel * ~is_even], 1)
  a, b = _fold_batch_norm([z], both, [name], norms, weight)
  return (a[0] @ z + b[0]).reshape(-1, *even.shape[1:])


def _random_map(
  x: Float[Array, 'C H W B'],
  weights: Mapping[str, Float[Array, '']],
  stride: int,
  draws: draws_lib.Draws,
) -> Float[Array, 'C h w B']:
  """The node itself with dropout, or noise, times its weight."""
  if DROPPED_SKIP in weights:
    factors = draws_lib.skip_factors(draws, (*x.shape[1:3], x.shape[0]))
    return x * (weights[DROPPED_SKIP] * BatchLast.enter(factors)).astype(x.dtype)
  height, width = x[0, ::stride, ::stride].shape[:2]
  noise = draws_lib.noise(draws, (height, width, x.shape[0]))
  return (weights['noise'] * BatchLast.enter(noise)).astype(x.dtype)


def edge(
  params: EdgeParams,
  r: Float[Array, 'C H W B'],
  weights: Mapping[str, Float[Array, '']],
  given: EdgeGiven,
  stride: int,
  norms: BatchNorms,
) -> Float[Array, 'C h w B']:
  """Returns the mixture of the operations that an edge does not share: those with parameters.

  Args:
    params: the edge's parameters; at stride 2 `{'skip_connect': {'pointwise': [1, C, C]}}` too.
    r: the edge's source after ReLU; for a skip connection with dropout, before.
    weights: for each operation its weight times the edge score, float32.
    given: the arguments without gradients.
    stride: 1 or 2.
    norms: the statistics of this edge.

  Returns:
    `[C, ceil(H / stride), ceil(W / stride), B]`.
  """
  maps = []
  if any('conv' in name for name in weights):
    maps.append(_convolutions(params, r, weights, given.learning, stride, norms))
  for name in ('skip_connect', AUXILIARY_SKIP):
    if name in weights:
      maps.append(_strided_skip(name, params[name]['pointwise'], r, weights[name], norms))
  if given.draws is not None:
    maps.append(_random_map(r, weights, stride, given.draws))
  return functools.reduce(jnp.add, maps)


def shared(
  x: Float[Array, 'C H W B'],
  weights: Mapping[str, Float[Array, 'S']],
  stride: int,
  norms: BatchNorms,
) -> Float[Array, 'S C h w B']:
  """Returns the mixtures of operations that all edges of a node share.

  They are the pools and, at stride 1, the node itself.

  Args:
    x: the node.
    weights: for each operation one number for each node where an edge could end, float32.
    stride: 1 or 2.
    norms: the statistics of this node.

  Returns:
    `[S, C, ceil(H / stride), ceil(W / stride), B]`.
  """

  def compute(name: str) -> Float[Array, 'C h w B']:
    if '_pool_' not in name:
      return x
    return BatchLast.normalize(pooled(x, name, stride), name, norms)

  maps = [compute(name) for name in weights]
  columns = jnp.stack(list(weights.values())).astype(x.dtype)
  # A product, not a sum over s: its gradients, sums over n, are products too and as fast.
  mixture = jnp.einsum('sn,sm->nm', columns, jnp.stack(maps).reshape(len(maps), -1))
  return mixture.reshape(-1, *maps[0].shape)


def bypass(
  x: Float[Array, 'C H W B'], weights: Float[Array, 'S'], stride: int, split: int
) -> Float[Array, 'S D h w B']:
  """Returns the channels that pass the edges of a node by, times their edge scores.

  Args:
    x: the node.
    weights: an edge score for each node where an edge could end, float32.
    stride: 1 or 2.
    split: K; D is C - C / K.
  """
  rest = partial_channels.bypass(x, split, stride, BatchLast.channel_axis)
  return weights.astype(x.dtype)[:, None, None, None, None] * rest
