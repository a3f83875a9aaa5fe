"""The mixed operations of an edge group over channels-last maps, as dense convolutions.

Between the depthwise and the pointwise convolution of a separable or dilated operation stands no
non-linearity, so the two kernels are multiplied into one dense kernel. Edges and operations are
output channels side by side, so that one convolution does the work of dozens. On a GPU the maps of
a search are so small that the number of kernels counts more than their arithmetic.

Letters: B images, `H x W` pixels, `h x w` pixels of the output, C channels, n edges of the group,
o operations side by side.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import relu
from jaxtyping import Array, Float, Int

from stretchnas_jax.networks.forms import (
  batch_norm,
  dense_kernels,
  partial_channels,
)
from stretchnas_jax.networks.forms import draws as draws_lib
from stretchnas_jax.networks.forms.edge_groups import (
  AUXILIARY_SKIP,
  BYPASS,
  DROPPED_SKIP,
  NO_EXTRAS,
  EdgeGroup,
  Extras,
)
from stretchnas_jax.networks.forms.layouts import ChannelsLast
from stretchnas_jax.networks.forms.pooling import pooled

# Output channels of a convolution that edges share, most of which are multiplied with zeros: as
# many as tiles of cuDNN's kernels are wide, so that fewer should not be faster.
_WIDTH = 128

GroupParams: TypeAlias = Mapping[str, Mapping[str, Float[Array, '_ ...']]]
"""For each operation, `{'depthwise': [n, stages, C, k, k], 'pointwise': [n, stages, C, C]}`."""

GroupWeights: TypeAlias = Mapping[str, Float[Array, '_']]
"""For each operation, its weights on n edges times the edge scores, float32."""

_Node: TypeAlias = Float[Array, 'B _ _ C'] | Float[Array, '']  # 0 where no edge has arrived yet
_Mixtures: TypeAlias = list[Float[Array, 'B h w n C']]
_Mixture: TypeAlias = Float[Array, 'B h w C'] | None  # None where no operation stands on an edge


def _second_stage(
  params: Mapping[str, Float[Array, 'n ...']], x: Float[Array, 'B H W n C']
) -> Float[Array, 'B H W n C']:
  """The second convolution of a separable operation, some edges at a time."""
  kernel, (n, channels) = dense_kernels.merge(params, 1), x.shape[3:]
  together, parts = max(1, _WIDTH // channels), []
  for start in range(0, n, together):
    some = slice(start, start + together)
    joined = x[..., some, :].reshape(*x.shape[:3], -1)
    parts.append(dense_kernels.convolve(joined, dense_kernels.diagonal(kernel[..., some, :])))
  return jnp.concatenate(parts, -1).reshape(x.shape)


def _normalize_and_weigh(
  y: Float[Array, 'B h w *n o C'],
  names: Sequence[str],
  weights: Sequence[Float[Array, 'n']],
  norms: batch_norm.BatchNorms,
) -> _Mixtures:
  """Applies batch norms side by side, each times a weight for every edge.

  Args:
    y: maps of each edge, or `[B, h, w, o, C]` for maps that all edges have in common.
    names: the names of the o batch norms.
    weights: o arrays.
    norms: the statistics.

  Returns:
    o maps, float32.
  """
  mean, scale = norms.get_group(names, lambda: batch_norm.pixel_moments(y))
  scale = scale * jnp.stack(weights, -1)[..., None]  # [n, o, C]
  n, count, channels = scale.shape
  columns = [v[:, i] for v in (scale, mean * scale) for i in range(count)]
  columns = batch_norm.spread(columns, (*y.shape[:3], n, channels))
  scales, shifts = columns[:count], columns[count:]
  y = y if y.ndim == 6 else y[..., None, :, :]
  return [y[..., i, :] * scales[i] - shifts[i] for i in range(count)]


def _first_stages(
  params: GroupParams, names: Sequence[str], r: Float[Array, 'B H W C'], dilation: int, stride: int
) -> tuple[Float[Array, '_ _ _ n o C'], Callable[[Array], Array]]:
  """The first convolutions of operations of one dilation, on all edges.

  Returns:
    The maps, and a function to apply to every map that is made of them.
  """
  kernels = [dense_kernels.merge(params[name], 0) for name in names]
  size = max(len(kernel) for kernel in kernels)
  kernel = jnp.stack([dense_kernels.widen(kernel, size) for kernel in kernels], -2)
  finish = _unchanged
  if dilation == 2:
    # Without dilation on a quarter of the pixels, or on each quarter: cuDNN takes several times as
    # long for the gradient of a dilated kernel as for another.
    if stride == 2:
      r, stride, dilation = r[:, ::2, ::2], 1, 1
    elif not (r.shape[1] % 2 or r.shape[2] % 2):
      r, finish, dilation = dense_kernels.take_apart(r), dense_kernels.put_together, 1
  y = dense_kernels.convolve(r, dense_kernels.join_outputs(kernel), stride, dilation)
  return y.reshape(*y.shape[:3], *kernel.shape[3:]), finish


def _unchanged(x: Array) -> Array:
  return x


def _separable(
  params: GroupParams,
  r: Float[Array, 'B H W C'],
  weights: GroupWeights,
  stride: int,
  norms: batch_norm.BatchNorms,
) -> _Mixtures:
  """Weighted separable convolutions; r is the node after ReLU."""
  names = [name for name in weights if name.startswith('sep_conv')]
  if not names:
    return []
  y, _ = _first_stages(params, names, r, 1, stride)
  ones = [jnp.ones(y.shape[3])] * len(names)
  middle = _normalize_and_weigh(y, [name + '_first' for name in names], ones, norms)
  maps = []
  for name, x in zip(names, middle):
    y = _second_stage(params[name], relu(x).astype(r.dtype))
    maps += _normalize_and_weigh(y[..., None, :], [name], [weights[name]], norms)
  return maps


def _dilated(
  params: GroupParams,
  r: Float[Array, 'B H W C'],
  weights: GroupWeights,
  stride: int,
  norms: batch_norm.BatchNorms,
) -> _Mixtures:
  """Weighted dilated convolutions; arguments as for `_separable`."""
  names = [name for name in weights if name.startswith('dil_conv')]
  if not names:
    return []
  y, finish = _first_stages(params, names, r, 2, stride)
  maps = _normalize_and_weigh(y, names, [weights[name] for name in names], norms)
  return [finish(x) for x in maps]


def _skips(
  params: GroupParams,
  x: Float[Array, 'B H W C'],
  r: Float[Array, 'B H W C'],
  weights: GroupWeights,
  stride: int,
  norms: batch_norm.BatchNorms,
  draws: draws_lib.Draws | None,
) -> _Mixtures:
  """Weighted skip connections of all kinds, and noise; x is the node, r the node after ReLU."""
  maps = []
  for name in ('skip_connect', AUXILIARY_SKIP):
    if name in weights and stride == 2:
      kernel = params[name]['pointwise'][:, 0].swapaxes(0, 1)
      y = ChannelsLast.halve(r, kernel)[..., None, :]
      maps += _normalize_and_weigh(y, [name], [weights[name]], norms)
    elif name in weights:
      maps.append(x[..., None, :] * weights[name][:, None])
  if draws is not None and DROPPED_SKIP in weights:
    factors = _for_edges(draws_lib.skip_factors, draws, x.shape[1:])
    maps.append(x[..., None, :] * factors * weights[DROPPED_SKIP][:, None])
  if draws is not None and 'noise' in weights:
    height, width = x[0, ::stride, ::stride].shape[:2]
    noise = _for_edges(draws_lib.noise, draws, (height, width, x.shape[-1]))
    maps.append(noise * weights['noise'][:, None])
  return maps


def _for_edges(
  draw: Callable[..., Array], draws: draws_lib.Draws, shape: tuple[int, ...]
) -> Float[Array, 'B H W n C']:
  """The random maps of n edges side by side."""
  of_edge = lambda key: draw(draws._replace(keys=key), shape)
  return jax.vmap(of_edge, out_axes=3)(draws.keys)


def _mix(
  params: GroupParams,
  x: Float[Array, 'B H W C'],
  weights: GroupWeights,
  stride: int,
  norms: batch_norm.BatchNorms,
  draws: draws_lib.Draws | None = None,
) -> Float[Array, 'n B h w C']:
  """Computes the mixtures on edges that leave a node (Eq. 1, scaled as in Eq. 6)."""
  r = relu(x)
  maps = _separable(params, r, weights, stride, norms)
  maps += _dilated(params, r, weights, stride, norms)
  maps += _skips(params, x, r, weights, stride, norms, draws)
  if pools := [name for name in weights if '_pool_' in name]:
    y = jnp.stack([pooled(x, name, stride) for name in pools], -2)
    maps += _normalize_and_weigh(y, pools, [weights[name] for name in pools], norms)
  total = cast(Array, sum(maps))
  return jnp.moveaxis(total.astype(x.dtype), 3, 0)


def _change_shared(
  change: Callable[[Array], Array], group: EdgeGroup, averages: batch_norm.Averages
) -> batch_norm.Averages:
  """Changes the averages of the operations that all edges of a node share."""
  return {
    name: jax.tree.map(change, moments) if group.shares(name) else moments
    for name, moments in averages.items()
  }


# Jitted by itself only so that equal groups are traced once.
@functools.partial(jax.jit, static_argnums=(0, 1))
def add_mixtures(
  group: EdgeGroup,
  axis_name: str | None,
  params: GroupParams,
  nodes: Sequence[_Node],
  weights: GroupWeights,
  learning: Float[Array, ''] | Int[Array, ''] | float,
  running: batch_norm.Averages | None,
  extras: Extras = NO_EXTRAS,
) -> tuple[list[_Node], batch_norm.Averages]:
  """Adds the mixtures on the edges of one node to the nodes where the edges end.

  Args:
    group: the edges of one node. An operation stands on n of them.
    axis_name: the parallel axis over which a batch is spread, or None.
    params: the parameters of the n edges; at stride 2
      `{'skip_connect': {'pointwise': [n, 1, C, C]}}` too.
    nodes: the S + 2 nodes of a cell, `[B, H, W, C]`, 0.0 where no edge has arrived yet.
    weights: operation weights times edge scores.
    learning: not used in this form; see `shifted_copies.depthwise`.
    running: running averages, `[1, C]` for shared operations and `[n, C]` for the rest; None to
      normalise with the moments of the batch.
    extras: arrays that few searches need. `active` changes nothing here: dense convolutions of
      many edges take no less time where the weights of some are 0.

  Returns:
    The nodes, and the moments of the batch in the form of `running`; `{}` where that is given.
  """
  del learning
  if running is not None:
    running = _change_shared(lambda a: a[0], group, running)
  norms = batch_norm.BatchNorms(running, axis_name)
  nodes, split = list(nodes), group.split
  x = nodes[group.first]
  if group.first >= 2:
    x = partial_channels.shuffle(x, split, -1)
  front = partial_channels.front(x, split, -1)
  columns = {name: weights[name] for name in weights if name != BYPASS}
  found: list[_Mixture] = [None] * len(group.edges)
  for bundle in group.bundles(list(columns)):
    some = {name: columns[name] for name in bundle.names}
    draws = extras.draws
    if draws is not None:
      draws = draws._replace(keys=draws.keys[np.array(bundle.places)])
    mixtures = _mix(params, front, some, group.stride, norms, draws)
    for place, mixture in zip(bundle.places, mixtures):
      before = found[place]
      found[place] = mixture if before is None else before + mixture
  if split > 1:
    rest = partial_channels.bypass(x, split, group.stride, -1)
    found = [_beside(y, score * rest, split) for y, score in zip(found, weights[BYPASS])]
  for place, (_, target) in enumerate(group.edges):
    y = found[place]
    if y is not None and extras.edge_drop is not None:
      y *= ChannelsLast.along_images(extras.edge_drop[place]).astype(y.dtype)
    nodes[target] += 0.0 if y is None else y
  return nodes, _change_shared(lambda a: a[None], group, norms.batch)


def _beside(
  mixture: _Mixture, rest: Float[Array, 'B h w D'], split: int
) -> Float[Array, 'B h w E']:
  """Returns the mixture of an edge and the channels that pass it by, side by side."""
  if mixture is None:  # no operation stands on the edge
    mixture = jnp.zeros((*rest.shape[:-1], rest.shape[-1] // (split - 1)), rest.dtype)
  return partial_channels.join(mixture, rest.astype(mixture.dtype), -1)
