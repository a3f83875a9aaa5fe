"""The search network: every candidate operation on every edge of every cell.

The edges that leave a node, a *fan*, share what they can (`merged`, or `walk` over planes). What
the mixture weighs with, operation weights `[E, O]` and edge scores `[E]`, are arguments and no
parameters.
"""

import functools
import re
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.networks import initializers, stems_and_heads
from stretchnas_jax.networks import operations as ops
from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib
from stretchnas_jax.networks.forms import dense_convolutions, edge_groups, edge_loop, layouts

CELL_TYPES = ('normal', 'reduce')
FORMS = {
  'merged': (layouts.Plain, dense_convolutions.add_fans),
  'planes': (layouts.Planes, edge_loop.add_fans),
}


def is_convolution(name):
  """Separable or dilated, of any odd size: `sep_conv_3x3`."""
  return re.fullmatch(r'(sep|dil)_conv_([3579])x\2', name) is not None


def is_built_in(name):
  """Whether the fans compute this operation; any other is a module that the user brings."""
  return name in space_lib.DARTS_PRIMITIVES or is_convolution(name)


# Jitted by itself only so that equal fans and cells are traced once.
@functools.partial(jax.jit, static_argnums=(0, 1, 7))
def add_fans(form, fans, params, nodes, weights, learning, running, axis_name):
  """As `merged.add_fans` or `walk.add_fans`, whichever the form has."""
  return FORMS[form][1](fans, params, nodes, weights, learning, running, axis_name)


class SearchCell(nn.Module):
  """One cell of the supernet; its edges are stored by source, then destination.

  Attributes:
    space: the search space.
    channels: C of every node.
    reduction: whether the edges from the two inputs have stride 2.
    after_reduction: whether the cell before the previous one was twice as large.
    form: how a fan is computed, 'merged' or 'planes'; feature maps are in its layout.
    operations: modules for names that are not built in, as for `Supernet`.
    dtype: of the computation; parameters and statistics are float32.
    axis_name: the parallel axis over which batch statistics are taken, or None.
  """

  space: space_lib.SearchSpace
  channels: int
  reduction: bool
  after_reduction: bool
  form: str
  operations: Mapping = None
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  def setup(self):
    graph, channels = self.space.graph, self.channels
    edges = sorted(range(len(graph.edges)), key=graph.edges.__getitem__)
    self.by_source = np.array(edges)
    names = self.space.primitives
    params = {name: self._convolution(name) for name in names if is_convolution(name)}
    if self.reduction and 'skip_connect' in names:
      shape = (2 * graph.num_intermediate, 1, channels, channels)
      kernel = self.param('skip_connect', initializers.uniform(channels), shape)
      params['skip_connect'] = {'pointwise': kernel}
    self.fans = params
    fresh = lambda shape: {'mean': jnp.zeros(shape), 'var': jnp.ones(shape)}
    shapes = self._norm_shapes()
    self.running = self.variable(
      'batch_stats', 'norms', lambda: {name: fresh(shape) for name, shape in shapes.items()}
    )
    self.layout = FORMS[self.form][0]

  def _convolution(self, name):
    size, stages = int(name[-1]), 2 if name.startswith('sep') else 1
    lead = (len(self.space.graph.edges), stages, self.channels)
    depthwise = self.param(
      f'{name}_depthwise', initializers.uniform(size * size), (*lead, size, size)
    )
    pointwise = self.param(
      f'{name}_pointwise', initializers.uniform(self.channels), (*lead, self.channels)
    )
    return {'depthwise': depthwise, 'pointwise': pointwise}

  def _norm_shapes(self):
    graph, channels = self.space.graph, self.channels
    shapes = {'entry0': (channels,), 'entry1': (channels,)}
    for name in self.space.primitives:
      if is_convolution(name):
        stages = (name + '_first', name) if name.startswith('sep') else (name,)
        shapes |= dict.fromkeys(stages, (len(graph.edges), channels))
      elif '_pool_' in name and is_built_in(name):
        shapes[name] = (graph.num_intermediate + 1, channels)
      elif name == 'skip_connect' and self.reduction:
        shapes[name] = (2 * graph.num_intermediate, channels)
    return shapes

  def _running(self, fans):
    """The stored averages of some fans."""
    sources = slice(fans.first, fans.first + len(fans.bounds) - 1)
    rows = lambda name: sources if fans.shares(name) else fans.rows
    return {
      name: jax.tree.map(lambda a, name=name: a[rows(name)], averages)
      for name, averages in self.running.value.items()
      if not name.startswith('entry') and (name != 'skip_connect' or fans.stride == 2)
    }

  def _enter(self, x, name, norms, halve):
    """ReLU, 1x1 convolution or factorized reduction to C channels, batch norm."""
    x = jax.nn.relu(x)
    inputs = x.shape[self.layout.channel_axis]
    kernel = self.param(name, initializers.uniform(inputs), (inputs, self.channels))
    x = self.layout.halve(x, kernel) if halve else self.layout.project(x, kernel)
    return self.layout.normalize(x, name, norms)

  @nn.compact
  def __call__(self, s0, s1, op_weights, edge_scores, train=False, learning=1.0):
    """The S intermediate nodes side by side along the channels.

    Args:
      s0, s1: outputs of the two cells before, in this cell's layout.
      op_weights: `[E, O]`, float32, edges in DARTS' order.
      edge_scores: `[E]`, float32.
      train: normalise with the moments of the batch, and update the running averages.
      learning: as for `Supernet`.
    """
    axis_name = None if self.is_initializing() else self.axis_name
    entry_norms = batch_norm_lib.BatchNorms(None if train else self.running.value, axis_name)
    nodes = [
      self._enter(s0, 'entry0', entry_norms, self.after_reduction),
      self._enter(s1, 'entry1', entry_norms, False),
    ]
    nodes += [0.0] * self.space.graph.num_intermediate
    weights, seen = (op_weights * edge_scores[:, None])[self.by_source], []
    for fans in self._fans():
      nodes, moments = self._add_fans(fans, nodes, weights, learning, train, axis_name)
      nodes = self._add_own_operations(fans, nodes, weights, train)
      seen.append(moments)
    if train and not self.is_initializing() and self.is_mutable_collection('batch_stats'):
      batch = entry_norms.batch | edge_groups.gather_moments(seen)
      self.running.value = batch_norm_lib.update_running(
        self.running.value, jax.lax.stop_gradient(batch)
      )
    return jnp.concatenate(nodes[2:], self.layout.channel_axis)

  def _fans(self):
    """In one form as many as have a stride in common, as long as nothing stands between them."""
    together = self.form == 'planes' and all(map(is_built_in, self.space.primitives))
    return edge_groups.fans_of(self.space.graph, self.reduction, together)

  def _add_fans(self, fans, nodes, weights, learning, train, axis_name):
    """As `add_fans`, where there is something to compute."""
    rows, names = fans.rows, self.space.primitives
    columns = {n: weights[rows, o] for o, n in enumerate(names) if is_built_in(n) and n != 'none'}
    if self.is_initializing() or not columns:
      # Parameters are all there by now, and tracing what is not needed would take seconds.
      x = nodes[fans.first]
      zeros = jnp.zeros_like(x[:, :: fans.stride, :: fans.stride])  # in either layout
      return [*nodes[:2], *(node + zeros for node in nodes[2:])], {}
    params = {
      name: jax.tree.map(lambda a: a[rows], arrays)
      for name, arrays in self.fans.items()
      if not fans.shares(name)
    }
    running = None if train else self._running(fans)
    return add_fans(self.form, fans, params, nodes, columns, learning, running, axis_name)

  def _add_own_operations(self, fans, nodes, weights, train):
    """Adds the weighted sums of what the user's own modules make of each edge."""
    own = [(o, name) for o, name in enumerate(self.space.primitives) if not is_built_in(name)]
    for i, (source, target) in enumerate(fans.edges):
      for o, name in own:
        module = self.operations[name](self.channels, fans.stride)
        y = module.copy(name=f'{name}_{source}_{target}')(self.layout.leave(nodes[source]), train)
        weight = weights[fans.start + i, o]
        nodes[target] += weight.astype(y.dtype) * self.layout.enter(y)
    return nodes


class Supernet(nn.Module):
  """The DARTS search network over any search space (Liu et al. 2018; Eq. 1, 2, 6).

  Attributes:
    space: the search space; S intermediate nodes, E edges, O operations.
    channels: C of the first cells, even; it doubles at 1/3 and 2/3 of the depth.
    num_layers: number of cells.
    num_classes: number of classes.
    stem: 'cifar', or 'imagenet' for large images: it divides their side by 8, with 3 C channels.
    form: how a fan is computed: 'merged' (dense convolutions), 'planes' (sums of shifted copies,
      the batch last), or 'auto': the faster one for the platform.
    operations: for each name of `space.primitives` that is not built in, a function
      `(channels, stride) -> linen module` whose call `module(x, train)` maps
      `[B, H, W, C]` to `[B, ceil(H / stride), ceil(W / stride), C]`.
    remat: keep only the outputs of cells for the gradient, and compute a cell again when its turn
      comes: less memory, more time.
    dtype: of the computation. Parameters, batch statistics, mixture weights and logits are float32.
    axis_name: the parallel axis over which batch statistics are taken, or None.
  """

  space: space_lib.SearchSpace
  channels: int
  num_layers: int
  num_classes: int
  stem: str = 'cifar'
  form: str = 'auto'
  operations: Mapping = None
  remat: bool = False
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  def __post_init__(self):
    ops.check_size('channels', self.channels, even=True)
    ops.check_size('num_layers', self.num_layers)
    ops.check_size('num_classes', self.num_classes)
    if self.stem not in stems_and_heads.STEMS:
      raise ValueError(f'stem is {self.stem!r}; allowed are {", ".join(stems_and_heads.STEMS)}')
    if self.form not in ('auto', *FORMS):
      raise ValueError(f'form is {self.form!r}; allowed are auto, {", ".join(FORMS)}')
    missing = [
      name
      for name in self.space.primitives
      if not is_built_in(name) and name not in (self.operations or {})
    ]
    if missing:
      raise ValueError(f'operations has no module for {missing[0]!r} of the search space')
    super().__post_init__()

  def _reductions(self):
    return {self.num_layers // 3, 2 * self.num_layers // 3}

  @nn.compact
  def __call__(self, images, op_weights=None, edge_scores=None, train=False, learning=1.0):
    """Logits.

    Args:
      images: `[B, H, W, 1 or 3]`, float, normalised.
      op_weights: `{'normal': [E, O], 'reduce': [E, O]}`; uniform if None.
      edge_scores: `{'normal': [E], 'reduce': [E]}`; ones if None.
      train: normalise with the moments of the batch; with `mutable=['batch_stats']` the running
        averages move.
      learning: a number, that may be traced; where it is 0 the gradients for the weights are not
        wanted, and those that take long may be zeros.

    Returns:
      `[B, num_classes]`, float32.
    """
    edges, operations = len(self.space.graph.edges), len(self.space.primitives)
    if op_weights is None:
      op_weights = dict.fromkeys(CELL_TYPES, jnp.full((edges, operations), 1 / operations))
    if edge_scores is None:
      edge_scores = dict.fromkeys(CELL_TYPES, jnp.ones(edges))
    channels = self.channels
    form = self.form
    if form == 'auto':
      form = 'planes' if ops.on_cpu() else 'merged'
    where = FORMS[form][0]
    build = nn.remat(SearchCell, static_argnums=(5,)) if self.remat else SearchCell  # 5: train
    s0, s1 = map(where.enter, self._enter(images, train))
    # Of the cell before the first: the ImageNet stem halves between its two outputs.
    after_reduction = self.stem == 'imagenet'
    for layer in range(self.num_layers):
      reduction = layer in self._reductions()
      channels *= 1 + reduction
      cell = build(
        self.space, channels, reduction, after_reduction, form, self.operations, self.dtype,
        self.axis_name, name=f'cell_{layer}',
      )  # fmt: skip
      kind = CELL_TYPES[reduction]
      s0, s1 = s1, cell(s0, s1, op_weights[kind], edge_scores[kind], train, learning)
      after_reduction = reduction
    features = where.global_mean(s1.astype(jnp.promote_types(s1.dtype, jnp.float32)))
    return nn.Dense(
      self.num_classes, name='classifier', kernel_init=initializers.uniform(features.shape[-1]),
      bias_init=initializers.uniform(features.shape[-1]),
    )(features)  # fmt: skip

  def _enter(self, images, train):
    """Both inputs of the first cell, `[B, H, W, 3 C]`."""
    width = 3 * self.channels
    if self.stem == 'imagenet':
      stem = stems_and_heads.ImageNetStem(width, self.dtype, self.axis_name, name='stem')
      return stem(images.astype(self.dtype), train)
    x = nn.Conv(
      width, (3, 3), use_bias=False, dtype=self.dtype, name='stem',
      kernel_init=initializers.uniform(9 * images.shape[-1]),
    )(images)  # fmt: skip
    x = nn.BatchNorm(
      not train, momentum=batch_norm_lib.MOMENTUM, epsilon=batch_norm_lib.EPSILON, dtype=self.dtype,
      axis_name=self.axis_name, name='stem_norm',
    )(x)  # fmt: skip
    return x, x
