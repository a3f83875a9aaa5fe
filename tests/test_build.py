"""Every topology and every rule that a config can name becomes a search that derives cells."""

import numpy as np
import pytest

from stretchnas_jax import config as config_lib
from stretchnas_jax.learning import bilevel
from stretchnas_jax.learning.state import Arch, SearchState
from stretchnas_jax.runs import axes, build

TOPOLOGIES = [
  ('none', 2, None), ('none', 2, 'target'), ('none', 2, 'source'), ('input_pairs', 2, None),
  ('output_pairs', 2, None), ('output_subsets', 2, None), ('k_subsets', 2, None),
  *[('k_subsets', k, by) for k in (1, 2, 3, 4) for by in ('target', 'source')],
]  # fmt: skip


def parts(**fields):
  config = config_lib.search_config()
  config.update_from_flattened_dict(fields)
  config_lib.validate(config, config_lib.search_config(), build.CHOICES)
  return build.search_objects(config, num_classes=10, image_shape=(32, 32, 3), num_steps=10)


def degrees(edges, by):
  ends = [edge[2 if by == 'target' else 1] for edge in edges]
  return {node: ends.count(node) for node in ends}


@pytest.mark.parametrize('kind, k, by', TOPOLOGIES)
def test_every_topology_derives(kind, k, by):
  net, table, search = parts(**{'topology.kind': kind, 'topology.k': k, 'topology.by': by})
  rng, nodes = np.random.default_rng(0), net.space.graph.num_intermediate
  shapes = (len(net.space.graph.edges), net.space.num_operations), table.mask.shape
  defaults = {'none': 'target', 'input_pairs': 'target'}
  by = by or defaults.get(kind, 'source')
  assert table.by == by
  for _ in range(20):
    cells = [{cell: rng.normal(size=shape) for cell in ('normal', 'reduce')} for shape in shapes]
    state = SearchState(0, None, None, Arch(*cells), None, None, None)
    found = search.derive(state)
    assert search.decode(state.arch, 0)[0] == found
    for edges in (found.normal, found.reduce):
      degree = degrees(edges, by)
      if kind == 'output_subsets':
        assert max(degree.values()) <= nodes
      elif by == 'target':
        assert degree == {node: min(k, node) for node in range(2, nodes + 2)}
      else:
        assert degree[0] == degree[1] == k
        assert set(degree.values()) == {k}


def test_rules_of_configs():
  make = lambda kind: axes.RULES[kind](config_lib.search_config().rule)
  assert make('second_order').gradients.derivative.keywords == {'step_size': 0.01}
  assert make('exact_second_order') == bilevel.exact_second_order()
  assert set(axes.RULES) == {
    'first_order', 'second_order', 'exact_second_order', 'mixed', 'one_level'
  }  # fmt: skip
  for kind in axes.RULES:
    parts(**{'rule.kind': kind})


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'rule.kind': 'third_order'}, "config.rule.kind is 'third_order'; .* second_order"),
    ({'topology.by': 'both'}, "config.topology.by is 'both'; it must be one of source, target"),
    ({'topology.kind': 'k_subsets', 'topology.k': 5}, 'k is 5; by source'),
    ({'topology.kind': 'k_subsets', 'topology.k': 6, 'topology.by': 'target'}, 'k is 6; by target'),
    (
      {'topology.kind': 'none', 'topology.by': 'source', 'space.num_intermediate': 1},
      'k is 2; by source, no node of this graph has more than 1 edges',
    ),
  ],
)
def test_what_cannot_be_built_is_named(fields, words):
  with pytest.raises(ValueError, match=words):
    parts(**fields)
