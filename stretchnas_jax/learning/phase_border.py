"""The border between two phases of a search: a pure function from one state to the next.

The state after the last step of a phase, and a new state with the shapes of the next phase, give
the first state of that phase. Nothing else is read, so that a search may be stopped at any border.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from stretchnas_jax.learning.state import AVERAGES_START, PHASE_START, Arch, SearchState
from stretchnas_jax.networks.widening import Passage


def crossed(
  before: SearchState,
  fresh: SearchState,
  new: Collection[str],
  schedule_count: int,
  passage: Passage | None = None,
) -> SearchState:
  """Returns the first state of a phase.

  Args:
    before: after the last step of the phase before.
    fresh: a new state of the phase, with the control that it begins with.
    new: what is new: 'weights', 'momentum', 'schedule', 'alpha', 'beta', 'arch_optimizer'.
    schedule_count: the steps of the learning rate's curve that are over.
    passage: makes weights of the new network from those of the old one; None where they stay.

  Returns:
    The state; its step is that of `before`.

  Raises:
    ValueError: a part is to go on, and has another shape in the new phase.
  """
  params, batch_stats, weights_opt = fresh.params, fresh.batch_stats, fresh.weights_opt
  if 'weights' not in new:
    passage = passage or Passage(_unchanged, _unchanged)
    params = _kept('weights', passage.params(before.params), fresh.params)
    batch_stats = _kept('weights', passage.batch_stats(before.batch_stats), fresh.batch_stats)
    if 'momentum' not in new:
      weights_opt = _optimizer_kept(before, fresh, passage)
  fresh_opt = {'alpha', 'beta', 'arch_optimizer'} & set(new)
  arch, alpha_opt, beta_opt = before.arch, before.alpha_opt, before.beta_opt
  if 'alpha' in new:
    arch = arch._replace(alpha=fresh.arch.alpha)
  if 'beta' in new:
    arch = arch._replace(beta=fresh.arch.beta)
  if {'alpha', 'arch_optimizer'} & fresh_opt:
    alpha_opt = fresh.alpha_opt
  if {'beta', 'arch_optimizer'} & fresh_opt:
    beta_opt = fresh.beta_opt
  state = SearchState(
    step=before.step,
    params=params,
    batch_stats=batch_stats,
    arch=Arch(
      _kept('alpha', arch.alpha, fresh.arch.alpha), _kept('beta', arch.beta, fresh.arch.beta)
    ),
    weights_opt=weights_opt,
    alpha_opt=_kept('alpha', alpha_opt, fresh.alpha_opt),
    beta_opt=_kept('beta', beta_opt, fresh.beta_opt),
    control=_control(before, fresh, new),
  )
  return _started(before, state, schedule_count, 'weights' in new)


def begun(
  before: SearchState, found: SearchState, fresh: SearchState, schedule_count: int
) -> SearchState:
  """Returns the first state of a phase from the result of an own `begin`.

  Steps, knobs and the curve of the learning rate count as in any other phase. The corrections of
  running averages begin again where `begin` takes new averages.

  Args:
    before: after the last step of the phase before.
    found: the result of `begin`.
    fresh: a new state of the phase.
    schedule_count: the steps of the learning rate's curve that are over.

  Raises:
    ValueError: the result does not have the parts of `fresh`, or one has another shape or type.
  """
  check_begun(found, fresh)
  same = jax.tree.map(np.array_equal, found.batch_stats, fresh.batch_stats)
  return _started(before, found, schedule_count, jax.tree.all(same))


def check_begun(found: Any, fresh: SearchState) -> None:
  """Raises ValueError unless the result of an own `begin` is like a new state of its phase.

  Args:
    found: the result, or its shapes.
    fresh: a new state of the phase, or its shapes.
  """
  if not isinstance(found, SearchState):
    raise ValueError(f'begin returns a {type(found).__name__}; it must be a SearchState')
  have, wanted = _described(found), _described(fresh)
  for path in [*wanted, *have]:
    if have.get(path) != wanted.get(path):
      raise ValueError(
        f'begin returns {path.lstrip(".")} as {have.get(path, "nothing")}; it must be '
        f'{wanted.get(path, "nothing")}, as in its second argument'
      )


def _started(
  before: SearchState, state: SearchState, schedule_count: int, new_averages: bool
) -> SearchState:
  """Returns the first state of a phase, in which all that counts steps counts rightly.

  Args:
    before: after the last step of the phase before.
    state: the parts of the new phase.
    schedule_count: the steps of the learning rate's curve that are over.
    new_averages: whether the running averages are new.
  """
  control = state.control
  if isinstance(control, Mapping) and PHASE_START in control:
    averages = before.step if new_averages else before.control[AVERAGES_START]
    # Two arrays, since the first step of the phase reuses the memory of each.
    starts = {PHASE_START: before.step, AVERAGES_START: averages}
    control = {**control, **{name: jnp.array(at, jnp.int32) for name, at in starts.items()}}
  weights_opt = _at_count(state.weights_opt, schedule_count)
  return state._replace(step=before.step, weights_opt=weights_opt, control=control)


def _control(before: SearchState, fresh: SearchState, new: Collection[str]) -> PyTree:
  """Returns the control of a phase: decisions go on where alpha does."""
  if not isinstance(fresh.control, Mapping):
    return fresh.control
  old = before.control if isinstance(before.control, Mapping) else {}
  found: dict[str, Any] = dict(fresh.control)
  for name, value in old.items():
    if name in found and 'alpha' not in new and _same_shapes(value, found[name]):
      found[name] = value
  return found


def _unchanged(tree: PyTree) -> PyTree:
  return tree


def _optimizer_kept(before: SearchState, fresh: SearchState, passage: Passage) -> PyTree:
  """Returns the state of the weights' optimizer; its trees over the weights pass on as these do."""
  structure = jax.tree.structure(before.params)
  is_tree = lambda x: jax.tree.structure(x) == structure
  pass_on = lambda x: passage.params(x) if is_tree(x) else x
  passed = jax.tree.map(pass_on, before.weights_opt, is_leaf=is_tree)
  return _kept('weights', passed, fresh.weights_opt)


def _at_count(opt: PyTree, count: int) -> PyTree:
  """Returns the state of an optimizer whose schedules are at a step."""
  is_schedule = lambda x: isinstance(x, optax.ScaleByScheduleState)

  def at(x: PyTree) -> PyTree:
    return x._replace(count=jnp.asarray(count, x.count.dtype)) if is_schedule(x) else x

  return jax.tree.map(at, opt, is_leaf=is_schedule)


def _same_shapes(old: PyTree, new: PyTree) -> bool:
  shapes = lambda tree: [(np.shape(x), x.dtype) for x in jax.tree.leaves(tree)]
  same = jax.tree.structure(old) == jax.tree.structure(new)
  return same and shapes(old) == shapes(new)


def _kept(name: str, old: PyTree, new: PyTree) -> PyTree:
  """Returns a part that goes on; ValueError where the next phase has it in another shape."""
  found, wanted = (
    {jax.tree_util.keystr(path): x.shape for path, x in jax.tree.leaves_with_path(tree)}
    for tree in (old, new)
  )
  for path in [*wanted, *found]:
    if found.get(path) != wanted.get(path):
      raise ValueError(
        f'the {name} cannot go on in the next phase, where {name}{path} has the shape '
        f'{wanted.get(path)}, not {found.get(path)}: name {name!r} in `new` of that phase'
      )
  return old


def _described(tree: PyTree) -> dict[str, str]:
  """Returns type and shape of each leaf by its path, as a device holds it."""
  leaves = jax.tree.leaves_with_path(jax.eval_shape(lambda x: x, tree))
  return {jax.tree_util.keystr(path): f'{x.dtype}{list(x.shape)}' for path, x in leaves}
