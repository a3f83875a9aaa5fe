"""The monitors that a config names, and the numbers that they and a person look at."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from stretchnas_jax.cells import space, topology
from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.learning import bilevel, monitors, pruning
from stretchnas_jax.learning.monitors import Monitor
from stretchnas_jax.learning.state import AVERAGES_START, PHASE_START, Arch
from stretchnas_jax.networks.search_network import SearchNetwork
from stretchnas_jax.runs import budgets
from stretchnas_jax.runs.build import SearchObjects
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.phases import Phase


class PhaseObjects(NamedTuple):
  """The objects of a phase of a search.

  Attributes:
    net: the supernet.
    table: the topology table of both cell types.
    search: the search as pure functions.
    monitors: what is decided at the end of an epoch, see `learning.monitors`.
    control: of a new search, see `SearchState`; empty where nothing decides.
    expected_costs: see `budgets`; empty where no cost matters.
  """

  net: SearchNetwork
  table: topology.TopologyTable
  search: bilevel.Search
  monitors: tuple[Monitor, ...]
  control: Any
  expected_costs: Mapping[str, budgets.Expected]


def with_monitors(
  objects: SearchObjects,
  phase: Phase,
  parts: Parts,
  image_shape: tuple[int, ...],
  steps_per_epoch: int,
) -> PhaseObjects:
  """Returns the objects of a search with its monitors, and the control that it begins with.

  Monitors of the config decide nothing in a warm-up: alpha and beta cannot answer.

  Args:
    objects: of the phase.
    phase: of the search.
    parts: the researcher's own objects; their monitors decide after those of the config.
    image_shape: `(H, W, C)`.
    steps_per_epoch: of the phase.
  """
  rest = phase.config.search.warmup_epochs * steps_per_epoch
  of_config = [monitors.after_rest(one, rest) for one in _of_config(objects, phase.config)]
  found = (*of_config, *parts.monitors)
  control = monitors.first_control(found, objects.net.space)
  if phase.several:
    control |= {PHASE_START: np.int32(0), AVERAGES_START: np.int32(0)}
  costs = budgets.expected_costs(phase.config, objects.net, objects.table, image_shape)
  return PhaseObjects(*objects, found, control or (), costs)


def costs_of(
  objects: PhaseObjects,
  config: ConfigDict,
  image_shape: tuple[int, ...],
  mixture: tuple[Any, Any],
  cell: AnyGenotype,
) -> dict[str, float]:
  """Returns the expected and the decoded costs that matter, for the line of an epoch.

  Args:
    objects: of the phase.
    config: of the phase.
    image_shape: `(H, W, C)`.
    mixture: operation weights and edge scores of an evaluation.
    cell: the derived cell.
  """
  if not objects.expected_costs:
    return {}
  found = {f'expected_{c}': float(of(*mixture)) for c, of in objects.expected_costs.items()}
  return found | budgets.decoded_costs(config, objects.net, image_shape, cell)


def mean_strength(search: bilevel.Search) -> monitors.Strength:
  """Returns the function to the strengths `[E, O]`, the mean over layers where these differ.

  Args:
    search: gives the strengths.
  """

  def strength(arch: Arch, step: int, control: Any) -> dict[str, np.ndarray]:
    found = search.strength(arch, step, control)
    return {c: values.mean(0) if values.ndim == 3 else values for c, values in found.items()}

  return strength


def _of_config(objects: SearchObjects, config: ConfigDict) -> list[Monitor]:
  """Returns the monitors that the fields `monitor` and `budget` ask for."""
  fields, names = config.monitor, objects.net.space.primitives
  strength, found = mean_strength(objects.search), []
  if fields.skips:
    found.append(monitors.skips(fields.skips, fields.min_epochs))
  parametric = [o for o, name in enumerate(names) if name not in space.WITHOUT_WEIGHTS]
  if fields.same_ranking and parametric:
    found.append(monitors.same_ranking(fields.same_ranking, strength, parametric))
  if fields.prune:
    rule = pruning.Pruning(
      fields.prune, fields.prune_below, fields.prune_always, fields.cost_step, fields.cost_floor,
      may_empty=config.relaxation.kind == 'sigmoid',
    )  # fmt: skip
    found.append(monitors.prune(rule, strength, objects.net.space, config.penalty.cost_of))
  for cost in budgets.watched(config):
    if target := config.budget[cost]:
      found.append(monitors.budget(target, config.budget.gain, cost, config.budget.most))
  return found
