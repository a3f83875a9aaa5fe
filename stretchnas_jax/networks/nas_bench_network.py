"""The network of one cell of NAS-Bench-201, to be trained from scratch (Dong & Yang 2020)."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.nas_bench_cells import EDGES, Cell
from stretchnas_jax.cells.promotion import with_usual_promotion
from stretchnas_jax.networks import checks, nas_bench_macro, own_operations
from stretchnas_jax.networks.forms import batch_norm
from stretchnas_jax.networks.forms.layouts import FeatureMap
from stretchnas_jax.networks.layers import Identity, Pool, Style
from stretchnas_jax.networks.network import FORMS
from stretchnas_jax.networks.operations import ReluConvNorm


class NasBenchCell(nn.Module):
  """One cell: each node is the sum of its edges, and the last node is the output.

  Attributes:
    cell: the operations.
    channels: C of every node.
    style: type, parallel axis and layout.
  """

  cell: Cell
  channels: int
  style: Style = Style()

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool = False) -> FeatureMap:
    """Returns the last node.

    Args:
      x: the input.
      train: whether to normalise with the moments of the batch.
    """
    nodes = {0: x}
    for (src, dst), name in zip(EDGES, self.cell.operations):
      value = self._value(name, f'edge_{src}_{dst}', nodes[src], train)
      nodes[dst] = nodes[dst] + value if dst in nodes else value
    return nodes[EDGES[-1][1]]

  def _value(self, name: str, place: str, x: FeatureMap, train: bool) -> FeatureMap:
    """Computes the operation of an edge."""
    if name == 'none':
      return jnp.zeros_like(x)
    if name == 'skip_connect':
      return Identity(name=place)(x)
    if name == 'avg_pool_3x3':
      return Pool(name, name=place)(x)
    return ReluConvNorm(self.channels, self.style, int(name[-1]), name=place)(x, train)


class NasBenchNetwork(nn.Module):
  """The macro network of NAS-Bench-201 with one cell at all places.

  Attributes:
    genotype: the cell.
    channels: C of the first stage; 16 in the benchmark.
    num_layers: N, the cells of each of the three stages; 5 in the benchmark.
    num_classes: the number of classes.
    stem: 'cifar'; the macro network has one stem.
    auxiliary: False; there is no auxiliary head.
    operations: None; a cell has operations of NAS-Bench-201 alone.
    dtype: the type of the computation. Parameters, batch statistics and logits are float32.
    axis_name: the parallel axis over which batch statistics are taken, or None.
    form: 'plain' (over `[B, H, W, C]`), 'planes' (over `[C, H, W, B]`), or 'auto': the faster one
      for the platform. Both have the same parameters.
    batch_norm: as for `Supernet`.
  """

  genotype: Cell
  channels: int
  num_layers: int
  num_classes: int
  stem: str = 'cifar'
  auxiliary: bool = False
  operations: own_operations.OwnOperations | None = None
  dtype: DTypeLike = jnp.float32
  axis_name: str | None = None
  form: str = 'auto'
  batch_norm: str = 'corrected'

  def __post_init__(self) -> None:
    checks.check_size('channels', self.channels)
    checks.check_size('num_layers', self.num_layers)
    checks.check_size('num_classes', self.num_classes)
    checks.check_choice('stem', self.stem, ('cifar',))
    if self.auxiliary or self.operations:
      raise ValueError('a network of NAS-Bench-201 has no auxiliary head and no own operations')
    checks.check_choice('form', self.form, ('auto', *FORMS))
    checks.check_choice('batch_norm', self.batch_norm, batch_norm.RULES)
    super().__post_init__()

  @nn.compact
  @with_usual_promotion
  def __call__(
    self,
    images: Float[AnyArray, 'B H W c'],
    train: bool = False,
    drop_path_rate: Float[AnyArray, ''] | float = 0.0,
    positions: Int[AnyArray, 'B'] | None = None,
  ) -> Float[Array, 'B K']:
    """Returns logits, float32.

    Args:
      images: normalised images, whose sides are multiples of 4.
      train: whether to normalise with the moments of the batch; with `mutable=['batch_stats']` the
        running averages move.
      drop_path_rate: must be the number 0; the benchmark has no drop path.
      positions: not used; all networks are called alike.

    Raises:
      ValueError: there is a drop path, or the images cannot be halved twice.
    """
    if not isinstance(drop_path_rate, (int, float)) or drop_path_rate:
      raise ValueError('the network of NAS-Bench-201 has no drop path; leave drop_path_rate at 0')
    form = checks.form_of(self.form, 'plain')
    style = Style(self.dtype, self.axis_name, FORMS[form], self.batch_norm)

    def apply_cell(place: int, channels: int, x: FeatureMap) -> FeatureMap:
      return NasBenchCell(self.genotype, channels, style, name=f'cell_{place}')(x, train)

    images = jnp.asarray(images, self.dtype)
    return nas_bench_macro.apply(
      images, self.channels, self.num_layers, self.num_classes, train, style, apply_cell
    )
