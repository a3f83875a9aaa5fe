"""A search under a budget: the expected cost of its cells is drawn to a target.

With g the logarithm of expected cost over target, the penalty is `weight g + gain g^2 / 2`. A
monitor adds `gain g` to the weight after each epoch: the method of multipliers (Hestenes 1969).
The expected cost of a mixture that has decided equals that of the derived cell, to the unit.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cells.relaxation import Knobs
from stretchnas_jax.cells.topology import TopologyTable
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.learning.penalties import Penalty
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.networks import operation_costs, sizes
from stretchnas_jax.networks.search_network import SearchNetwork
from stretchnas_jax.runs import axes

Expected = Callable[..., Float[Array, '']]
"""`expected(op_weights, edge_scores)`: the expected cost of a mixture."""


def watched(config: ConfigDict) -> tuple[str, ...]:
  """Returns the kinds of cost that matter in a search, of 'macs' and 'params'.

  Args:
    config: a checked search config.
  """
  found = {cost for cost in operation_costs.COSTS if config.budget[cost]}
  if config.penalty.cost or config.monitor.prune:
    found.add(config.penalty.cost_of)
  return tuple(sorted(found))


def expected_costs(
  config: ConfigDict,
  net: SearchNetwork,
  table: TopologyTable,
  image_shape: tuple[int, ...],
) -> dict[str, Expected]:
  """Returns the expected cost of each kind that matters.

  Args:
    config: a checked search config.
    net: the search network.
    table: the topology table.
    image_shape: `(H, W, C)`.
  """
  chances = axes.edge_probabilities(config, net, table)
  return {
    cost: _expected(_costs(config, net, image_shape, cost), chances) for cost in watched(config)
  }


def check(
  config: ConfigDict, net: SearchNetwork, image_shape: tuple[int, ...], gates: bool
) -> None:
  """Raises ValueError for a budget above the cost of the largest cells.

  Operations that have fallen count too, so that no decision at a border of phases is refused.

  Args:
    config: a checked search config.
    net: the search network.
    image_shape: `(H, W, C)`.
    gates: whether an edge may have several operations, each with its whole weight.
  """
  for kind in operation_costs.COSTS:
    if target := config.budget[kind]:
      found = _costs(config, net, image_shape, kind)
      of_edge = np.sum if gates else np.max
      most = found.base + sum(of_edge(table, -1).sum() for table in found.tables.values())
      if target > most:
        raise ValueError(
          f'config.budget.{kind} is {target:g}; a network of num_layers {_layers(config)} and C '
          f'{_channels(config)} has at most {most:g}: give less, or set budget.channels and '
          'budget.num_layers to the network that you will train'
        )


def penalties_of(
  config: ConfigDict,
  net: SearchNetwork,
  table: TopologyTable,
  image_shape: tuple[int, ...],
) -> tuple[Penalty, ...]:
  """Returns a penalty for each budget of a config.

  Args:
    config: a checked search config.
    net: the search network.
    table: the topology table.
    image_shape: `(H, W, C)`.

  Raises:
    ValueError: a network without any operation costs more than the budget.
  """
  if not (config.budget.params or config.budget.macs):
    return ()
  expected = expected_costs(config, net, table, image_shape)
  cells, edges = net.space.cell_types, len(net.space.graph.edges)
  nothing = dict.fromkeys(cells, np.zeros((edges, 1)))
  scores = dict.fromkeys(cells, np.zeros(edges, np.float32))
  for cost, of in expected.items():
    target, least = config.budget[cost], float(of(nothing, scores))
    if target and target <= least:
      raise ValueError(
        f'config.budget.{cost} is {target:g}; a network of num_layers {_layers(config)} and C '
        f'{_channels(config)} has {least:g} without any operation: give more, or take fewer '
        'cells or channels'
      )
  return tuple(
    _penalty(_name_of_weight(cost), expected[cost], config.budget[cost], config.budget.gain)
    for cost in expected
    if config.budget[cost]
  )


def decoded_costs(
  config: ConfigDict, net: SearchNetwork, image_shape: tuple[int, ...], cell: AnyGenotype
) -> dict[str, int]:
  """Returns the costs of a derived cell, of the kinds that matter.

  Args:
    config: a checked search config.
    net: the search network.
    image_shape: `(H, W, C)`.
    cell: the derived cell.
  """
  found = sizes.measure(
    operation_costs.without_noise(cell),
    _channels(config),
    _layers(config),
    net.num_classes,
    net.stem,
    image_shape=tuple(image_shape),
    operations=net.operations,
  )
  return {cost: getattr(found, cost) for cost in watched(config)}


def _name_of_weight(cost: str) -> str:
  """Returns the name of a budget's weight among the knobs."""
  return f'{cost}_multiplier'


def _costs(
  config: ConfigDict, net: SearchNetwork, image_shape: tuple[int, ...], kind: str
) -> operation_costs.OperationCosts:
  """Returns the costs of operations in the network that the budget is for."""
  sized = net.clone(channels=_channels(config), num_layers=_layers(config))
  return operation_costs.operation_costs(sized, image_shape, kind)


def _channels(config: ConfigDict) -> int:
  return config.budget.channels or config.model.channels


def _layers(config: ConfigDict) -> int:
  return config.budget.num_layers or config.model.num_layers


def _expected(found: operation_costs.OperationCosts, chances: Callable[..., Any]) -> Expected:
  def expected(op_weights: Any, edge_scores: Any) -> Any:
    return found.expected(op_weights, {c: chances(scores) for c, scores in edge_scores.items()})

  return expected


def _penalty(weight: str, expected: Expected, target: float | int, gain: float | int) -> Penalty:
  def off_budget(arch: Arch, op_weights: Any, edge_scores: Any, knobs: Knobs) -> Any:
    del arch
    excess = jnp.log(expected(op_weights, edge_scores) / target)
    return knobs[weight] * excess + gain / 2 * excess**2

  return off_budget
