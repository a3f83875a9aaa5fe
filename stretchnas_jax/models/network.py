"""The network of a fixed genotype, to be trained from scratch (Liu et al. 2018)."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from stretchnas_jax.architecture import genotype as genotype_lib
from stretchnas_jax.models import initial
from stretchnas_jax.models import operations as ops

STEMS = ('cifar', 'imagenet')


class CifarStem(nn.Module):
  """A 3x3 convolution to three times the channels; both inputs of the first cell."""

  channels: int
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train=False):
    x = ops.Conv(3 * self.channels, (3, 3), dtype=self.dtype, name='conv')(x)
    x = ops.batch_norm(train, self.dtype, self.axis_name, 'norm')(x)
    return x, x


class ImageNetStem(nn.Module):
  """Three 3x3 convolutions of stride 2; the first cell gets images at 1/4 and 1/8 of their side."""

  channels: int
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train=False):
    def halve(x, channels, name):
      x = ops.Conv(channels, (3, 3), (2, 2), dtype=self.dtype, name=f'conv_{name}')(x)
      return ops.batch_norm(train, self.dtype, self.axis_name, f'norm_{name}')(x)

    x = halve(x, self.channels // 2, 0)
    s0 = halve(ops.Relu()(x), self.channels, 1)
    return s0, halve(ops.Relu()(s0), self.channels, 2)


class AuxiliaryHead(nn.Module):
  """The classifier on the second reduction's output that helps training along.

  The ImageNet one has no second batch norm, as in DARTS' released code.
  """

  num_classes: int
  stem: str
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train=False):
    stride = 3 if self.stem == 'cifar' else 2
    # No padding, so that every window has its full 25 pixels.
    x = nn.avg_pool(ops.Relu()(x), (5, 5), (stride, stride))
    x = ops.Conv(128, dtype=self.dtype, name='conv_0')(x)
    x = ops.Relu()(ops.batch_norm(train, self.dtype, self.axis_name, 'norm_0')(x))
    x = ops.Conv(768, (2, 2), dtype=self.dtype, name='conv_1')(x)
    if self.stem == 'cifar':
      x = ops.batch_norm(train, self.dtype, self.axis_name, 'norm_1')(x)
    x = ops.Relu()(x).reshape(x.shape[0], -1)
    return classify(x, self.num_classes)


def classify(features, num_classes):
  """A linear layer in float32, or in float64 where the features are."""
  init = initial.uniform(features.shape[-1])
  dtype = jnp.promote_types(features.dtype, jnp.float32)
  dense = nn.Dense(num_classes, dtype=dtype, kernel_init=init, bias_init=init, name='classifier')
  return dense(features)


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
  """

  edges: tuple[tuple[str, int, int], ...]
  concat: tuple[int, ...]
  channels: int
  reduction: bool
  after_reduction: bool
  operations: Mapping = None
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, s0, s1, train=False, keep=None):
    """`[B, H, W, len(concat) * C]`.

    Args:
      s0, s1: outputs of the two cells before.
      train: normalise with the moments of the batch.
      keep: `[B, edges]`, by what drop path multiplies the value of each edge; None without it.
    """
    numeric = {'dtype': self.dtype, 'axis_name': self.axis_name}
    enter0 = ops.FactorizedReduce if self.after_reduction else ops.ReluConvNorm
    nodes = {
      0: enter0(self.channels, **numeric, name='enter_0')(s0, train),
      1: ops.ReluConvNorm(self.channels, **numeric, name='enter_1')(s1, train),
    }
    for i, (name, source, destination) in enumerate(self.edges):
      stride = 2 if self.reduction and source < 2 else 1
      operation = self._operation(name, stride, numeric)
      value = operation.copy(name=f'edge_{i}')(nodes[source], train)
      if keep is not None and not isinstance(operation, ops.Identity):
        value *= keep[:, i, None, None, None].astype(value.dtype)
      nodes[destination] = nodes[destination] + value if destination in nodes else value
    return jnp.concatenate([nodes[node] for node in self.concat], -1)

  def _operation(self, name, stride, numeric):
    if self.operations and name in self.operations:
      return self.operations[name](self.channels, stride)
    return ops.OPERATIONS[name](self.channels, stride, **numeric)


class FixedNetwork(nn.Module):
  """Stem, cells of a genotype, global mean, linear classifier.

  Attributes:
    genotype: the cells.
    channels: C of the first cells, even; it doubles at 1/3 and 2/3 of the depth.
    num_layers: number of cells.
    num_classes: number of classes.
    stem: 'cifar', or 'imagenet' for large images: it divides their side by 8.
    auxiliary: whether there is an auxiliary head, at work in training only.
    operations: a researcher's own operations by their names, each a function
      `(channels, stride) -> linen module` whose call `module(x, train)` maps `[B, H, W, C]` to
      `[B, ceil(H / stride), ceil(W / stride), C]`; they go before built-in ones.
    dtype: of the computation. Parameters, batch statistics and logits are float32.
    axis_name: the parallel axis over which batch statistics are taken, or None.
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

  def __post_init__(self):
    ops.check_size('channels', self.channels, even=True)
    ops.check_size('num_layers', self.num_layers)
    ops.check_size('num_classes', self.num_classes)
    if self.stem not in STEMS:
      raise ValueError(f'stem is {self.stem!r}; allowed are {", ".join(STEMS)}')
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
    stem = CifarStem if self.stem == 'cifar' else ImageNetStem
    s0, s1 = stem(self.channels, **numeric, name='stem')(images.astype(self.dtype), train)
    reductions = self.num_layers // 3, 2 * self.num_layers // 3
    # Of the cell before the first: the ImageNet stem halves between its two outputs.
    after_reduction, channels, extra = self.stem == 'imagenet', self.channels, None
    for layer in range(self.num_layers):
      reduction = layer in reductions
      channels *= 1 + reduction
      cell = self._cell(channels, reduction, after_reduction, name=f'cell_{layer}')
      s0, s1 = s1, cell(s0, s1, train, None if keep is None else keep[layer])
      after_reduction = reduction
      if self.auxiliary and layer == reductions[1] and (train or self.is_initializing()):
        self._check_auxiliary(images.shape, s1.shape)
        head = AuxiliaryHead(self.num_classes, self.stem, **numeric, name='auxiliary_head')
        extra = head(s1, train)
    logits = classify(ops.GlobalMean()(s1), self.num_classes)
    return (logits, extra) if self.auxiliary and train else logits

  def _cell(self, channels, reduction, after_reduction, name):
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
      name=name,
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
