"""Monitors: what they decide, how they stop a search, and how their decisions survive a kill."""

import re

import helpers
import jax
import numpy as np
import phase_runs
import pytest

from experiments.reliability import methods
from stretchnas_jax.cells import decoding, graph, space, topology
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.learning import monitors, pruning
from stretchnas_jax.learning.monitors import Monitor
from stretchnas_jax.learning.state import Arch, SearchState
from stretchnas_jax.runs import finite, json_files, search_task, steps

SPACE = helpers.POOL_SPACE
NOBODY = Arch({}, {})
EVERY = np.ones(2, bool)  # two edges, both from an input of the cell
BARE = dict.fromkeys(SearchState._fields, ())


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


WATCHED = {
  'skips': {'monitor.skips': 1},
  'ranking': {'monitor.same_ranking': 2},
  'budget': {'budget.params': 500.0},
  'prune': {'relaxation.kind': 'sigmoid', 'monitor.prune': 1, 'monitor.prune_below': 0.6},
}


@pytest.mark.parametrize('fields', WATCHED.values(), ids=WATCHED)
@pytest.mark.parametrize('start', [0, 7])
def test_monitors_of_a_config_decide_nothing_while_alpha_rests(fields, start):
  """In the first two epochs of a search, or of a phase that begins after some steps."""
  config = helpers.tiny_search(**{'search.epochs': 4, 'search.warmup_epochs': 2} | fields)
  plan = search_task.SEARCH.plan(config, None)
  objects, length = plan.objects, plan.settings.steps_per_epoch
  plan.close()
  arch = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(objects.search.init, jax.random.key(0)).arch,
  )
  first = {**objects.control, 'phase_start': np.int32(start)}
  seen = lambda epoch: {'step': start + epoch * length, 'epoch': epoch, 'expected_params': 600.0}
  decided = lambda control, epoch: monitors.decide(
    objects.monitors, arch, control, seen(epoch) | {'macs': 1}, helpers.TINY_CELL
  )
  same = lambda one, other: jax.tree.all(jax.tree.map(np.array_equal, one, other))
  for epoch in (1, 2):
    assert same(decided(first, epoch), first)
  assert not same(decided(first, 3), first)


def test_the_weakest_gates_fall_and_the_weight_of_the_cost_grows():
  """The threshold and the sequence of weights by hand: two operations may fall below 0.05."""
  rule = pruning.Pruning(count=2, below=0.05, always=0.01, step=1e-5)
  gates = {
    'normal': np.array([[0.5, 0.04, 0.03], [0.009, 0.02, 0.3]]),
    'reduce': np.array([[0.008, 0.06, 0.045], [0.5, 0.5, 0.5]]),
  }
  allowed = {c: np.ones((2, 3), bool) for c in gates}
  allowed['reduce'][1, 0] = False
  masks, fell = pruning.pruned(rule, gates, allowed, EVERY)
  # Two gates below 0.01 fall, and with them the quota of the weakest is full.
  assert fell == 2
  assert np.argwhere(~masks['normal']).tolist() == [[1, 0]]
  assert np.argwhere(~masks['reduce']).tolist() == [[0, 0], [1, 0]]
  masks, fell = pruning.pruned(rule, gates, masks, EVERY)
  assert fell == 2 and np.argwhere(~masks['normal']).tolist() == [[0, 2], [1, 0], [1, 1]]
  weights, weight, step = [], 0.0, rule.step
  for fell in (0, 1, 2, 0, 5, 1):
    weight, step = pruning.next_weight(rule, fell, weight, step)
    weights.append(round(weight * 1e5))
  assert weights == [1, 3, 3, 4, 4, 5]


def test_operations_that_a_space_never_had_do_not_fall():
  """They would fill the quota, so that the weight of the cost would not grow."""
  names, masks = ('none', 'skip_connect', 'max_pool_3x3'), np.ones((2, 3), bool)
  masks[0, 1] = masks[1, 2] = False
  some = space.SearchSpace(graph.CellGraph(1), names, dict.fromkeys(space.CELL_TYPES, masks))
  gates = lambda arch, step, control: {c: 0.5 * mask for c, mask in control['allowed'].items()}
  monitor = monitors.prune(pruning.Pruning(count=1, step=0.25), gates, some)
  first = monitors.first_control([monitor], some)
  assert first['allowed']['normal'].tolist() == [[False, False, True], [False, True, False]]
  after = monitors.decide([monitor], NOBODY, first, {'epoch': 1, 'step': 1, 'macs': 1}, cell(0))
  assert float(after['cost_multiplier']) == 0.25
  assert all((after['allowed'][c] == first['allowed'][c]).all() for c in space.CELL_TYPES)


def test_the_last_operation_of_a_cell_never_falls():
  rule = pruning.Pruning(count=9, below=1.0, always=1.0)
  gates = {'normal': np.array([[0.1, 0.2], [0.3, 0.0]])}
  masks, fell = pruning.pruned(rule, gates, {'normal': np.ones((2, 2), bool)}, EVERY)
  assert fell == 3 and np.argwhere(masks['normal']).tolist() == [[1, 0]]
  careful = rule._replace(may_empty=False)
  masks, fell = pruning.pruned(careful, gates, {'normal': np.ones((2, 2), bool)}, EVERY)
  assert fell == 2 and masks['normal'].sum(1).tolist() == [1, 1]


def test_the_strongest_operation_from_an_input_never_falls_and_a_cell_is_decoded():
  """The strongest gate is on the edge 2 -> 3, and the codes choose no edge with a gate."""
  rule = pruning.Pruning(count=99, below=1.0, always=1.0)
  gates = np.full(helpers.POOL_SHAPE, 0.1)
  gates[4, 1], gates[2, 0] = 0.9, 0.2
  from_input = np.array([src < 2 for src, _ in SPACE.graph.edges])
  every = {'normal': np.ones(helpers.POOL_SHAPE, bool)}
  masks, _ = pruning.pruned(rule, {'normal': gates}, every, from_input)
  assert masks['normal'][2, 0] and masks['normal'].sum() == 1
  table = topology.output_subsets(SPACE.graph)
  beta = np.where(table.codes[:, :, [2, 3]].any(2), 0.0, 1.0)  # no edge from an input to node 3
  edges, nodes, notes = decoding.derive_cell(SPACE, table, gates, beta, allowed=masks['normal'])
  assert edges == ((SPACE.primitives[0], 0, 3),) and nodes == (3,)
  assert 'the next best one was taken: ' in notes[0]


@pytest.mark.parametrize(
  'after, words',
  [
    ({'x': np.float32(1), 'y': np.float32(2)}, "adds 'y'; its init must return that entry too"),
    ({'n': np.float32(1)}, r'returns n=1.0 as float32\[\]; it must stay int32\[\]'),
    ({'n': 2**40}, r'returns n=1099511627776 as int64\[\]; it must stay int32\[\]'),
    ({'n': None}, r'returns n=None as object\[\]; it must stay int32\[\]'),
    ({'x': np.zeros(2, np.float32)}, r'returns x as float32\[2\]'),
    (3, 'returns a int; it must be a dict'),
  ],
)
def test_a_control_keeps_its_entries(unchecked, after, words):
  monitor = Monitor(lambda space: {}, lambda *args: after)
  first = {'x': np.float32(0), 'n': np.int32(0)}
  with pytest.raises(ValueError, match=words):
    monitors.decide([monitor], NOBODY, first, {}, cell(0))


@pytest.mark.parametrize('first', ['soon', None, 2**40])
def test_a_control_begins_with_numbers_that_a_device_holds(unchecked, first):
  own = Monitor(lambda space: {'n': first}, lambda *args: {})
  with pytest.raises(ValueError, match=f'begins with n={first}; it must be a number'):
    monitors.first_control([own], SPACE)


def patience(arch, control, line, genotype):
  """Counts epochs and keeps the best accuracy, in the plain numbers of Python and NumPy."""
  best = max(control['best'], np.float64(line['val_accuracy']))
  return {'count': int(control['count']) + 1, 'best': best, 'rate': 2, 'stop': best > 0.7}


def test_plain_numbers_of_a_monitor_take_the_types_that_a_device_gives_back():
  own = Monitor(lambda space: {'count': 0, 'best': -np.inf, 'rate': 0.5, 'stop': False}, patience)
  control = monitors.first_control([own], SPACE)
  on_device = jax.device_get(jax.jit(lambda x: x)(control))
  for accuracy in (0.5, 0.75, 0.25):
    control = monitors.decide([own], NOBODY, control, {'val_accuracy': accuracy}, cell(0))
    types = lambda tree: jax.tree.map(lambda x: (x.dtype, x.shape), tree)
    assert types(control) == types(on_device)
  assert jax.tree.map(float, control) == {'count': 3, 'best': 0.75, 'rate': 2, 'stop': True}


def test_a_save_takes_an_infinite_control_and_names_the_entry_of_one_that_is_nan():
  state = lambda best: {'arch': np.zeros(2), 'control': {'best': np.float32(best)}}
  position = lambda best: steps.Position(SearchState(**BARE | state(best)), {})
  finite.check_tree(position(-np.inf), '8')
  with pytest.raises(
    FloatingPointError, match=r"control\['best'\] is nan after .* monitor"
  ) as seen:
    finite.check_tree(position(np.nan), '8')
  assert 'learning_rate' not in str(seen.value)


def falling(arch, control, line, genotype):
  """Forbids the skip connection of one more edge after each epoch, and stops after three."""
  mask = control['allowed']['normal'].copy()
  mask[line['epoch'] - 1, 1] = False
  allowed = {**control['allowed'], 'normal': mask}
  best, count = max(control['best'], line['val_accuracy']), int(control['count']) + 1
  return {'allowed': allowed, 'stop': count == 3, 'count': count, 'best': best}


def test_decisions_of_own_monitors_survive_a_kill_and_stop_a_search(tmp_path):
  ones = {c: np.ones(helpers.POOL_SHAPE, bool) for c in ('normal', 'reduce')}
  first = {'allowed': ones, 'stop': False, 'count': 0, 'best': -np.inf}
  own = Monitor(lambda space: first, falling)
  runs = phase_runs.Runs({'space': SPACE, 'monitors': (own,)})
  config = helpers.tiny_search(**{'search.epochs': 5})
  result = runs.search(config, tmp_path / 'whole')
  assert result['epochs'] == 3
  for line in json_files.read_lines(tmp_path / 'whole' / 'genotypes.jsonl'):
    edges = SPACE.graph.edges[: line['epoch']]
    assert not [
      e for e in line['genotype']['normal'] if e[0] == 'skip_connect' and tuple(e[1:]) in edges
    ]
  for line in json_files.read_lines(tmp_path / 'whole' / 'scores.jsonl'):
    there = np.arange(len(SPACE.graph.edges)) >= line['epoch']  # of the same decision as the cell
    np.testing.assert_array_equal(np.array(line['op_weights']['normal'])[:, 1] != 0, there)
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
