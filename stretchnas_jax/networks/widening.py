"""The passage from a search network to one with fewer operations, or with wider ones.

A search may drop operations while it runs, and with partial channels give the others more channels
(DrNAS, Chen et al. 2021). Its weights carry over. Each new channel is a copy of an old one, drawn
at random.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.networks.cell_plan import CellPlan, is_convolution
from stretchnas_jax.networks.layer_plan import plan_layers
from stretchnas_jax.networks.supernet import Supernet

_Channels = Int[Array, 'n stages D']


class Passage(NamedTuple):
  """The passage from a search network to the next.

  Attributes:
    params: from a tree in the form of the parameters to one in the form of the next network's. It
      may hold the parameters, or the momentum of their optimizer.
    batch_stats: the same for running averages.
  """

  params: Callable[[PyTree], PyTree]
  batch_stats: Callable[[PyTree], PyTree]


def pass_on(before: Supernet, after: Supernet, key: PRNGKeyArray) -> Passage:
  """Returns the passage from a search network to one with fewer or wider operations.

  The networks may differ in `partial_channels`, which may become smaller, and in `space.allowed`,
  which may lose operations. All else is kept: stem, inputs of cells, classifier, and the weights
  between the old channels of each operation that stays. A new channel copies an old one of the same
  operation and edge. Nothing is divided, as in DrNAS' code, so that outputs may change.

  Args:
    before: the network so far.
    after: the next one.
    key: of the choice of channels.

  Returns:
    The passage, the same for parameters, momentum and running averages.

  Raises:
    ValueError: the next network needs weights that the network so far does not have.
  """
  cells = {}
  for i, layer in enumerate(plan_layers(after.channels, after.num_layers, after.stem)):
    plans = [
      CellPlan(net.space, layer.reduction, net.auxiliary_skip, net.partial_channels)
      for net in (before, after)
    ]
    cells[f'cell_{i}'] = _Cell(plans[0], plans[1], layer.channels, jax.random.fold_in(key, i))
  if not _fits(before, after) or not all(cell.fits for cell in cells.values()):
    raise ValueError(
      'the next network has weights that the network so far does not have; it may only lose '
      'operations, or have a smaller partial_channels'
    )

  def of(change: Callable[[_Cell, dict], dict]) -> Callable[[PyTree], PyTree]:
    def tree_of(tree: Mapping[str, PyTree]) -> dict[str, PyTree]:
      return {k: change(cells[k], v) if k in cells else v for k, v in tree.items()}

    return tree_of

  return Passage(of(_Cell.params), of(_Cell.batch_stats))


def _fits(before: Supernet, after: Supernet) -> bool:
  """Whether all but operations and their channels is the same."""
  same = before.clone(space=after.space, partial_channels=after.partial_channels)
  names = ('channels', 'num_layers', 'num_classes', 'stem', 'auxiliary_skip', 'final_norm')
  equal = all(getattr(same, name) == getattr(after, name) for name in names)
  return equal and before.partial_channels >= after.partial_channels


class _Cell(NamedTuple):
  """One cell of both networks; C is the number of channels of its nodes."""

  before: CellPlan
  after: CellPlan
  channels: int
  key: PRNGKeyArray

  @property
  def fits(self) -> bool:
    """Whether each operation of the next cell stands in the cell so far."""
    old, new = self.before.operations, self.after.operations
    same = self.before.edges == self.after.edges
    return same and all(set(new[name]) <= set(old.get(name, ())) for name in new)

  def params(self, tree: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Returns the parameters of the next cell."""
    old, new = (plan.param_shapes(self.channels) for plan in (self.before, self.after))
    others = {name: array for name, array in self._that_stay(tree).items() if name not in old}
    return others | {name: self._param(name, jnp.asarray(tree[name])) for name in new}

  def batch_stats(self, tree: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Returns the running averages of the next cell."""
    norms = {}
    for name in self.after.norm_shapes(self.channels):
      averages = tree['norms'][name]
      if not name.startswith('entry'):
        averages = {field: self._average(name, jnp.asarray(a)) for field, a in averages.items()}
      norms[name] = averages
    return {**self._that_stay(tree), 'norms': norms}

  def _that_stay(self, tree: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Returns a tree without the own operations that fall."""
    old, new = (
      {(name, *plan.edges[place]) for name, places in plan.own.items() for place in places}
      for plan in (self.before, self.after)
    )
    fallen = {f'{name}_{src}_{dst}' for name, src, dst in old - new}
    return {name: value for name, value in tree.items() if name not in fallen}

  def _param(self, name: str, array: Array) -> Array:
    """A parameter: depthwise `[n, stages, C, k, k]`, else `[n, stages, C, D]`."""
    operation = name.removesuffix('_depthwise').removesuffix('_pointwise')
    array, inputs = array[self._rows(operation)], self._sources(operation, 0)
    if name.endswith('_depthwise'):
      return jnp.take_along_axis(array, inputs[..., None, None], 2)
    array = jnp.take_along_axis(array, inputs[..., None], 2)
    return jnp.take_along_axis(array, self._sources(operation, 1)[..., None, :], 3)

  def _average(self, name: str, array: Array) -> Array:
    """An average `[n, C]` of a batch norm, which follows its convolution or its pool."""
    operation = name.removesuffix('_first')
    stage = 0 if name.endswith('_first') else -1
    sources = self._sources(operation, 1)[:, stage]
    return jnp.take_along_axis(array[self._rows(operation)], sources, 1)

  def _rows(self, operation: str) -> np.ndarray:
    """The rows of an operation's arrays that stay."""
    old, new = (plan.row_keys(operation) for plan in (self.before, self.after))
    return np.array([old.index(row) for row in new])

  def _sources(self, operation: str, side: int) -> _Channels:
    """For each channel the old channel that it copies; of inputs (0) or of outputs (1)."""
    old, new = (self.channels // plan.partial_channels for plan in (self.before, self.after))
    shape = len(self.after.row_keys(operation)), 2 if operation.startswith('sep') else 1
    names, wide = sorted(self.after.operations), new - old
    # One draw serves all operations, so that one generator is compiled.
    drawn = jax.random.uniform(self.key, (len(names), 2, len(self.after.edges), 2, wide))
    drawn = drawn[names.index(operation), side, : shape[0], : shape[1]]
    if is_convolution(operation) or '_pool_' in operation or side == 0:
      return _copies(drawn, old)
    # The first half of a factorized reduction sees even pixels, the second half odd ones.
    half = new // 2 - old // 2
    even = _copies(drawn[..., :half], old // 2)
    odd = _copies(drawn[..., half:], old - old // 2) + old // 2
    return jnp.concatenate([even, odd], -1)


def _copies(drawn: Float[Array, 'n stages d'], old: int) -> _Channels:
  """All old channels, then for each draw in 0 .. 1 the old channel that a new one copies."""
  copied = jnp.minimum((drawn * old).astype(jnp.int32), old - 1)
  kept = jnp.broadcast_to(jnp.arange(old, dtype=jnp.int32), (*drawn.shape[:2], old))
  return jnp.concatenate([kept, copied], -1)
