"""The phases of a search at work: their objects, the decisions between them, and what goes on."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.runs import axes, budgets, build, json_files, monitoring, phases, steps
from stretchnas_jax.runs import fields as fields_lib
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.task import Plan, Programs, Stage

_SUMS = ('train_loss', 'train_accuracy', 'penalty')
ALLOWED = 'allowed'
_Masks = dict[str, Bool[np.ndarray, 'E O']]

# Fields that change nothing in the programs of a phase.
_OF_THE_HOST = ('seed', 'checkpoint', 'log', 'search.steps_per_call', 'search.phases')


def objects_of(
  phase: phases.Phase,
  parts: Parts,
  facts: Mapping[str, Any],
  *,
  num_classes: int,
  image_shape: tuple[int, ...],
  steps_per_epoch: int,
  platform: str | None = None,
) -> monitoring.PhaseObjects:
  """Builds the objects of a phase.

  Args:
    phase: of a search.
    parts: the researcher's own objects.
    facts: what was decided when the phase began; empty for the first one.
    num_classes: of the data set.
    image_shape: `(H, W, C)`.
    steps_per_epoch: of the phase.
    platform: on which it runs, see `build.search_objects`.
  """
  parts = parts.in_phase(phase.parts)
  if facts.get(ALLOWED):
    space = build.search_space(phase.config, parts)
    allowed = {c: np.array(mask, bool) for c, mask in facts[ALLOWED].items()}
    parts = Parts.of(parts, space=SearchSpace(space.graph, space.primitives, allowed))
  objects = build.search_objects(
    phase.config,
    parts,
    num_classes=num_classes,
    image_shape=image_shape,
    num_steps=phase.schedule[0] * steps_per_epoch,
    steps_per_epoch=steps_per_epoch,
    phase_steps=phase.epochs * steps_per_epoch,
    platform=platform,
  )
  return monitoring.with_monitors(objects, phase, parts, image_shape, steps_per_epoch)


def plan_of(plan: Plan, number: int, facts: Mapping[str, Any]) -> Plan:
  """Returns the plan of a phase.

  Args:
    plan: of the search.
    number: of the phase.
    facts: the decisions at its beginning.

  Raises:
    ValueError: the config wants passes together, or a budget, that the search cannot have.
  """
  phase, feeds = plan.phases[number], plan.phase_feeds[number]
  objects = objects_of(
    phase,
    plan.parts,
    facts,
    num_classes=len(feeds.class_names),
    image_shape=feeds.image_shape,
    steps_per_epoch=feeds.train.steps_per_epoch,
    platform=plan.settings.devices.platform,
  )
  own = plan.parts.in_phase(phase.parts)
  gates = own.relaxation is not None or phase.config.relaxation.kind in ('sigmoid', 'groups')
  budgets.check(phase.config, objects.net, feeds.image_shape, gates)
  reason = axes.why_in_turn(phase.config, own.rule, objects.net)
  # Only a plan is refused: a search of a GPU must load on a CPU, where its form is another.
  if phase.config.search.passes == 'together' and reason is not None:
    raise ValueError(f'config.search.passes is together; it does not go with {reason}')
  return plan._replace(config=phase.config, feeds=feeds, objects=objects)


def first(plan: Plan) -> Callable[[PRNGKeyArray], steps.Position]:
  """Returns the function that gives the position before the first step.

  Args:
    plan: of a search, or of a phase.
  """
  return functools.partial(first_position, plan.objects)


def first_position(objects: monitoring.PhaseObjects, key: PRNGKeyArray) -> steps.Position:
  """Returns the position before the first step.

  Args:
    objects: of a search.
    key: of the initial values.
  """
  state = objects.search.init(key)._replace(control=objects.control)
  return steps.Position(state, steps.zero_sums(_SUMS))


def recipe(plan: Plan, number: int, facts: Mapping[str, Any]) -> str:
  """Returns a text of all that the programs of a phase depend on; equal texts share programs.

  Args:
    plan: of the search.
    number: of the phase.
    facts: the decisions at its beginning.

  Raises:
    ValueError: the config wants passes together, and the search cannot have it.
  """
  phase, feeds = plan.phases[number], plan.phase_feeds[number]
  flat = fields_lib.flatten(json_files.plain(phase.config.to_dict()))
  fields = {
    name: value
    for name, value in flat.items()
    if not any(name == other or name.startswith(f'{other}.') for other in _OF_THE_HOST)
  }
  own = {name: id(value) for name, value in phase.parts.items()}
  lengths = phase.schedule[0], feeds.train.steps_per_epoch
  return json.dumps([fields, facts, lengths, own, phase.several], sort_keys=True)


def stage(
  compile_programs: Callable[[Plan], Programs],
  plan: Plan,
  programs: Programs,
  number: int,
  facts: dict,
) -> Stage:
  """Returns a phase at work; its programs may be those of an equal phase.

  Args:
    compile_programs: gives the programs of a plan.
    plan: of the search.
    programs: of the first phase; they hold those of all others.
    number: of the phase.
    facts: the decisions at its beginning.
  """
  known, key = programs.others, recipe(plan, number, facts)
  if key not in known:
    own = plan_of(plan, number, facts)
    # Of two seeds that begin the phase at the same time, one gives its programs to both.
    known.setdefault(key, (own.objects, compile_programs(own)))
  objects, made = known[key]
  phase = plan.phases[number]
  own = plan._replace(config=phase.config, feeds=plan.phase_feeds[number], objects=objects)
  return Stage(number, own, made, facts)


def masks_of(space: SearchSpace, control: Any) -> _Masks:
  """Returns the allowed operations of both cell types, all of them where nothing is forbidden.

  Args:
    space: the search space.
    control: see `SearchState`.
  """
  shape = (len(space.graph.edges), space.num_operations)
  decided = dict(control).get('allowed', {})
  found = {}
  for c in space.cell_types:
    mask = space.allowed_on(c, decided.get(c))
    found[c] = np.ones(shape, bool) if mask is None else np.asarray(mask)
  return found


def lines(plan: Plan) -> list[str]:
  """Returns a line for each phase of a planned search, for a person.

  Args:
    plan: of the search.
  """
  found = []
  for phase, feeds in zip(plan.phases, plan.phase_feeds):
    steps_per_epoch, keep = feeds.train.steps_per_epoch, phase.keep
    words = [f'{phase.epochs} epochs of {steps_per_epoch} steps']
    if keep is not None:
      words.append('one operation of each group' if keep == phases.GROUPS else f'{keep} operations')
    if phase.new:
      words.append(f'new {", ".join(name for name in phases.NEW if name in phase.new)}')
    found.append(f'phase {phase.number + 1}   {"; ".join(words)}')
  return found


def describe(at: Stage) -> str:
  """Returns a line about a phase, for a person.

  Args:
    at: the phase.
  """
  plan, net = at.plan, at.plan.objects.net
  phase, masks = plan.phases[at.number], masks_of(net.space, ())
  operations = np.unique(np.concatenate([mask.sum(1) for mask in masks.values()]))
  some = f'{operations[0]}' if len(operations) == 1 else f'{operations[0]}-{operations[-1]}'
  return (
    f'phase {at.number + 1} of {len(plan.phases)}: {phase.epochs} epochs, {net.num_layers} cells, '
    f'{some} operations on an edge'
  )
