"""Choices that mean nothing together are refused in one sentence; all others build."""

import itertools

import pytest
from helpers import POOL_SPACE, tiny_search

from stretchnas_jax.cells import relaxation
from stretchnas_jax.learning import bilevel
from stretchnas_jax.runs import axes, combinations, search_task
from stretchnas_jax.runs.parts import Parts

ONE_LEVEL = {'rule.kind': 'one_level'}


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'relaxation.kind': 'gdas', 'rule.kind': 'second_order'}, 'no second derivative'),
    (
      {'relaxation.kind': 'straight_through', 'rule.kind': 'exact_second_order'},
      'exact_second_order with relaxation.kind=straight_through',
    ),
    ({'rule.kind': 'second_order', 'model.dtype': 'bfloat16'}, 'less than bfloat16 can tell'),
    ({'relaxation.kind': 'sigmoid', 'relaxation.temperature': 2.0}, 'divided by a temperature'),
    ({'relaxation.kind': 'dirichlet', 'relaxation.annealing': 'linear'}, 'kind=dirichlet'),
    ({'relaxation.kind': 'sigmoid', 'penalty.logsumexp': 1.0}, 'gates do not compete'),
    ({'relaxation.kind': 'groups', 'penalty.logsumexp': 1.0}, 'one softmax'),
    (
      {'penalty.logsumexp': 1.0, 'penalty.logsumexp_growth': 'exponential'},
      'no factor leads away',
    ),
    (
      {'model.auxiliary_skip': True, 'model.auxiliary_annealing': 'exponential'},
      'no factor reaches',
    ),
    ({'penalty.kl': 1.0}, 'penalty.kl with relaxation.kind=softmax'),
    ({'relaxation.kind': 'groups', 'topology.kind': 'none'}, 'rank no edges'),
    ({'data.split': 'one_way'}, 'needs validation images'),
    ({'rule.weights_first': True, **ONE_LEVEL}, 'at the same time'),
    ({'decoding.kind': 'all_edges'}, 'whatever beta has learned'),
    ({'space.name': 's1', 'space.num_intermediate': 5}, '14 edges of 4 nodes'),
    ({'search.warmup_epochs': 2}, 'would never move'),
    ({'model.auxiliary_skip': True, 'space.name': 's4'}, 'this space has none'),
    ({'relaxation.per_layer': True, 'model.num_layers': 2}, 'a normal cell would have no logits'),
  ],
)
def test_a_combination_without_a_meaning_is_refused_before_anything_begins(fields, words):
  config = tiny_search(**{'rule.kind': 'first_order', **fields})
  with pytest.raises(ValueError, match=f'^config has .*{words}') as caught:
    search_task.plan_search(config)
  assert '\n' not in str(caught.value) and len(str(caught.value)) < 300


def test_an_own_object_on_an_axis_is_never_refused():
  config = tiny_search(**{'relaxation.kind': 'gdas', 'rule.kind': 'second_order'})
  combinations.check(config, Parts(relaxation=relaxation.softmax()))
  combinations.check(config, Parts(rule=bilevel.first_order()))


@pytest.mark.parametrize('count', [1, 2])
def test_an_own_rule_of_a_phase_is_never_refused(count):
  phase = {'epochs': 1, 'parts': {'rule': bilevel.first_order()}}
  config = tiny_search(**{'relaxation.kind': 'gdas', 'rule.kind': 'second_order'})
  plan = search_task.plan_search(config, Parts(space=POOL_SPACE, phases=(phase,) * count))
  assert len(plan.phases) == count


def test_passes_together_are_refused_with_an_own_rule_of_a_phase():
  phase = {'epochs': 1, 'parts': {'rule': bilevel.second_order()}}
  config = tiny_search(**{'search.passes': 'together', 'rule.kind': 'first_order'})
  with pytest.raises(ValueError, match='search.passes is together; it does not go with a rule of'):
    search_task.plan_search(config, Parts(space=POOL_SPACE, phases=(phase, phase)))


KINDS = [axes.CHOICES[f'{axis}.kind'] for axis in ('relaxation', 'rule', 'topology', 'decoding')]


def test_all_other_combinations_are_allowed():
  """Of four axes at once, exactly the combinations above are refused."""
  refused = set()
  for names in itertools.product(*KINDS):
    relaxed, rule, topology, decoding = names
    config = tiny_search()
    config.relaxation.kind, config.rule.kind = relaxed, rule
    config.topology.kind, config.decoding.kind = topology, decoding
    try:
      combinations.check(config, Parts())
    except ValueError:
      refused.add(names)
  expected = {
    names
    for names in itertools.product(*KINDS)
    if (names[0] in ('gdas', 'straight_through') and 'second_order' in names[1])
    or (names[0] == 'groups' and names[2] == 'none')
    or (names[3] == 'all_edges' and names[2] != 'none')
  }
  assert refused == expected and len(expected) < 0.5 * len(list(itertools.product(*KINDS)))
