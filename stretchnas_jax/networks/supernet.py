"""The search network of DARTS over any search space, with weights and scores as arguments."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.promotion import with_usual_promotion
from stretchnas_jax.cells.space import CELL_TYPES, SearchSpace
from stretchnas_jax.networks import checks, own_operations, stems_and_heads
from stretchnas_jax.networks.forms import batch_norm
from stretchnas_jax.networks.layer_plan import plan_layers
from stretchnas_jax.networks.layers import GlobalMean, Style
from stretchnas_jax.networks.search_cell import FORMS, SearchCell, is_built_in

_TRAIN = 5  # the place of `train` among the arguments of `SearchCell.__call__`


class Supernet(nn.Module):
  """The DARTS search network over any search space (Liu et al. 2018; Eq. 1, 2, 6).

  The mixture's operation weights `[E, O]` and edge scores `[E]` are arguments, not parameters.

  Attributes:
    space: the search space; S intermediate nodes, E edges, O operations.
    channels: C of the first cells, even; it doubles at 1/3 and 2/3 of the depth.
    num_layers: the number of cells.
    num_classes: the number of classes.
    stem: 'cifar', or 'imagenet' for large images: it divides their side by 8, with 3 C channels.
    form: how mixtures are computed: 'merged' (dense convolutions), 'planes' (sums of shifted
      copies, the batch last), or 'auto': the faster one for the platform.
    operations: for each name of `space.primitives` that is not built in, a function
      `(channels, stride) -> linen module` whose call `module(x, train)` maps
      `[B, H, W, C]` to `[B, ceil(H / stride), ceil(W / stride), C]` of the same type.
    remat: keep only the outputs of cells for the gradient, and compute a cell again when its turn
      comes: less memory, more time.
    dtype: the type of the computation. Parameters, batch statistics, mixture weights and logits are
      float32.
    axis_name: the parallel axis over which batch statistics are taken, or None.
    batch_norm: the rule of running averages, see `running_averages`: 'corrected' or 'plain'.
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

  def __post_init__(self) -> None:
    checks.check_size('channels', self.channels, even=True)
    checks.check_size('num_layers', self.num_layers)
    checks.check_size('num_classes', self.num_classes)
    checks.check_choice('stem', self.stem, stems_and_heads.STEMS)
    checks.check_choice('form', self.form, ('auto', *FORMS))
    checks.check_choice('batch_norm', self.batch_norm, batch_norm.RULES)
    for name in self.space.primitives:
      if not is_built_in(name) and name not in (self.operations or {}):
        raise ValueError(f'operations has no module for {name!r} of the search space')
    super().__post_init__()

  @nn.compact
  @with_usual_promotion
  def __call__(
    self,
    images: Float[AnyArray, 'B H W c'],
    op_weights: Mapping[str, Float[AnyArray, 'E O']] | None = None,
    edge_scores: Mapping[str, Float[AnyArray, 'E']] | None = None,
    train: bool = False,
    learning: Float[AnyArray, ''] | float = 1.0,
  ) -> Float[Array, 'B K']:
    """Returns logits, float32.

    Args:
      images: normalised images of 1 or 3 channels.
      op_weights: `{'normal': [E, O], 'reduce': [E, O]}`; uniform if None.
      edge_scores: `{'normal': [E], 'reduce': [E]}`; ones if None.
      train: whether to normalise with the moments of the batch; with `mutable=['batch_stats']` the
        running averages move.
      learning: a number, that may be traced. Where it is 0 the caller does not want the gradients
        for the weights, and those that take long may be zeros.

    Raises:
      ValueError: `op_weights` or `edge_scores` do not fit the search space.
    """
    op_weights, edge_scores = self._checked(op_weights, edge_scores)
    form = self._form()
    layout = FORMS[form].layout
    build = nn.remat(SearchCell, static_argnums=(_TRAIN,)) if self.remat else SearchCell
    s0, s1 = map(layout.enter, self._enter(jnp.asarray(images, self.dtype), train))
    for i, layer in enumerate(plan_layers(self.channels, self.num_layers, self.stem)):
      cell = build(
        self.space, *layer, form, self.operations, self.axis_name, self.batch_norm, name=f'cell_{i}'
      )  # fmt: skip
      kind = CELL_TYPES[layer.reduction]
      s0, s1 = s1, cell(s0, s1, op_weights[kind], edge_scores[kind], train, learning)
    return stems_and_heads.classify(GlobalMean(layout)(s1), self.num_classes)

  def num_cells_of(self, cell_type: str) -> int:
    """Returns the number of cells of a type."""
    layers = plan_layers(self.channels, self.num_layers, self.stem)
    return sum(CELL_TYPES[layer.reduction] == cell_type for layer in layers)

  def _form(self) -> str:
    if self.form == 'auto':
      return 'planes' if checks.on_cpu() else 'merged'
    return self.form

  def _checked(
    self, op_weights: Mapping[str, AnyArray] | None, edge_scores: Mapping[str, AnyArray] | None
  ) -> tuple[Mapping[str, AnyArray], Mapping[str, AnyArray]]:
    """Fills in missing operation weights and edge scores, and checks the shapes of given ones."""
    edges, operations = len(self.space.graph.edges), self.space.num_operations
    if op_weights is None:
      op_weights = dict.fromkeys(CELL_TYPES, jnp.full((edges, operations), 1 / operations))
    if edge_scores is None:
      edge_scores = dict.fromkeys(CELL_TYPES, jnp.ones(edges))
    checks.check_for_cell_types('op_weights', op_weights, (edges, operations))
    checks.check_for_cell_types('edge_scores', edge_scores, (edges,))
    return op_weights, edge_scores

  def _enter(
    self, images: Float[Array, 'B H W c'], train: bool
  ) -> tuple[Float[Array, 'B p q D'], Float[Array, 'B r s D']]:
    """Both inputs of the first cell, with 3 C channels."""
    style, width = Style(self.dtype, self.axis_name, batch_norm=self.batch_norm), 3 * self.channels
    if self.stem == 'imagenet':
      return stems_and_heads.ImageNetStem(width, style, name='stem')(images, train)
    x = stems_and_heads.cifar_stem(images, width, train, style, ('stem', 'stem_norm'))
    return x, x
