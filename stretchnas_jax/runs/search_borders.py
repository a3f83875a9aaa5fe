"""The borders between the phases of a search: what is decided there, and what goes on."""

import contextlib
import functools
import logging
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from stretchnas_jax.learning import phase_border, pruning
from stretchnas_jax.learning.state import SearchState
from stretchnas_jax.machine import faults
from stretchnas_jax.networks import widening
from stretchnas_jax.networks.supernet import Supernet
from stretchnas_jax.runs import axes, monitoring, phases, search_phases
from stretchnas_jax.runs.task import Plan, Stage


def decide(before: Stage, number: int, state: SearchState) -> dict:
  """Returns the facts with which a phase begins: the operations that stay, if some fall.

  Args:
    before: the phase that has ended.
    number: of the new phase.
    state: after the last step, on the host.
  """
  phase, space = before.plan.phases[number], before.plan.objects.net.space
  if phase.keep is None:
    return dict(before.facts)
  search = before.plan.objects.search
  strength = monitoring.mean_strength(search)(state.arch, int(state.step), state.control)
  masks = search_phases.masks_of(space, state.control)
  if phase.keep == phases.GROUPS:
    groups = axes.groups_of(space.primitives)
    keep = lambda c: pruning.strongest_of_groups(strength[c], masks[c], groups)
  else:
    names, k = space.primitives, phase.keep
    keep = lambda c: pruning.strongest(strength[c], masks[c], k, names)
  return {search_phases.ALLOWED: {c: keep(c).astype(int).tolist() for c in masks}}


def cross(before: Stage, after: Stage, state: SearchState, key: PRNGKeyArray) -> SearchState:
  """Returns the first state of a phase, from the last one of the phase before.

  Args:
    before: the phase that has ended.
    after: the new phase.
    state: after the last step of `before`, on the host.
    key: of the initial values of the new phase.
  """
  phase, init = after.plan.phases[after.number], search_phases.first(after.plan)
  if phase.begin is not None:
    fresh = after.programs.init(key).state
    with naming_phase(phase), faults.in_own_code():
      found = phase.begin(state, fresh)
      return phase_border.begun(state, found, fresh, _schedule_count(after.plan, phase))
  new = phase.new
  if new:
    fresh = after.programs.init(key).state
  else:
    fresh = jax.eval_shape(init, key).state._replace(control=after.plan.objects.control)
  return _crossed(before.plan, after.plan, phase, key, state, fresh)


def _crossed(
  before: Plan,
  after: Plan,
  phase: phases.Phase,
  key: PRNGKeyArray,
  state: SearchState,
  fresh: SearchState,
) -> SearchState:
  """Returns the first state of a phase from an old state and a new one.

  Args:
    before: the plan of the phase that has ended.
    after: the plan of the new phase.
    phase: the new phase.
    key: of the draws of the passage.
    state: the last one of `before`.
    fresh: a new one of `after`; of parts that go on, shapes are enough.
  """
  count, passage = _schedule_count(after, phase), _passage(before, after, phase, key)
  return phase_border.crossed(state, fresh, phase.new, count, passage)


def _schedule_count(plan: Plan, phase: phases.Phase) -> int:
  """Returns the steps of the learning rate's curve that are over when a phase begins."""
  return phase.schedule[1] * plan.feeds.train.steps_per_epoch


def _passage(
  before: Plan, after: Plan, phase: phases.Phase, key: PRNGKeyArray
) -> widening.Passage | None:
  """Returns the passage of the weights; None where they are new, or stay as they are."""
  old, new = before.objects.net, after.objects.net
  if not isinstance(old, Supernet) or not isinstance(new, Supernet):
    return None
  same = old.space == new.space and old.partial_channels == new.partial_channels
  if 'weights' in phase.new or same or old.num_layers != new.num_layers:
    return None
  return widening.pass_on(old, new, key)


def check_borders(plan: Plan) -> None:
  """Raises ValueError where a phase cannot be built, or cannot begin from the one before.

  Nothing is computed. Where operations fall, the first ones are taken to stay.

  Args:
    plan: of a search.
  """
  if len(plan.phases) == 1:
    return
  key, before = jax.random.key(0), plan
  state = jax.eval_shape(search_phases.first(before), key).state
  for phase, after in zip(plan.phases[1:], assumed_plans(plan)):
    fresh = jax.eval_shape(search_phases.first(after), key).state
    with naming_phase(phase):
      if phase.begin is not None:
        _check_begin(phase, state, fresh)
      else:
        made = functools.partial(_crossed, before, after, phase, key)
        jax.eval_shape(made, state, fresh)
    before, state = after, fresh


def _check_begin(phase: phases.Phase, state: SearchState, fresh: SearchState) -> None:
  """Raises ValueError where an own `begin` gives other shapes, as far as these show them."""
  try:
    found = jax.eval_shape(phase.begin, state, fresh)
  except Exception as error:  # it may work with numbers on the host
    logging.warning(
      'begin of config.search.phases[%d] could not be tried without numbers, and is checked when '
      'the phase begins (%s)', phase.number, faults.one_line(error),
    )  # fmt: skip
    return
  phase_border.check_begun(found, fresh)


def assumed_plans(plan: Plan) -> Iterator[Plan]:
  """Yields the plan of each later phase as it is where the first operations stay.

  Args:
    plan: of a search.

  Raises:
    ValueError: a phase cannot be built.
  """
  before, facts = plan, {}
  for phase in plan.phases[1:]:
    with naming_phase(phase):
      facts = _assumed(before, phase, facts)
      before = search_phases.plan_of(plan, phase.number, facts)
    yield before


@contextlib.contextmanager
def naming_phase(phase: phases.Phase) -> Iterator[None]:
  """Names a phase in the ValueError of its objects.

  Args:
    phase: of a search.
  """
  try:
    yield
  except ValueError as error:
    raise faults.Fault(f'config.search.phases[{phase.number}]: {error}') from error


def _assumed(before: Plan, phase: phases.Phase, facts: dict) -> dict:
  """Returns facts as `decide` gives them, without looking at any logits."""
  if phase.keep is None:
    return facts
  objects = before.objects
  space = objects.net.space
  masks = search_phases.masks_of(space, ())
  order = np.broadcast_to(-np.arange(space.num_operations, dtype=float), masks['normal'].shape)
  if phase.keep == phases.GROUPS:
    groups = axes.groups_of(space.primitives)
    keep = lambda mask: pruning.strongest_of_groups(order, mask, groups)
  else:
    keep = lambda mask: pruning.strongest(order, mask, phase.keep, space.primitives)
  return {search_phases.ALLOWED: {c: keep(masks[c]).astype(int).tolist() for c in masks}}
