"""The search network of DARTS over any search space, with weights and scores as arguments."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.promotion import with_usual_promotion
from stretchnas_jax.cells.space import CELL_TYPES, SearchSpace
from stretchnas_jax.networks import checks, drop_path, own_operations, stems_and_heads
from stretchnas_jax.networks.cell_inputs import CellInputs, uniform_weights
from stretchnas_jax.networks.cell_plan import CellPlan, is_built_in
from stretchnas_jax.networks.forms import batch_norm, edge_groups
from stretchnas_jax.networks.forms import draws as draws_lib
from stretchnas_jax.networks.forms.layouts import FeatureMap, Layout
from stretchnas_jax.networks.layer_plan import Layer, plan_layers
from stretchnas_jax.networks.layers import BatchNorm, GlobalMean, Relu, Style
from stretchnas_jax.networks.search_cell import FORMS, SearchCell

_TRAIN = 4  # the place of `train` among the arguments of `SearchCell.__call__`


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
    partial_channels: K. The operations of an edge see the first C / K channels of a node, and the
      rest pass them by, weighted by the edge score (PC-DARTS). K must divide the channels.
    auxiliary_skip: whether each edge has a skip connection beside its mixture (DARTS-). Its weight
      is the knob 'auxiliary_skip', by default 1.
    sparse: whether an operation whose weight is exactly 0 is left out in training. It must then
      have no gradient. The running averages of its batch norms stay as they are.
    final_norm: whether batch norm with scale and bias and a ReLU stand before the global mean, as
      in DOTS.

  Example:
    >>> import jax
    >>> from stretchnas_jax import darts_space
    >>> net = Supernet(darts_space(1), 4, 1, num_classes=10)
    >>> shapes = jax.eval_shape(net.init, jax.random.key(0), jax.numpy.zeros((2, 8, 8, 3)))
    >>> sorted(shapes)
    ['batch_stats', 'params']
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
    checks.check_size('channels', self.channels, even=True)
    checks.check_size('partial_channels', self.partial_channels)
    if self.channels % self.partial_channels:
      raise ValueError(
        f'partial_channels is {self.partial_channels}; it must divide channels, {self.channels}'
      )
    checks.check_size('num_layers', self.num_layers)
    checks.check_size('num_classes', self.num_classes)
    checks.check_choice('stem', self.stem, stems_and_heads.STEMS)
    checks.check_choice('form', self.form, ('auto', *FORMS))
    checks.check_choice('batch_norm', self.batch_norm, batch_norm.RULES)
    if self.space.graph.output != 'concat':
      raise ValueError(
        'the cells of this search space hand on their last node; take NasBenchSupernet for them'
      )
    if self.space.graph.num_inputs != 2:
      raise ValueError(
        'the graph of this search space has num_inputs=1; a cell of a Supernet has two inputs: '
        "leave num_inputs at 2, or take output='last' and NasBenchSupernet"
      )
    own_operations.check_names(self.operations)
    for name in self.space.primitives:
      if name in edge_groups.RESERVED:
        raise ValueError(f'the search space has an operation {name!r}; choose another name')
      if not is_built_in(name) and name not in (self.operations or {}):
        raise ValueError(f'operations has no module for {name!r} of the search space')
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
      images: normalised images of 1 or 3 channels.
      op_weights: `{'normal': [E, O], 'reduce': [E, O]}`, or `[L, E, O]` with weights of their own
        for the L layers of a cell type; uniform if None.
      edge_scores: `{'normal': [E], 'reduce': [E]}`; ones if None.
      train: whether to normalise with the moments of the batch; with `mutable=['batch_stats']` the
        running averages move.
      learning: a number, that may be traced. Where it is 0 the caller does not want the gradients
        for the weights, and those that take long may be zeros.
      knobs: numbers that may be traced. The network reads 'auxiliary_skip', and in training the
        probabilities 'skip_dropout' (of each number of a skip connection at stride 1) and
        'edge_drop' (of each edge for each image). Others change nothing.
      key: of the draws of both, and of the operation `noise`; None for an evaluation. An image's
        draws depend on it and on the place of the image in the batch over all devices.

    Raises:
      ValueError: `op_weights` or `edge_scores` do not fit the search space, or draws have no key.
    """
    layers = plan_layers(self.channels, self.num_layers, self.stem)
    cells = self._cell_inputs(layers, op_weights, edge_scores)
    cells = self._with_knobs(cells, knobs or {}, key, images, train)
    form = self._form()
    layout = FORMS[form].layout
    build = nn.remat(SearchCell, static_argnums=(_TRAIN,)) if self.remat else SearchCell
    s0, s1 = self._enter(layout.enter(jnp.asarray(images, self.dtype)), train, layout)
    for i, (layer, inputs) in enumerate(zip(layers, cells)):
      plan = CellPlan(self.space, layer.reduction, self.auxiliary_skip, self.partial_channels)
      cell = build(
        plan, layer.channels, layer.after_reduction, form, self.operations, self.axis_name,
        self.batch_norm, self.sparse, name=f'cell_{i}',
      )  # fmt: skip
      s0, s1 = s1, cell(s0, s1, inputs, train, learning)
    if self.final_norm:
      style = Style(self.dtype, self._parallel_axis(), layout, self.batch_norm)
      s1 = Relu()(BatchNorm(train, style, name='final_norm')(s1))
    return stems_and_heads.classify(GlobalMean(layout)(s1), self.num_classes)

  def num_cells_of(self, cell_type: str) -> int:
    """Returns the number of cells of a type."""
    layers = plan_layers(self.channels, self.num_layers, self.stem)
    return sum(CELL_TYPES[layer.reduction] == cell_type for layer in layers)

  def _form(self) -> str:
    return checks.form_of(self.form, 'merged')

  def _parallel_axis(self) -> str | None:
    """The parallel axis; there is none while the network is initialised."""
    return None if self.is_initializing() else self.axis_name

  def _cell_inputs(
    self,
    layers: list[Layer],
    op_weights: Mapping[str, AnyArray] | None,
    edge_scores: Mapping[str, AnyArray] | None,
  ) -> list[CellInputs]:
    """Fills in missing operation weights and edge scores, checks given ones, takes each layer's."""
    edges, operations = len(self.space.graph.edges), self.space.num_operations
    if op_weights is None:
      op_weights = uniform_weights(self.space)
    if edge_scores is None:
      edge_scores = dict.fromkeys(CELL_TYPES, jnp.ones(edges))
    kinds = [CELL_TYPES[layer.reduction] for layer in layers]
    counts = {kind: self.num_cells_of(kind) for kind in CELL_TYPES}
    checks.check_for_cell_types('op_weights', op_weights, (edges, operations), layers=counts)
    checks.check_for_cell_types('edge_scores', edge_scores, (edges,))
    found = []
    for i, kind in enumerate(kinds):
      weights = op_weights[kind]
      if weights.ndim == 3:
        weights = weights[kinds[:i].count(kind)]
      found.append(CellInputs(weights, edge_scores[kind]))
    return found

  def _with_knobs(
    self,
    cells: list[CellInputs],
    knobs: Mapping[str, ScalarLike],
    key: PRNGKeyArray | None,
    images: Float[AnyArray, 'B H W c'],
    train: bool,
  ) -> list[CellInputs]:
    """Adds to the inputs of cells the parts that knobs decide."""
    if self.auxiliary_skip:
      weight = jnp.asarray(knobs.get('auxiliary_skip', 1.0))
      cells = [cell._replace(auxiliary_skip=weight) for cell in cells]
    if self.is_initializing():
      return cells
    rates = {n: knobs[n] for n in ('skip_dropout', 'edge_drop') if train and n in knobs}
    if rates and key is None:
      raise ValueError(f'the knob {next(iter(rates))} needs a key')
    if not rates and 'noise' not in self.space.primitives:
      return cells
    for_drop, for_maps = jax.random.split(jax.random.key(0) if key is None else key)
    positions = draws_lib.positions(len(images), self.axis_name)
    if 'edge_drop' in rates:
      shape = len(cells), len(self.space.graph.edges)
      rate = jnp.asarray(rates['edge_drop'])
      factors = drop_path.keep_factors(for_drop, rate, positions, shape)
      cells = [c._replace(edge_drop=f) for c, f in zip(cells, factors.swapaxes(1, 2))]
    if 'skip_dropout' not in rates and 'noise' not in self.space.primitives:
      return cells
    rate = jnp.asarray(rates['skip_dropout']) if 'skip_dropout' in rates else None
    keys = jax.random.split(for_maps, len(cells))
    draws = [draws_lib.Draws(key, positions, rate) for key in keys]
    return [cell._replace(draws=own) for cell, own in zip(cells, draws)]

  def _enter(
    self, images: FeatureMap, train: bool, layout: type[Layout]
  ) -> tuple[FeatureMap, FeatureMap]:
    """Both inputs of the first cell, with 3 C channels."""
    style, width = Style(self.dtype, self.axis_name, layout, self.batch_norm), 3 * self.channels
    if self.stem == 'imagenet':
      return stems_and_heads.ImageNetStem(width, style, name='stem')(images, train)
    x = stems_and_heads.cifar_stem(images, width, train, style, ('stem', 'stem_norm'))
    return x, x
