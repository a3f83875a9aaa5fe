"""The network of a fixed genotype, to be trained from scratch (Liu et al. 2018)."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.cells.promotion import with_usual_promotion
from stretchnas_jax.cells.space import meant, reduction_layers
from stretchnas_jax.networks import checks, operations, own_operations, stems_and_heads
from stretchnas_jax.networks.drop_path import keep_factors
from stretchnas_jax.networks.fixed_cell import FixedCell
from stretchnas_jax.networks.forms import batch_norm
from stretchnas_jax.networks.forms.layouts import BatchLast, ChannelsLast, FeatureMap, Layout
from stretchnas_jax.networks.layer_plan import Layer, plan_layers
from stretchnas_jax.networks.layers import GlobalMean, Style

FORMS = {'plain': ChannelsLast, 'planes': BatchLast}
"""For each form of the network, the layout of feature maps in its cells."""

# A CPU computes a matrix product with so many terms in a sum more slowly than it reads a kept one.
_KEPT_TERMS = 64


class _Run(NamedTuple):
  """Layers in a row whose cells and inputs have equal shapes."""

  layer: Layer
  places: list[int]


class FixedNetwork(nn.Module):
  """Stem, cells of a genotype, global mean, linear classifier.

  Attributes:
    genotype: the cells.
    channels: C of the first cells, with the ImageNet stem even; it doubles at 1/3 and 2/3 of the
      depth.
    num_layers: the number of cells.
    num_classes: the number of classes.
    stem: 'cifar', or 'imagenet' for large images: it divides their side by 8.
    auxiliary: whether there is an auxiliary head, which works in training only.
    operations: a researcher's own operations by their names, each a function
      `(channels, stride) -> linen module` whose call `module(x, train)` maps `[B, H, W, C]` to
      `[B, ceil(H / stride), ceil(W / stride), C]` of the same type. They go before built-in ones.
      A search and a training refuse names of built-in ones.
    dtype: the type of the computation. Parameters, batch statistics and logits are float32.
    axis_name: the parallel axis over which batch statistics are taken, or None.
    form: how cells are computed: 'plain' (over `[B, H, W, C]`), 'planes' (over `[C, H, W, B]`; it
      has gradients, but no forward-mode ones), or 'auto': the faster one for the platform. Both
      have the same parameters.
    batch_norm: as for `Supernet`.

  Example:
    >>> import jax
    >>> from stretchnas_jax import Genotype
    >>> cell = (('skip_connect', 0, 2), ('max_pool_3x3', 1, 2))
    >>> net = FixedNetwork(Genotype(cell, (2,), cell, (2,)), 4, 1, num_classes=10)
    >>> images = jax.numpy.zeros((2, 8, 8, 3))
    >>> jax.eval_shape(net.init_with_output, jax.random.key(0), images)[0].shape
    (2, 10)
  """

  genotype: Genotype
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
    checks.check_choice('stem', self.stem, stems_and_heads.STEMS)
    checks.check_size('channels', self.channels, even=stems_and_heads.needs_even(self.stem))
    checks.check_size('num_layers', self.num_layers)
    checks.check_size('num_classes', self.num_classes)
    checks.check_choice('form', self.form, ('auto', *FORMS))
    checks.check_choice('batch_norm', self.batch_norm, batch_norm.RULES)
    known = [*operations.OPERATIONS, *(self.operations or {})]
    for name, _, _ in (*self.genotype.normal, *self.genotype.reduce):
      if name not in known:
        raise ValueError(f'genotype has the operation {name!r}; {meant(name, known)}')
    super().__post_init__()

  @nn.compact
  @with_usual_promotion
  def __call__(
    self,
    images: Float[AnyArray, 'B H W c'],
    train: bool = False,
    drop_path_rate: Float[AnyArray, ''] | float = 0.0,
    positions: Int[AnyArray, 'B'] | None = None,
  ) -> Float[Array, 'B K'] | tuple[Float[Array, 'B K'], Float[Array, 'B K']]:
    """Returns logits, float32, or with the auxiliary head in training (logits, auxiliary logits).

    Args:
      images: normalised images.
      train: whether to normalise with the moments of the batch; with `mutable=['batch_stats']` the
        running averages move.
      drop_path_rate: the probability with which an example loses an edge in training; it may be
        traced. Other than the number 0 it needs `rngs={'drop_path': key}`.
      positions: the places of the examples in the batch over all devices. The key and these decide
        which edges are dropped. None: as if the batch were spread in order.

    Raises:
      ValueError: the images do not fit the auxiliary head, there is no key for drop path, or an own
        operation returns a wrong shape or type.
    """
    keep = self._keep_factors(images, train, drop_path_rate, positions)
    build_stem = stems_and_heads.CifarStem if self.stem == 'cifar' else stems_and_heads.ImageNetStem
    layout = FORMS[self._form()]
    stem = build_stem(self.channels, self._style(layout), name='stem')
    s0, s1 = stem(layout.enter(jnp.asarray(images, self.dtype)), train)
    extra = None
    for run in self._runs():
      s0, s1 = self._apply_cells(run, s0, s1, train, keep)
      if run.places[0] == reduction_layers(self.num_layers)[1] and self._has_auxiliary(train):
        extra = self._auxiliary_logits(images.shape, layout.leave(s1), train)
    logits = stems_and_heads.classify(GlobalMean(layout)(s1), self.num_classes)
    return (logits, extra) if extra is not None and train else logits

  def _form(self) -> str:
    return checks.form_of(self.form, 'plain')

  def _style(self, layout: type[Layout]) -> Style:
    """The style of a part of the network in a layout."""
    return Style(self.dtype, self.axis_name, layout, self.batch_norm)

  # ---- auxiliary head ----------------------------------------------------------------------------

  def _has_auxiliary(self, train: bool) -> bool:
    """Returns whether the head is computed: in training, and to create its parameters."""
    return self.auxiliary and (train or self.is_initializing())

  def _auxiliary_logits(
    self, images: tuple[int, ...], features: Float[Array, 'B H W C'], train: bool
  ) -> Float[Array, 'B K']:
    stems_and_heads.check_auxiliary(self.stem, images, features.shape)
    head = stems_and_heads.AuxiliaryHead(
      self.num_classes, self.stem, self._style(ChannelsLast), name='auxiliary_head'
    )
    return head(features, train)

  # ---- cells -------------------------------------------------------------------------------------

  def _runs(self) -> list[_Run]:
    """The layers in order; those with equal cells and inputs of equal widths together."""
    widths, kinds = ['stem', 'stem'], []
    for layer in plan_layers(self.channels, self.num_layers, self.stem):
      kinds.append((layer, *widths))
      concat = self.genotype.reduce_concat if layer.reduction else self.genotype.normal_concat
      widths = [widths[1], layer.channels * len(concat)]
    together = itertools.groupby(range(self.num_layers), key=kinds.__getitem__)
    return [_Run(kind[0], list(places)) for kind, places in together]

  def _apply_cells(
    self,
    run: _Run,
    s0: FeatureMap,
    s1: FeatureMap,
    train: bool,
    keep: Float[Array, 'L B E'] | None,
  ) -> tuple[FeatureMap, FeatureMap]:
    """Applies the cells of a run to the outputs of the two cells before."""
    loops = self._form() == 'planes' and not self.operations and not self.is_initializing()
    if loops and len(run.places) > 1:
      return self._loop(self._cell(run.layer, parent=None), run.places, s0, s1, train, keep)
    for place in run.places:
      cell = self._cell(run.layer, name=f'cell_{place}')
      s0, s1 = s1, cell(s0, s1, train, None if keep is None else keep[place])
    return s0, s1

  def _loop(
    self,
    cell: FixedCell,
    places: Sequence[int],
    s0: FeatureMap,
    s1: FeatureMap,
    train: bool,
    keep: Float[Array, 'L B E'] | None,
  ) -> tuple[FeatureMap, FeatureMap]:
    """Applies equal cells as one loop, so that a cell compiles once.

    The gradient of the loop computes each cell again, without its large matrix products. On a CPU
    that takes less time than to write and read all that the cells would keep, as the memory of one
    cell serves all.
    """
    names = [f'cell_{place}' for place in places]
    stacked = {
      collection: jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *[self.variables[collection][name] for name in names]
      )
      for collection in ('params', 'batch_stats')
    }
    keep = None if keep is None else keep[places[0] : places[-1] + 1]

    def body(inputs: tuple[Array, Array], given: tuple[Any, Any]) -> tuple[Any, Any]:
      variables, keep = given
      y, updated = cell.apply(variables, *inputs, train, keep, mutable=['batch_stats'])
      return (inputs[1], y), updated['batch_stats']

    body = jax.checkpoint(body, policy=_is_kept)
    outputs, stats = lax.scan(body, (s0, s1), (stacked, keep))
    if train and self.is_mutable_collection('batch_stats'):
      for i, name in enumerate(names):
        self.put_variable('batch_stats', name, jax.tree.map(lambda a, i=i: a[i], stats))
    return outputs

  def _cell(self, layer: Layer, **place: Any) -> FixedCell:
    """Builds the cell of a layer; `place` is its name, or no parent."""
    cell, reduction = self.genotype, layer.reduction
    return FixedCell(
      cell.reduce if reduction else cell.normal,
      cell.reduce_concat if reduction else cell.normal_concat,
      *layer,
      self.operations,
      self._style(FORMS[self._form()]),
      **place,
    )

  # ---- drop path ---------------------------------------------------------------------------------

  def _keep_factors(
    self,
    images: Float[AnyArray, 'B H W c'],
    train: bool,
    rate: Float[AnyArray, ''] | float,
    positions: Int[AnyArray, 'B'] | None,
  ) -> Float[Array, 'L B E'] | None:
    """Draws the factors of all edges, or returns None where there is no drop path."""
    if not train or (isinstance(rate, (int, float)) and rate == 0):
      return None
    if not self.has_rng('drop_path'):
      raise ValueError("drop_path_rate needs a key: pass rngs={'drop_path': key} to apply")
    if positions is None:
      batch = images.shape[0]
      positions = jnp.arange(batch, dtype=jnp.int32)
      if self.axis_name is not None and not self.is_initializing():
        positions += batch * lax.axis_index(self.axis_name)
    edges = max(len(self.genotype.normal), len(self.genotype.reduce))
    return keep_factors(self.make_rng('drop_path'), rate, positions, (self.num_layers, edges))


def _is_kept(primitive: Primitive, *inputs: jax.core.ShapedArray, **params: Any) -> bool:
  """Returns whether the gradient of a loop over cells keeps a result of the cells."""
  if primitive is not lax.dot_general_p:
    return False
  (axes, _), _ = params['dimension_numbers']
  return math.prod(inputs[0].shape[axis] for axis in axes) >= _KEPT_TERMS
