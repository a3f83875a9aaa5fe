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
from typing import TypeAlias

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
from stretchnas_jax.networks.forms.pixel_sums import spread
from stretchnas_jax.networks.forms.pooling import pooled

# Output channels of a convolution that edges share, most of which are multiplied with zeros: as
# many as tiles of cuDNN's kernels are wide, so that fewer should not be faster.
_WIDTH = 128

GroupParams: TypeAlias = Mapping[str, Mapping[str, Float[Array, '_ ...']]]
"""For each operation, its arrays from `dense_kernels.merge_all`: `[n, ...]` for n edges."""

GroupWeights: TypeAlias = Mapping[str, Float[Array, '_']]
"""For each operation, its weights on n edges times the edge scores, float32."""

_Node: TypeAlias = Float[Array, 'B _ _ C'] | Float[Array, '']  # 0 where no edge has arrived yet
# Names of o operations or batch norms, and their maps side by side, `[B, h, w, n, o, C]`. Maps that
# all edges have in common have one edge.
_Groups: TypeAlias = list[tuple[tuple[str, ...], Float[Array, 'B h w _ _ C']]]
_Mixture: TypeAlias = Float[Array, 'B h w C'] | None  # None where no operation stands on an edge


def _second_stage(
  kernels: Mapping[str, Float[Array, 'n ...']], x: Float[Array, 'B H W n C']
) -> Float[Array, 'B H W n C']:
  """The second convolution of a separable operation, some edges at a time."""
  kernel, (n, channels) = dense_kernels.stage(kernels, 1), x.shape[3:]
  together, parts = max(1, _WIDTH // channels), []
  for start in range(0, n, together):
    some = slice(start, start + together)
    joined = x[..., some, :].reshape(*x.shape[:3], -1)
    parts.append(dense_kernels.convolve(joined, dense_kernels.diagonal(kernel[..., some, :])))
  return jnp.concatenate(parts, -1).reshape(x.shape)


def _statistics(
  groups: _Groups, norms: batch_norm.BatchNorms
) -> list[tuple[Float[Array, '*n C'], Float[Array, '*n C']]]:
  """Returns mean and reciprocal standard deviation of batch norms, which are measured together."""
  measured = functools.cache(lambda: batch_norm.pixel_moments([y for _, y in groups]))

  def of(group: int, i: int) -> tuple[Array, Array]:
    mean, square = measured()[group]
    return mean[..., i, :], square[..., i, :]

  return [
    norms.get(name, functools.partial(of, group, i))
    for group, (names, _) in enumerate(groups)
    for i, name in enumerate(names)
  ]


def _maps(groups: _Groups) -> list[Float[Array, 'B h w _ C']]:
  """Returns the maps of groups one by one."""
  return [y[..., i, :] for names, y in groups for i in range(len(names))]


def _normalize(groups: _Groups, norms: batch_norm.BatchNorms) -> list[Float[Array, 'B h w n C']]:
  """Returns the batch norms of maps of one shape, float32."""
  found, maps = _statistics(groups, norms), _maps(groups)
  columns = [scale for _, scale in found] + [mean * scale for mean, scale in found]
  columns = spread(columns, maps[0].shape)
  return [y * columns[i] - columns[len(maps) + i] for i, y in enumerate(maps)]


def _weigh(
  groups: _Groups, plain: _Groups, weights: GroupWeights, norms: batch_norm.BatchNorms
) -> Float[Array, 'B h w n C']:
  """Returns the sum of weighted batch norms and of weighted maps that are not normalised.

  Args:
    groups: of the batch norms.
    plain: of the other maps.
    weights: by the names of both.
    norms: the statistics.
  """
  every = _maps([*groups, *plain])
  names, one = [name for group, _ in groups for name in group], next(iter(weights.values()))
  scales, shift = [], jnp.zeros((len(one), every[0].shape[-1]), one.dtype)
  for name, (mean, scale) in zip(names, _statistics(groups, norms)):
    scales.append(scale * weights[name][:, None])
    shift += mean * scales[-1]
  for group, _ in plain:
    scales += [jnp.broadcast_to(weights[name][:, None], shift.shape) for name in group]
  columns = spread([*scales, shift], (*every[0].shape[:3], *shift.shape))
  return sum(y * scale for y, scale in zip(every, columns)) - columns[-1]


def _first_stages(
  params: GroupParams, names: Sequence[str], r: Float[Array, 'B H W C'], dilation: int, stride: int
) -> Float[Array, 'B h w n o C']:
  """Returns the first convolutions of operations of one dilation, on all edges."""
  kernels = [dense_kernels.stage(params[name], 0) for name in names]
  size = max(len(kernel) for kernel in kernels)
  kernel = jnp.stack([dense_kernels.widen(kernel, size) for kernel in kernels], -2)
  apart = False
  if dilation == 2:
    # Without dilation on a quarter of the pixels, or on each quarter: cuDNN takes several times as
    # long for the gradient of a dilated kernel as for another.
    if stride == 2:
      r, stride, dilation = r[:, ::2, ::2], 1, 1
    elif not (r.shape[1] % 2 or r.shape[2] % 2):
      r, dilation, apart = dense_kernels.take_apart(r), 1, True
  y = dense_kernels.convolve(r, dense_kernels.join_outputs(kernel), stride, dilation)
  y = y.reshape(*y.shape[:3], *kernel.shape[3:])
  return dense_kernels.put_together(y) if apart else y


def _convolutions(
  params: GroupParams,
  r: Float[Array, 'B H W C'],
  weights: GroupWeights,
  stride: int,
  norms: batch_norm.BatchNorms,
) -> _Groups:
  """Returns the maps of all convolutions before their last batch norm; r is the node after ReLU."""
  separable = tuple(name for name in weights if name.startswith('sep_conv'))
  dilated = tuple(name for name in weights if name.startswith('dil_conv'))
  groups: _Groups = []
  if separable:
    first = tuple(f'{name}_first' for name in separable)
    middle = _normalize([(first, _first_stages(params, separable, r, 1, stride))], norms)
    for name, x in zip(separable, middle):
      groups.append(((name,), _second_stage(params[name], relu(x).astype(r.dtype))[..., None, :]))
  if dilated:
    groups.append((dilated, _first_stages(params, dilated, r, 2, stride)))
  for name in ('skip_connect', AUXILIARY_SKIP):
    if name in weights and stride == 2:
      kernel = params[name]['pointwise'][:, 0].swapaxes(0, 1)
      groups.append(((name,), ChannelsLast.halve(r, kernel)[..., None, :]))
  return groups


def _without_norms(
  x: Float[Array, 'B H W C'], weights: GroupWeights, stride: int, draws: draws_lib.Draws | None
) -> _Groups:
  """Returns the maps that are not normalised: identities and noise; x is the node."""
  maps = {}
  for name in ('skip_connect', AUXILIARY_SKIP):
    if name in weights and stride == 1:
      maps[name] = x[..., None, :]
  if draws is not None and DROPPED_SKIP in weights:
    maps[DROPPED_SKIP] = x[..., None, :] * _for_edges(draws_lib.skip_factors, draws, x.shape[1:])
  if draws is not None and 'noise' in weights:
    height, width = x[0, ::stride, ::stride].shape[:2]
    maps['noise'] = _for_edges(draws_lib.noise, draws, (height, width, x.shape[-1]))
  return [((name,), y[..., None, :]) for name, y in maps.items()]


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
  groups = _convolutions(params, relu(x), weights, stride, norms)
  if pools := tuple(name for name in weights if '_pool_' in name):
    y = jnp.stack([pooled(x, name, stride) for name in pools], -2)
    groups.append((pools, y[..., None, :, :]))
  total = _weigh(groups, _without_norms(x, weights, stride, draws), weights, norms)
  return jnp.moveaxis(total.astype(x.dtype), 3, 0)


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
    params: from `dense_kernels.merge_all`, of the n edges; at stride 2
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
  return nodes, norms.batch


def _beside(
  mixture: _Mixture, rest: Float[Array, 'B h w D'], split: int
) -> Float[Array, 'B h w E']:
  """Returns the mixture of an edge and the channels that pass it by, side by side."""
  if mixture is None:  # no operation stands on the edge
    mixture = jnp.zeros((*rest.shape[:-1], rest.shape[-1] // (split - 1)), rest.dtype)
  return partial_channels.join(mixture, rest.astype(mixture.dtype), -1)
