"""Monitors: what they decide, how they stop a search, and how their decisions survive a kill."""

import re

import helpers
import numpy as np
import phase_runs
import pytest

from experiments.reliability import methods
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.learning import monitors, pruning
from stretchnas_jax.learning.monitors import Monitor
from stretchnas_jax.learning.state import Arch
from stretchnas_jax.runs import json_files

SPACE = helpers.POOL_SPACE
NOBODY = Arch({}, {})


def cell(skips):
  """Returns a genotype whose normal cell has so many skip connections."""
  edges = [('skip_connect', 0, 2)] * skips + [('max_pool_3x3', 1, 2)]
  return Genotype(edges, (2,), [('max_pool_3x3', 1, 2)], (2,))


def test_many_skip_connections_stop_a_search_after_some_epochs():
  monitor = monitors.skips(2, min_epochs=3)
  first = monitors.first_control([monitor], SPACE)
  stops = lambda epoch, found: monitors.has_stopped(
    monitors.decide([monitor], NOBODY, first, {'epoch': epoch}, cell(found))
  )
  assert [stops(epoch, 2) for epoch in (1, 2, 3, 4)] == [False, False, True, True]
  assert not stops(9, 1) and stops(9, 3)


def test_a_ranking_without_a_change_stops_a_search():
  """Only the operations with weights count, and only their order."""
  strengths = iter(
    [
      [0.1, 0.5, 0.4],
      [0.9, 0.5, 0.4],
      [0.2, 0.3, 0.1],
      [0.2, 0.1, 0.3],
      [0.3, 0.1, 0.2],
      [0.0, 1, 2],
    ]
  )
  strength = lambda arch, step, control: {'normal': np.array([next(strengths)])}
  monitor = monitors.same_ranking(2, strength, parametric=(1, 2))
  control, stopped = monitors.first_control([monitor], SPACE), []
  for epoch in range(1, 7):
    line = {'epoch': epoch, 'step': epoch}
    control = monitors.decide([monitor], NOBODY, {**control, 'stop': False}, line, cell(0))
    stopped.append(monitors.has_stopped(control))
  assert stopped == [False, False, True, False, False, True]
  assert int(control['unchanged_epochs']) == 2


def test_the_monitor_of_the_documentation_stops_a_search():
  text = (helpers.ROOT / 'docs' / 'methods.md').read_text('utf-8')
  (block,) = (
    one for one in re.findall(r'```python\n(.*?)```', text, re.DOTALL) if 'Monitor(' in one
  )
  found = {}
  exec(compile(block, 'methods.md', 'exec'), found)
  given = found['get_parts'](None)['monitors']
  control, cell = monitors.first_control(given, helpers.POOL_SPACE), helpers.TINY_CELL
  for accuracy, stops in ((0.5, False), (0.95, True)):
    control = monitors.decide(given, Arch({}, {}), control, {'val_accuracy': accuracy}, cell)
    assert monitors.has_stopped(control) == stops


def test_a_stop_of_one_monitor_is_not_taken_back_by_the_next():
  calm = Monitor(lambda space: {'stop': np.bool_(False)}, lambda *args: {'stop': np.bool_(False)})
  both = [monitors.skips(1), calm]
  first = monitors.first_control(both, SPACE)
  assert monitors.has_stopped(monitors.decide(both, NOBODY, first, {'epoch': 1}, cell(1)))


def test_the_weakest_gates_fall_and_the_weight_of_the_cost_grows():
  """The threshold and the sequence of weights by hand: two operations may fall below 0.05."""
  rule = pruning.Pruning(count=2, below=0.05, always=0.01, step=1e-5)
  gates = {
    'normal': np.array([[0.5, 0.04, 0.03], [0.009, 0.02, 0.3]]),
    'reduce': np.array([[0.008, 0.06, 0.045], [0.5, 0.5, 0.5]]),
  }
  allowed = {c: np.ones((2, 3), bool) for c in gates}
  allowed['reduce'][1, 0] = False
  masks, fell = pruning.pruned(rule, gates, allowed)
  # Two gates below 0.01 fall, and with them the quota of the weakest is full.
  assert fell == 2
  assert np.argwhere(~masks['normal']).tolist() == [[1, 0]]
  assert np.argwhere(~masks['reduce']).tolist() == [[0, 0], [1, 0]]
  masks, fell = pruning.pruned(rule, gates, masks)
  assert fell == 2 and np.argwhere(~masks['normal']).tolist() == [[0, 2], [1, 0], [1, 1]]
  weights, weight, step = [], 0.0, rule.step
  for fell in (0, 1, 2, 0, 5, 1):
    weight, step = pruning.next_weight(rule, fell, weight, step)
    weights.append(round(weight * 1e5))
  assert weights == [1, 3, 3, 4, 4, 5]


def test_the_last_operation_of_a_cell_never_falls():
  rule = pruning.Pruning(count=9, below=1.0, always=1.0)
  gates = {'normal': np.array([[0.1, 0.2], [0.3, 0.0]])}
  masks, fell = pruning.pruned(rule, gates, {'normal': np.ones((2, 2), bool)})
  assert fell == 3 and np.argwhere(masks['normal']).tolist() == [[1, 0]]
  careful = rule._replace(may_empty=False)
  masks, fell = pruning.pruned(careful, gates, {'normal': np.ones((2, 2), bool)})
  assert fell == 2 and masks['normal'].sum(1).tolist() == [1, 1]


@pytest.mark.parametrize(
  'after, words',
  [
    ({'x': np.float32(1), 'y': np.float32(2)}, "adds 'y'; its init must return that entry too"),
    ({'x': np.int32(1)}, r'returns x as int32\[\]; it must stay float32\[\]'),
    ({'x': np.zeros(2, np.float32)}, r'returns x as float32\[2\]'),
    (3, 'returns a int; it must be a dict'),
  ],
)
def test_a_control_keeps_its_entries(unchecked, after, words):
  monitor = Monitor(lambda space: {'x': np.float32(0)}, lambda *args: after)
  with pytest.raises(ValueError, match=words):
    monitors.decide([monitor], NOBODY, {'x': np.float32(0)}, {}, cell(0))


def falling(arch, control, line, genotype):
  """Forbids the skip connection of one more edge after each epoch, and stops after three."""
  mask = control['allowed']['normal'].copy()
  mask[line['epoch'] - 1, 1] = False
  allowed = {**control['allowed'], 'normal': mask}
  return {**control, 'allowed': allowed, 'stop': np.bool_(line['epoch'] == 3)}


def test_decisions_of_own_monitors_survive_a_kill_and_stop_a_search(tmp_path):
  ones = {c: np.ones(helpers.POOL_SHAPE, bool) for c in ('normal', 'reduce')}
  own = Monitor(lambda space: {'allowed': ones, 'stop': np.bool_(False)}, falling)
  runs = phase_runs.Runs({'space': SPACE, 'monitors': (own,)})
  config = helpers.tiny_search(**{'search.epochs': 5})
  result = runs.search(config, tmp_path / 'whole')
  assert result['epochs'] == 3
  for line in json_files.read_lines(tmp_path / 'whole' / 'genotypes.jsonl'):
    edges = SPACE.graph.edges[: line['epoch']]
    assert not [
      e for e in line['genotype']['normal'] if e[0] == 'skip_connect' and tuple(e[1:]) in edges
    ]
  last = json_files.read_lines(tmp_path / 'whole' / 'genotypes.jsonl')[-1]['genotype']
  assert result['genotype'] == last
  for epoch in (1, 2):
    path = tmp_path / f'stopped_{epoch}'
    runs.search(config, path, on_epoch=lambda line, state, at=epoch: line['epoch'] == at)
    assert runs.search(config, path) == result | {
      'seconds': json_files.read_object(path / 'result.json')['seconds']
    }
    runs.assert_same_ends(tmp_path / 'whole', path)
  per_epoch = runs.leaves(tmp_path / 'whole')[0] // 3
  methods.cut_back(tmp_path / 'stopped_2', 3 * per_epoch)  # before the result was written
  assert runs.search(config, tmp_path / 'stopped_2')['epochs'] == 3
  runs.assert_same_ends(tmp_path / 'whole', tmp_path / 'stopped_2')
