"""The search network of NAS-Bench-201."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.promotion import with_usual_promotion
from stretchnas_jax.cells.space import NAS_BENCH_201_PRIMITIVES, SearchSpace
from stretchnas_jax.networks import checks, drop_path, nas_bench_macro, own_operations
from stretchnas_jax.networks.cell_inputs import uniform_weights
from stretchnas_jax.networks.forms import batch_norm as batch_norm_lib
from stretchnas_jax.networks.forms import draws as draws_lib
from stretchnas_jax.networks.forms.layouts import BatchLast, ChannelsLast, FeatureMap, Layout
from stretchnas_jax.networks.layers import Style
from stretchnas_jax.networks.nas_bench_search_cell import CellExtras, NasBenchSearchCell

FORMS: dict[str, type[Layout]] = {'merged': ChannelsLast, 'planes': BatchLast}
"""For each form of the network, the layout of its feature maps."""

_TRAIN = 4  # the place of `train` among the arguments of `NasBenchSearchCell.__call__`


class NasBenchSupernet(nn.Module):
  """The macro network of NAS-Bench-201 with mixtures of operations in its cells.

  Operation weights `[E, O]` and edge scores `[E]` are arguments, as of `Supernet`. There is one
  type of cell, 'normal'.

  Attributes:
    space: `space.nas_bench_201()`, or another space with one input whose last node is the output,
      and operations of NAS-Bench-201.
    channels: C of the first stage; 16 in the benchmark.
    num_layers: N, the cells of each of the three stages; 5 in the benchmark.
    num_classes: the number of classes.
    stem: 'cifar'; the macro network has one stem.
    form: how mixtures are computed: 'merged' (over `[B, H, W, C]`), 'planes' (over `[C, H, W, B]`),
      or 'auto': the faster one for the platform.
    operations: None; the space has operations of NAS-Bench-201 alone.
    remat: keep only the outputs of cells for the gradient; less memory, more time.
    dtype: the type of the computation. Parameters, statistics, weights and logits are float32.
    axis_name: the parallel axis over which batch statistics are taken, or None.
    batch_norm: the rule of running averages, as for `Supernet`.
    auxiliary_skip: whether each edge has a skip connection beside its mixture (DARTS-). Its weight
      is the knob 'auxiliary_skip', by default 1.
    sparse: not used; every operation is computed.
    final_norm: False; the macro network has its own before the mean.
    partial_channels: K. Operations see the first C / K channels of a node. The others go past them,
      times the edge score, and each node's channels are shuffled (PC-DARTS, Xu et al. 2020).
  """

  space: SearchSpace
  channels: int
  num_layers: int
  num_classes: int
  stem: str = 'cifar'
  form: str = 'auto'
  operations: own_operations.OwnOperations | None = None
  remat: bool = False
  dtype: DTypeLike = jnp.float32
  axis_name: str | None = None
  batch_norm: str = 'corrected'
  partial_channels: int = 1
  auxiliary_skip: bool = False
  sparse: bool = False
  final_norm: bool = False

  def __post_init__(self) -> None:
    checks.check_size('channels', self.channels)
    checks.check_size('num_layers', self.num_layers)
    checks.check_size('num_classes', self.num_classes)
    checks.check_size('partial_channels', self.partial_channels)
    checks.check_choice('stem', self.stem, ('cifar',))
    if self.final_norm:
      raise ValueError('the network of NAS-Bench-201 has a norm of its own, and no final_norm')
    checks.check_choice('form', self.form, ('auto', *FORMS))
    checks.check_choice('batch_norm', self.batch_norm, batch_norm_lib.RULES)
    if self.channels % self.partial_channels:
      raise ValueError(
        f'channels is {self.channels}; it must be a multiple of partial_channels, '
        f'{self.partial_channels}'
      )
    graph = self.space.graph
    if graph.num_inputs != 1 or graph.output != 'last':
      raise ValueError('the space of a NasBenchSupernet has one input, and output is last')
    if self.operations:
      raise ValueError('a network of NAS-Bench-201 has no own operations')
    for name in self.space.primitives:
      checks.check_choice('an operation of NAS-Bench-201', name, NAS_BENCH_201_PRIMITIVES)
    super().__post_init__()

  @nn.compact
  @with_usual_promotion
  def __call__(
    self,
    images: Float[AnyArray, 'B H W c'],
    op_weights: Mapping[str, Float[AnyArray, '*L E O']] | None = None,
    edge_scores: Mapping[str, Float[AnyArray, 'E']] | None = None,
    train: bool = False,
    learning: Float[AnyArray, ''] | float = 1.0,
    *,
    knobs: Mapping[str, ScalarLike] | None = None,
    key: PRNGKeyArray | None = None,
  ) -> Float[Array, 'B K']:
    """Returns logits, float32.

    Args:
      images: normalised images, whose sides are multiples of 4.
      op_weights: `{'normal': [E, O]}`, or `[L, E, O]` for the 3 N cells; uniform if None.
      edge_scores: `{'normal': [E]}`; ones if None.
      train: whether to normalise with the moments of the batch; with `mutable=['batch_stats']` the
        running averages move.
      learning: not used; all search networks are called alike.
      knobs: as for `Supernet`: 'auxiliary_skip', 'skip_dropout' and 'edge_drop'.
      key: of the draws of the last two, as for `Supernet`.

    Raises:
      ValueError: `op_weights` or `edge_scores` do not fit the search space, or draws have no key.
    """
    del learning
    weights, scores = self._checked(op_weights, edge_scores)
    form = checks.form_of(self.form, 'merged')
    style = Style(self.dtype, self.axis_name, FORMS[form], self.batch_norm)
    extras = self._extras(knobs or {}, key, len(images), train)
    build = NasBenchSearchCell
    if self.remat:
      build = nn.remat(NasBenchSearchCell, static_argnums=(_TRAIN,))

    def apply_cell(place: int, channels: int, x: FeatureMap) -> FeatureMap:
      cell = build(self.space, channels, style, self.partial_channels, name=f'cell_{place}')
      of_cell = weights[place] if weights.ndim == 3 else weights
      return cell(x, of_cell, scores, train, extras[place])

    images = jnp.asarray(images, self.dtype)
    return nas_bench_macro.apply(
      images, self.channels, self.num_layers, self.num_classes, train, style, apply_cell
    )

  def num_cells_of(self, cell_type: str) -> int:
    """Returns the number of cells of a type."""
    return nas_bench_macro.NUM_STAGES * self.num_layers if cell_type == 'normal' else 0

  def _extras(
    self, knobs: Mapping[str, ScalarLike], key: PRNGKeyArray | None, batch: int, train: bool
  ) -> list[CellExtras]:
    """Returns for each cell the inputs that knobs decide; `batch` is the images of this device."""
    count = self.num_cells_of('normal')
    skip = jnp.asarray(knobs.get('auxiliary_skip', 1.0)) if self.auxiliary_skip else None
    extras = [CellExtras(skip)] * count
    rates = {
      n: jnp.asarray(knobs[n]) for n in ('edge_drop', 'skip_dropout') if train and n in knobs
    }
    if self.is_initializing() or not rates:
      return extras
    if key is None:
      raise ValueError(f'the knob {next(iter(rates))} needs a key')
    for_drop, for_maps = jax.random.split(key)
    positions = draws_lib.positions(batch, self.axis_name)
    if 'edge_drop' in rates:
      shape = count, len(self.space.graph.edges)
      factors = drop_path.keep_factors(for_drop, rates['edge_drop'], positions, shape)
      extras = [e._replace(edge_drop=f) for e, f in zip(extras, factors.swapaxes(1, 2))]
    if 'skip_dropout' in rates:
      keys, rate = jax.random.split(for_maps, count), rates['skip_dropout']
      draws = [draws_lib.Draws(key, positions, rate) for key in keys]
      extras = [e._replace(draws=own) for e, own in zip(extras, draws)]
    return extras

  def _checked(
    self, op_weights: Mapping[str, AnyArray] | None, edge_scores: Mapping[str, AnyArray] | None
  ) -> tuple[Float[Array, '*L E O'], Float[Array, 'E']]:
    """Fills in missing operation weights and edge scores, and checks the shapes of given ones."""
    edges, operations = len(self.space.graph.edges), self.space.num_operations
    types = self.space.cell_types
    if op_weights is None:
      op_weights = uniform_weights(self.space)
    if edge_scores is None:
      edge_scores = {'normal': jnp.ones(edges)}
    lead = (self.num_cells_of('normal'),) * (np.ndim(op_weights.get('normal', 0)) == 3)
    checks.check_for_cell_types('op_weights', op_weights, (*lead, edges, operations), types)
    checks.check_for_cell_types('edge_scores', edge_scores, (edges,), types)
    return jnp.asarray(op_weights['normal']), jnp.asarray(edge_scores['normal'])
