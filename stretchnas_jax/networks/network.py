"""The network of a fixed genotype, to be trained from scratch (Liu et al. 2018)."""

import itertools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.networks import operations as ops
from stretchnas_jax.networks import stems_and_heads
from stretchnas_jax.networks.forms import layouts

FORMS = {'plain': layouts.Plain, 'planes': layouts.Planes}


def keep_factors(key, rate, positions, shape):
  """By what drop path multiplies: 0 with probability `rate`, else 1 / (1 - rate).

  Args:
    key: with an example's position it alone decides what the example loses.
    rate: scalar, may be traced.
    positions: `[B]`, int32, places of the examples in the batch over all devices.
    shape: `(L, E)`, layers and edges; all are drawn at once, so that one generator is compiled.

  Returns:
    `[L, B, E]`, float32.
  """
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, positions)
  draws = jax.vmap(lambda key: jax.random.uniform(key, shape), out_axes=1)(keys)
  rate = jnp.asarray(rate, jnp.float32)
  return jnp.where(draws < rate, 0.0, 1 / (1 - rate))


class FixedCell(nn.Module):
  """One cell of a genotype; a node may have any number of inputs.

  Attributes:
    edges: `((operation, source, destination), ...)`, sorted by destination.
    concat: the nodes whose values are the output, side by side.
    channels: C of every node.
    reduction: whether the edges from the two inputs have stride 2.
    after_reduction: whether the cell before the previous one was twice as large.
    operations: as for `FixedNetwork`.
    dtype: of the computation.
    axis_name: the parallel axis over which batch statistics are taken, or None.
    layout: of the feature maps, inputs and output too; only the user's operations never see it.
  """

  edges: tuple[tuple[str, int, int], ...]
  concat: tuple[int, ...]
  channels: int
  reduction: bool
  after_reduction: bool
  operations: Mapping = None
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None
  layout: type = layouts.Plain

  @nn.compact
  def __call__(self, s0, s1, train=False, keep=None):
    """`[B, H, W, len(concat) * C]`.

    Args:
      s0, s1: outputs of the two cells before.
      train: normalise with the moments of the batch.
      keep: `[B, edges]`, by what drop path multiplies the value of each edge; None without it.
    """
    numeric = {'dtype': self.dtype, 'axis_name': self.axis_name, 'layout': self.layout}
    enter0 = ops.FactorizedReduce if self.after_reduction else ops.ReluConvNorm
    nodes = {
      0: enter0(self.channels, **numeric, name='enter_0')(s0, train),
      1: ops.ReluConvNorm(self.channels, **numeric, name='enter_1')(s1, train),
    }
    for i, (name, source, destination) in enumerate(self.edges):
      stride = 2 if self.reduction and source < 2 else 1
      if self.operations and name in self.operations:
        operation = self.operations[name](self.channels, stride).copy(name=f'edge_{i}')
        value = self.layout.enter(operation(self.layout.leave(nodes[source]), train))
      else:
        operation = ops.OPERATIONS[name](self.channels, stride, **numeric).copy(name=f'edge_{i}')
        value = operation(nodes[source], train)
      if keep is not None and not isinstance(operation, ops.Identity):
        value *= self.layout.along_images(keep[:, i]).astype(value.dtype)
      nodes[destination] = nodes[destination] + value if destination in nodes else value
    return jnp.concatenate([nodes[node] for node in self.concat], self.layout.channel_axis)


class FixedNetwork(nn.Module):
  """Stem, cells of a genotype, global mean, linear classifier.

  Attributes:
    genotype: the cells.
    channels: C of the first cells, with the ImageNet stem even; it doubles at 1/3 and 2/3 of the
      depth.
    num_layers: number of cells.
    num_classes: number of classes.
    stem: 'cifar', or 'imagenet' for large images: it divides their side by 8.
    auxiliary: whether there is an auxiliary head, at work in training only.
    operations: a researcher's own operations by their names, each a function
      `(channels, stride) -> linen module` whose call `module(x, train)` maps `[B, H, W, C]` to
      `[B, ceil(H / stride), ceil(W / stride), C]`; they go before built-in ones.
    dtype: of the computation. Parameters, batch statistics and logits are float32.
    axis_name: the parallel axis over which batch statistics are taken, or None.
    form: how cells are computed: 'plain' (over `[B, H, W, C]`), 'planes' (over `[C, H, W, B]`, see
      `layout`; it has gradients, but no forward-mode ones), or 'auto': the faster one for the
      platform. Both have the same parameters.
  """

  genotype: genotype_lib.Genotype
  channels: int
  num_layers: int
  num_classes: int
  stem: str = 'cifar'
  auxiliary: bool = False
  operations: Mapping = None
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None
  form: str = 'auto'

  def __post_init__(self):
    if self.stem not in stems_and_heads.STEMS:
      raise ValueError(f'stem is {self.stem!r}; allowed are {", ".join(stems_and_heads.STEMS)}')
    ops.check_size('channels', self.channels, even=stems_and_heads.needs_even(self.stem))
    ops.check_size('num_layers', self.num_layers)
    ops.check_size('num_classes', self.num_classes)
    if self.form not in ('auto', *FORMS):
      raise ValueError(f'form is {self.form!r}; allowed are auto, {", ".join(FORMS)}')
    known = [*ops.OPERATIONS, *(self.operations or {})]
    for name, _, _ in (*self.genotype.normal, *self.genotype.reduce):
      if name not in known:
        raise ValueError(f'genotype has the operation {name!r}; known are {", ".join(known)}')
    super().__post_init__()

  @nn.compact
  def __call__(self, images, train=False, drop_path_rate=0.0, positions=None):
    """Logits, or with the auxiliary head in training (logits, auxiliary logits).

    Args:
      images: `[B, H, W, channels of an image]`, float, normalised.
      train: normalise with the moments of the batch; with `mutable=['batch_stats']` the running
        averages move.
      drop_path_rate: scalar, may be traced: the probability with which an example loses an edge in
        training; other than the number 0 it needs `rngs={'drop_path': key}`.
      positions: `[B]`, int32, places of the examples in the batch over all devices; what is dropped
        depends on the key and on these. By default as if the batch were spread in order.

    Returns:
      `[B, num_classes]` float32, or two of these.
    """
    numeric = {'dtype': self.dtype, 'axis_name': self.axis_name}
    keep = self._keep_factors(images.shape[0], train, drop_path_rate, positions)
    stem = stems_and_heads.CifarStem if self.stem == 'cifar' else stems_and_heads.ImageNetStem
    form = ('planes' if ops.on_cpu() else 'plain') if self.form == 'auto' else self.form
    where = FORMS[form]
    entered = stem(self.channels, **numeric, name='stem')(images.astype(self.dtype), train)
    s0, s1 = map(where.enter, entered)
    reductions = self.num_layers // 3, 2 * self.num_layers // 3
    extra = None
    loops = form == 'planes' and not self.operations and not self.is_initializing()
    for *kind, layers in self._runs():
      if loops and len(layers) > 1:
        s0, s1 = self._loop(self._cell(*kind, where, parent=None), layers, s0, s1, train, keep)
      else:
        for layer in layers:
          cell = self._cell(*kind, where, name=f'cell_{layer}')
          s0, s1 = s1, cell(s0, s1, train, None if keep is None else keep[layer])
      layer = layers[0]
      if self.auxiliary and layer == reductions[1] and (train or self.is_initializing()):
        features = where.leave(s1)
        self._check_auxiliary(images.shape, features.shape)
        head = stems_and_heads.AuxiliaryHead(
          self.num_classes, self.stem, **numeric, name='auxiliary_head'
        )
        extra = head(features, train)
    logits = stems_and_heads.classify(ops.GlobalMean(where)(s1), self.num_classes)
    return (logits, extra) if self.auxiliary and train else logits

  def _runs(self):
    """The layers in order, `[(channels, reduction, after_reduction, [layer, ...]), ...]`.

    In one entry stand those whose cells and inputs have equal shapes.
    """
    reductions = self.num_layers // 3, 2 * self.num_layers // 3
    # Of the two outputs of the stem; the ImageNet one halves between them.
    after_reduction, channels, widths = self.stem == 'imagenet', self.channels, ['stem', 'stem']
    kinds = []
    for layer in range(self.num_layers):
      reduction = layer in reductions
      channels *= 1 + reduction
      kinds.append((channels, reduction, after_reduction, *widths))
      concat = self.genotype.reduce_concat if reduction else self.genotype.normal_concat
      widths, after_reduction = [widths[1], channels * len(concat)], reduction
    together = itertools.groupby(range(self.num_layers), key=kinds.__getitem__)
    return [(*kind[:3], list(layers)) for kind, layers in together]

  def _loop(self, cell, layers, s0, s1, train, keep):
    """What equal cells make of (s0, s1), as one loop: a cell compiles once.

    Its gradient computes each cell again. On a CPU that takes less time than writing and reading
    what it would need to keep, as the memory of one cell serves all: a training step of DARTS_V2
    at C 36, 20 layers, batch 8 compiled in 22 s and took 0.35 s and 0.38 GB, where it had taken
    36 s, 0.43 s and 0.83 GB with all cells in a row (two cores).
    """
    names = [f'cell_{layer}' for layer in layers]
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    variables = {c: stack([self.variables[c][n] for n in names]) for c in ('params', 'batch_stats')}
    keep = None if keep is None else keep[layers[0] : layers[-1] + 1]

    def body(inputs, given):
      variables, keep = given
      y, updated = cell.apply(variables, *inputs, train, keep, mutable=['batch_stats'])
      return (inputs[1], y), updated['batch_stats']

    inputs, stats = lax.scan(jax.checkpoint(body), (s0, s1), (variables, keep))
    if train and self.is_mutable_collection('batch_stats'):
      for i, name in enumerate(names):
        self.put_variable('batch_stats', name, jax.tree.map(lambda a, i=i: a[i], stats))
    return inputs

  def _cell(self, channels, reduction, after_reduction, layout, **where):
    cell = self.genotype
    edges, concat = (
      (cell.reduce, cell.reduce_concat) if reduction else (cell.normal, cell.normal_concat)
    )
    return FixedCell(
      edges,
      concat,
      channels,
      reduction,
      after_reduction,
      self.operations,
      self.dtype,
      self.axis_name,
      layout,
      **where,
    )

  def _keep_factors(self, batch, train, rate, positions):
    """`[L, B, edges]`, or None where there is no drop path."""
    if not train or (isinstance(rate, (int, float)) and rate == 0):
      return None
    if not self.has_rng('drop_path'):
      raise ValueError("drop_path_rate needs a key: pass rngs={'drop_path': key} to apply")
    if positions is None:
      positions = jnp.arange(batch, dtype=jnp.int32)
      if self.axis_name is not None and not self.is_initializing():
        positions += batch * lax.axis_index(self.axis_name)
    edges = max(len(self.genotype.normal), len(self.genotype.reduce))
    return keep_factors(self.make_rng('drop_path'), rate, positions, (self.num_layers, edges))

  def _check_auxiliary(self, images, features):
    """ValueError unless the head's pool leaves 2x2 pixels, as its last convolution wants them."""
    stride, usual = (3, 32) if self.stem == 'cifar' else (2, 224)
    if any((side - 5) // stride + 1 != 2 for side in features[1:3]):
      raise ValueError(
        f'images of {images[1]}x{images[2]} reach the auxiliary head as '
        f'{features[1]}x{features[2]} pixels; it takes {5 + stride} to {4 + 2 * stride} a side, '
        f'as {usual}x{usual} images give with 2 layers or more; use auxiliary=False'
      )
