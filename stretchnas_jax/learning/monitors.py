"""Monitors: what a search decides on the host, at the end of each epoch.

A monitor reads alpha, beta, the epoch's line of metrics and the decoded cell, and returns a new
control. Its whole state is in the control, which every checkpoint holds. So a search that is
resumed decides as one that never stopped.

A control is a dict: `allowed` holds a bool `[E, O]` for each cell type; `stop` ends the search
there, as one that is done; any other entry is a scalar, and a knob of its name.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.learning import controls, pruning
from stretchnas_jax.learning.controls import Control
from stretchnas_jax.learning.state import PHASE_START, Arch

Strength = Callable[..., Mapping[str, Float[AnyArray, 'E O']]]
"""`strength(arch, step, control)`: by cell type, the numbers by which operations are ranked."""


class Monitor(NamedTuple):
  """A decision on the host, at the end of each epoch.

  Attributes:
    init: `init(space) -> control`, the entries that it adds to a new search.
    end_epoch: `end_epoch(arch, control, line, genotype) -> control`. It gets NumPy arrays, and
      returns a control of the same entries and shapes. Numbers take the type that they began with.

  Example:
    >>> def end_epoch(arch, control, line, genotype):
    ...   return {**control, 'stop': np.bool_(line['val_accuracy'] > 0.9)}
    >>> own = Monitor(lambda space: {'stop': np.bool_(False)}, end_epoch)
    >>> bool(own.end_epoch(None, {}, {'val_accuracy': 0.95}, None)['stop'])
    True
  """

  init: Callable[[SearchSpace], Mapping[str, Any]]
  end_epoch: Callable[[Arch, Control, Mapping[str, Any], AnyGenotype], Mapping[str, Any]]


def first_control(monitors: Sequence[Monitor], space: SearchSpace) -> Control:
  """Returns the control of a new search; `()` would be the one without monitors.

  Args:
    monitors: of the search.
    space: its search space.

  Raises:
    ValueError: an entry is not a number that a device holds.
  """
  found: Control = {}
  for monitor in monitors:
    found |= controls.first(controls.name_of(monitor.end_epoch), monitor.init(space))
  return found


def decide(
  monitors: Sequence[Monitor],
  arch: Arch,
  control: Control,
  line: Mapping[str, Any],
  genotype: AnyGenotype,
) -> Control:
  """Returns the control after an epoch: each monitor sees the decisions of those before it.

  Args:
    monitors: of the search.
    arch: alpha and beta, on the host.
    control: before this end of an epoch.
    line: of metrics.
    genotype: the decoded cell.

  Raises:
    ValueError: a monitor returns other entries than it was given, or one of another kind.
  """
  for monitor in monitors:
    after = monitor.end_epoch(arch, dict(control), line, genotype)
    after = controls.next_one(controls.name_of(monitor.end_epoch), control, after)
    if bool(control.get('stop', False)):
      after['stop'] = control['stop']
    control = after
  return control


def has_stopped(control: Any) -> bool:
  """Tells whether a control ends the search.

  Example:
    >>> has_stopped({'stop': True}), has_stopped(())
    (True, False)
  """
  return isinstance(control, Mapping) and bool(np.asarray(control.get('stop', False)))


def after_rest(monitor: Monitor, steps: int) -> Monitor:
  """Returns a monitor that decides nothing while alpha and beta rest.

  Args:
    monitor: any monitor.
    steps: so many steps they rest, from the beginning of the search or of its phase.

  Example:
    >>> calm, cell = after_rest(skips(2), steps=10), snas.zoo.GENOTYPES['DARTS_V2']
    >>> calm.end_epoch(Arch({}, {}), {}, {'epoch': 1, 'step': 10}, cell)
    {}
  """

  @functools.wraps(monitor.end_epoch)
  def end_epoch(
    arch: Arch, control: Control, line: Mapping[str, Any], genotype: AnyGenotype
  ) -> Mapping[str, Any]:
    if line['step'] - control.get(PHASE_START, 0) <= steps:
      return control
    return monitor.end_epoch(arch, control, line, genotype)

  return monitor._replace(end_epoch=end_epoch)


# ---- early stopping ------------------------------------------------------------------------------


def skips(count: int, min_epochs: int = 0) -> Monitor:
  """Builds DARTS+'s first rule: stop where the normal cell has many skip connections.

  Liang et al. 2019 stop at the first epoch whose normal cell has at least two. Others wait for some
  epochs first.

  Args:
    count: so many skip connections stop the search.
    min_epochs: before the end of this epoch it does not stop.

  Returns:
    The monitor.

  Example:
    >>> cell = snas.zoo.GENOTYPES['DARTS_V2']  # two skips in its normal cell
    >>> bool(skips(2).end_epoch(Arch({}, {}), {}, {'epoch': 1}, cell)['stop'])
    True
  """

  def end_epoch(
    arch: Arch, control: Control, line: Mapping[str, Any], cell: AnyGenotype
  ) -> Control:
    del arch
    found = sum(op == 'skip_connect' for op, _, _ in cell.normal)
    return {**control, 'stop': np.bool_(line['epoch'] >= min_epochs and found >= count)}

  return Monitor(lambda space: {'stop': np.bool_(False)}, end_epoch)


def same_ranking(epochs: int, strength: Strength, parametric: Sequence[int]) -> Monitor:
  """Builds DARTS+'s second rule: stop where the ranking of operations has become stable.

  The ranking is that of the operations with weights, on every edge of the normal cell. It is kept
  as a checksum of 32 bits.

  Args:
    epochs: so many epochs without a change stop the search.
    strength: ranks the operations.
    parametric: the places of the operations that have weights.

  Returns:
    The monitor.

  Example:
    >>> ranks = lambda arch, step, control: {'normal': np.array([[0.1, 0.2]])}
    >>> sorted(same_ranking(10, ranks, [0, 1]).init(snas.darts_space(1)))
    ['ranking', 'stop', 'unchanged_epochs']
  """

  def end_epoch(
    arch: Arch, control: Control, line: Mapping[str, Any], cell: AnyGenotype
  ) -> Control:
    del cell
    ranks = strength(arch, line['step'], control)['normal']
    ranking = pruning.ranking_checksum(ranks, parametric)
    unchanged = int(control['unchanged_epochs']) + 1 if ranking == int(control['ranking']) else 0
    return {
      **control,
      'ranking': np.int32(ranking),
      'unchanged_epochs': np.int32(unchanged),
      'stop': np.bool_(unchanged >= epochs),
    }

  # No ranking has this number.
  none_yet = {'ranking': np.int32(-1), 'unchanged_epochs': np.int32(0), 'stop': np.bool_(False)}
  return Monitor(lambda space: none_yet, end_epoch)


# ---- budgets and pruning -------------------------------------------------------------------------


def prune(
  rule: pruning.Pruning, strength: Strength, space: SearchSpace, cost: str = 'macs'
) -> Monitor:
  """Builds gradual pruning under a cost, an idea of GOLD-NAS (Bi et al. 2020).

  After each epoch the weakest operations fall for ever. If few fall, the weight of the expected
  cost grows, by a step that grows too. The search stops where the cell costs no more than a floor.

  Args:
    rule: how many fall, and when.
    strength: the gates.
    space: the search space.
    cost: the metric that is compared with the floor.

  Returns:
    The monitor. Its control has `allowed`, `cost_multiplier`, `cost_step` and `stop`.

  Example:
    >>> space = snas.SearchSpace(snas.CellGraph(1), ('none', 'skip_connect'))
    >>> monitor = prune(pruning.Pruning(), lambda *_: {}, space)
    >>> monitor.init(space)['allowed']['normal'].tolist()
    [[False, True], [False, True]]
  """
  graph = space.graph
  candidates = np.array([name != 'none' for name in space.primitives])
  from_input = np.array([src < graph.num_inputs for src, _ in graph.edges])

  def init(space: SearchSpace) -> Control:
    every = np.broadcast_to(candidates, (len(graph.edges), space.num_operations))
    return {
      'allowed': {c: np.array(space.allowed_on(c, every)) for c in space.cell_types},
      'cost_multiplier': np.float32(0),
      'cost_step': np.float32(rule.step),
      'stop': np.bool_(False),
    }

  def end_epoch(
    arch: Arch, control: Control, line: Mapping[str, Any], cell: AnyGenotype
  ) -> Control:
    del cell
    gates = strength(arch, line['step'], control)
    allowed, fell = pruning.pruned(rule, gates, control['allowed'], from_input)
    multiplier, step = float(control['cost_multiplier']), float(control['cost_step'])
    multiplier, step = pruning.next_weight(rule, fell, multiplier, step)
    return {
      **control,
      'allowed': allowed,
      'cost_multiplier': np.float32(multiplier),
      'cost_step': np.float32(step),
      'stop': np.bool_(bool(rule.floor) and line[cost] <= rule.floor),
    }

  return Monitor(init, end_epoch)


def budget(target: float | int, gain: float, cost: str, most: float) -> Monitor:
  """Builds the controller of a budget: it moves the weight of the expected cost.

  The weight grows by `gain` times the logarithm of expected cost over target, after each epoch. It
  is a multiplier, and has either sign: a cell that costs too little is drawn up.

  Args:
    target: the wanted cost.
    gain: of the controller.
    cost: 'params' or 'macs'. The line of metrics has `expected_params` or `expected_macs`.
    most: the largest weight, in either direction.

  Returns:
    The monitor. Its control has `params_multiplier` or `macs_multiplier`.

  Example:
    >>> monitor = budget(target=1e6, gain=0.5, cost='params', most=10.0)
    >>> control, line = {'params_multiplier': np.float32(0)}, {'expected_params': 2e6}
    >>> cell = snas.zoo.GENOTYPES['DARTS_V2']
    >>> control = monitor.end_epoch(Arch({}, {}), control, line, cell)
    >>> round(float(control['params_multiplier']), 3)
    0.347
  """
  name = f'{cost}_multiplier'

  def end_epoch(
    arch: Arch, control: Control, line: Mapping[str, Any], cell: AnyGenotype
  ) -> Control:
    del arch, cell
    moved = float(control[name]) + gain * float(np.log(line[f'expected_{cost}'] / target))
    return {**control, name: np.float32(np.clip(moved, -most, most))}

  return Monitor(lambda space: {name: np.float32(0)}, end_epoch)
