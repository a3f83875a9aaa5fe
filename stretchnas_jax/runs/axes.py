"""The members of each axis of a search by name, made from the group of the axis in a config."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stretchnas_jax.cells import decodings, relaxation, relaxations, space, spaces, topology
from stretchnas_jax.cells.decoding import Decoding
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.learning import bilevel, penalties, timetable
from stretchnas_jax.machine import devices
from stretchnas_jax.networks import operation_costs
from stretchnas_jax.networks.search_network import SearchNetwork

SPACES = {
  'darts': lambda c: space.darts_space(c.num_intermediate, with_none=c.with_none),
  's1': lambda c: spaces.s1(),
  's2': lambda c: spaces.s2(c.num_intermediate),
  's3': lambda c: spaces.s3(c.num_intermediate),
  'nas_bench_201': lambda c: space.nas_bench_201(with_none=c.with_none),
  's4': lambda c: spaces.s4(c.num_intermediate),
}

TOPOLOGIES = {
  'none': lambda graph, c: topology.none(graph, by=c.by or 'target', k=c.k),
  'input_pairs': lambda graph, c: topology.input_pairs(graph),
  'output_pairs': lambda graph, c: topology.output_pairs(graph),
  'output_subsets': lambda graph, c: topology.output_subsets(graph, c.include_empty, c.unit_scale),
  'k_subsets': lambda graph, c: topology.k_subsets(graph, c.k, by=c.by or 'source'),
}

_RELAXATIONS = {
  'softmax': lambda c, init, names: relaxation.softmax(c.temperature, init),
  'sigmoid': lambda c, init, names: relaxations.sigmoid(init),
  'gumbel': lambda c, init, names: relaxations.gumbel(c.temperature, init),
  'gdas': lambda c, init, names: relaxations.gdas(c.temperature, init),
  'straight_through': lambda c, init, names: relaxations.straight_through(
    c.temperature, c.noise, init
  ),
  'dirichlet': lambda c, init, names: relaxations.dirichlet(init),
  'groups': lambda c, init, names: relaxations.groups(
    groups_of(names), c.temperature, c.balance, init
  ),
}

RULES = {
  'first_order': lambda c: bilevel.first_order(),
  'second_order': lambda c: bilevel.second_order(),
  'exact_second_order': lambda c: bilevel.exact_second_order(),
  'mixed': lambda c: bilevel.mixed(c.val_weight),
  'one_level': lambda c: bilevel.one_level(),
}

_DECODINGS = {
  'auto': lambda c: None,
  'strongest_edges': lambda c: decodings.strongest_edges(c.k),
  'pairs': lambda c: decodings.pairs(c.k),
  'all_edges': lambda c: decodings.all_edges(),
  'threshold': lambda c: decodings.threshold(c.threshold, c.k),
  'capped': lambda c: {
    'normal': decodings.capped(c.max_skips, c.k),
    'reduce': decodings.strongest_edges(c.k),
  },
}

CHOICES = {
  'space.name': tuple(SPACES),
  'topology.kind': tuple(TOPOLOGIES),
  'topology.by': topology.SIDES,
  'relaxation.kind': tuple(_RELAXATIONS),
  'relaxation.annealing': tuple(timetable.ANNEALINGS),
  'penalty.logsumexp_growth': tuple(timetable.ANNEALINGS),
  'model.auxiliary_annealing': tuple(timetable.ANNEALINGS),
  'penalty.cost_of': operation_costs.COSTS,
  'rule.kind': tuple(RULES),
  'search.passes': ('auto', 'in_turn', 'together'),
  'decoding.kind': tuple(_DECODINGS),
}
"""The allowed names of the fields of these axes."""


def relaxation_of(config: ConfigDict, of: space.SearchSpace) -> relaxation.Relaxation:
  """Builds the relaxation of a config.

  Args:
    config: a checked search config.
    of: the search space.
  """
  fields = config.relaxation
  init = relaxation.normal_init(fields.init_scale, fields.init_mean)
  found = _RELAXATIONS[fields.kind](fields, init, of.primitives)
  return found._replace(per_layer=fields.per_layer)


def rule_of(config: ConfigDict) -> bilevel.Rule:
  """Builds the update rule of a config."""
  return RULES[config.rule.kind](config.rule)._replace(weights_first=config.rule.weights_first)


def passes_together(
  config: ConfigDict,
  own: bilevel.Rule | Callable[..., Any] | None,
  net: SearchNetwork,
  platform: str | None,
) -> bool:
  """Returns whether the passes of a step for alpha and beta are one batch of the network.

  Args:
    config: a checked search config.
    own: the update rule of the researcher, which takes the place of the config's.
    net: the search network, with the form for its platform.
    platform: 'cpu', 'gpu' or 'tpu'; None for that on which JAX computes by default.
  """
  if why_in_turn(config, own, net) is not None:
    return False
  # On a TPU a step would move a fifth less, and take half as much memory again.
  on_gpu = (platform or devices.platform()) == 'gpu'
  return config.search.passes == 'together' or (config.search.passes == 'auto' and on_gpu)


def why_in_turn(
  config: ConfigDict, own: bilevel.Rule | Callable[..., Any] | None, net: SearchNetwork
) -> str | None:
  """Returns the reason why passes cannot be one batch, in words; None where they can.

  Args:
    config: a checked search config.
    own: the update rule of the researcher, or None.
    net: the search network, with the form for its platform.
  """
  if config.search.unroll:
    return 'search.unroll=True'
  if not bilevel.as_rule(own or rule_of(config)).may_run_together:
    return 'a rule of second order, of one level, or of your own without passes'
  if net.form == 'planes':
    return 'the form planes of the network, which is for CPUs'
  if net.sparse:
    return 'a relaxation of which only the sampled operations are computed'
  return None


def decoding_of(config: ConfigDict) -> Decoding | dict[str, Decoding] | None:
  """Builds the decoding of a config."""
  return _DECODINGS[config.decoding.kind](config.decoding)


def penalties_of(
  config: ConfigDict,
  net: SearchNetwork,
  table: topology.TopologyTable,
  image_shape: tuple[int, ...],
) -> tuple[penalties.Penalty, ...]:
  """Builds the penalties of a config beside r(beta).

  Args:
    config: a checked search config.
    net: the search network.
    table: the topology table.
    image_shape: `(H, W, C)`.
  """
  fields, found = config.penalty, []
  if fields.zero_one:
    found.append(penalties.zero_one(fields.zero_one))
  if fields.logsumexp:
    found.append(penalties.logsumexp(fields.logsumexp))
  if fields.kl:
    found.append(penalties.kl(fields.kl))
  if fields.cost:
    expected = expected_share(config, net, table, image_shape)
    found.append(penalties.expected_cost(fields.cost, expected))
  if fields.cost_logarithm:
    costs = [operation_costs.operation_costs(net, image_shape, k) for k in operation_costs.COSTS]
    expected = operation_costs.mean_logarithms(*costs)
    found.append(penalties.expected_cost(fields.cost_logarithm, expected))
  return tuple(found)


def expected_share(
  config: ConfigDict,
  net: SearchNetwork,
  table: topology.TopologyTable,
  image_shape: tuple[int, ...],
) -> Callable[..., Any]:
  """Returns the expected cost of a mixture as a multiple of that without any preference.

  Args:
    config: a checked search config.
    net: the search network.
    table: the topology table.
    image_shape: `(H, W, C)`.
  """
  found = operation_costs.operation_costs(net, image_shape, config.penalty.cost_of)
  chances = edge_probabilities(config, net, table)
  uniform = topology.edge_scores(np.zeros(table.mask.shape, np.float32), table)
  return operation_costs.expected_share(found, chances, uniform)


def edge_probabilities(
  config: ConfigDict, net: SearchNetwork, table: topology.TopologyTable
) -> Callable[..., Any]:
  """Returns the function from merged scores to the probability that an edge is in the cell.

  Args:
    config: a checked search config.
    net: the search network.
    table: the topology table.
  """
  k, by = None, 'target'
  if config.decoding.kind == 'auto':
    if not table.has_rows:
      k, by = table.k, table.by
  elif config.decoding.kind != 'all_edges':
    k = config.decoding.k
  return operation_costs.edge_probabilities(table, net.space.graph, k, by)


def knobs_of(
  config: ConfigDict, own: Callable | None, num_steps: int, steps_per_epoch: int
) -> Callable | None:
  """Builds the timetable of a config: numbers that change with the epoch.

  Args:
    config: a checked search config.
    own: the knobs of the researcher, which stand beside these or take their places.
    num_steps: of the whole search, or of its phase.
    steps_per_epoch: the steps of an epoch.

  Returns:
    The function of the step; None where nothing changes.
  """
  epochs, found = max(num_steps // steps_per_epoch, 1), {}
  fields = config.relaxation
  if fields.annealing != 'constant':
    annealed = timetable.ANNEALINGS[fields.annealing]
    found['temperature'] = annealed(fields.temperature, fields.final_temperature, epochs)
  if config.penalty.logsumexp and config.penalty.logsumexp_growth != 'constant':
    growth = timetable.ANNEALINGS[config.penalty.logsumexp_growth]
    found['logsumexp_factor'] = growth(0.0, 1.0, epochs)
  if config.model.auxiliary_skip and config.model.auxiliary_annealing != 'constant':
    annealed = timetable.ANNEALINGS[config.model.auxiliary_annealing]
    found['auxiliary_skip'] = annealed(1.0, 0.0, epochs)
  if config.model.edge_drop:
    found['edge_drop'] = timetable.constant(config.model.edge_drop, 0.0, epochs)
  if config.topology.annealed:
    annealed = timetable.ANNEALINGS[fields.annealing]
    found['topology_temperature'] = annealed(fields.temperature, fields.final_temperature, epochs)
  if rate := config.model.skip_dropout:
    found['skip_dropout'] = timetable.skip_dropout(rate, config.search.warmup_epochs, epochs)
  of_config = timetable.knobs(
    found, steps_per_epoch, config.search.warmup_epochs, config.search.arch_every
  )
  if own is None or of_config is None:
    return own or of_config
  return lambda step: {**of_config(step), **own(step)}


def groups_of(names: Sequence[str]) -> list[list[int]]:
  """Returns the places of the operations without weights, and of all others: DOTS' groups."""
  free = [o for o, name in enumerate(names) if name in space.WITHOUT_WEIGHTS]
  return [free, [o for o in range(len(names)) if o not in free]]
