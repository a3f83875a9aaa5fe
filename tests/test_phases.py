"""Searches in phases: lengths, fields, what goes on, what is new, and stops at any place."""

import shutil

import helpers
import numpy as np
import phase_runs
import pytest
import small_checkpoints

from experiments.reliability import methods
from stretchnas_jax import run_search
from stretchnas_jax.learning import pruning
from stretchnas_jax.runs import axes, json_files, phases, search_task, trained

OWN = {'space': helpers.POOL_SPACE}
RUNS = phase_runs.Runs(OWN)
DEEPER = (
  {'epochs': 2},
  {'epochs': 1, 'model.num_layers': 2, 'keep': 1, 'new': ('weights', 'alpha', 'schedule')},
  {'epochs': 1, 'model.num_layers': 2, 'rule.kind': 'one_level', 'new': ('momentum', 'beta')},
)


def tiny(given, epochs=4, **fields):
  """Returns a tiny search with phases."""
  return helpers.tiny_search(**{'search.epochs': epochs, 'search.phases': given} | fields)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Returns the folder of a finished search of three phases."""
  path = tmp_path_factory.mktemp('whole') / 'run'
  config = tiny(DEEPER, **{'checkpoint.every_steps': 2, 'checkpoint.keep': 50})
  RUNS.search(config, path)
  return path


def test_lengths_are_in_proportion_and_every_phase_has_an_epoch():
  assert phases.scaled([25, 25, 25], 75) == [25, 25, 25]
  assert phases.scaled([30, 20, 20], 7) == [3, 2, 2]
  assert phases.scaled([48, 1, 1], 3) == [1, 1, 1]
  assert phases.scaled([1, 1, 48], 4) == [1, 1, 2]
  with pytest.raises(ValueError, match='search.epochs is 2; it must be at least 3'):
    phases.scaled([1, 1, 1], 2)


def test_a_curve_of_the_learning_rate_goes_on_until_a_phase_begins_it_again():
  given = ({'epochs': 2}, {'epochs': 3}, {'epochs': 4, 'new': ('schedule',)}, {'epochs': 1})
  found = phases.read(tiny(given, 10))
  assert [phase.schedule for phase in found] == [(5, 0), (5, 2), (5, 0), (5, 4)]
  assert [phase.config.search.epochs for phase in found] == [2, 3, 4, 1]


@pytest.mark.parametrize(
  'given, words',
  [
    ([{'epochs': 1, 'modl.num_layers': 2}], r"\[0\] has the field 'modl.num_layers'.*did you mean"),
    ([{'epochs': 1}, {'epochs': 1, 'kep': 2}], r"\[1\] has 'kep'; did you mean"),
    ([{'epochs': 0}], r'has epochs=0; it must be a whole number'),
    ([{'epochs': 1}, {'epochs': 1, 'new': 'alpha'}], "has new='alpha'; it must hold names of"),
    ([{'epochs': 1}, {'epochs': 1, 'seed': 1}], r"has 'seed'"),
    ([{'epochs': 1}, {'epochs': 1, 'search.batch_size': 8}], 'which is of the whole search'),
    ([{'epochs': 1}, {'epochs': 1, 'new': {'alpha'}}], 'has new=.*in a tuple'),
    ([{'epochs': 1}, {'epochs': 1, 'new': 3}], 'has new=3; it must hold names of'),
    ([{'epochs': 1, 'new': ('alpha',)}], 'is the first phase, where all is new'),
    ([{'epochs': 1}, {'epochs': 1, 'model.num_layers': 2}], "name 'weights' in `new`"),
    ([{'epochs': 1}, {'epochs': 1, 'model.num_layers': 'x'}], 'a field that does not fit'),
    ([{'epochs': 1}, {'epochs': 1, 'model.channels': 3}], r'phases\[1\].*must be even'),
  ],
)
def test_mistakes_in_phases_are_named_before_any_work(tmp_path, given, words):
  with pytest.raises(ValueError, match=words):
    run_search(tiny(given), tmp_path / 'run', parts=OWN)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'own, words',
  [
    ({'parts': {'penaltys': ()}}, r"phases\[1\]: parts has 'penaltys'; did you mean penalties"),
    ({'parts': {'penalties': print}}, r'phases\[1\]: parts has penalties of the type builtin_f'),
    ({'parts': {'data': ()}}, r"phases\[1\]: parts has 'data', which is of the whole search"),
    ({'parts': {'phases': ()}}, r"phases\[1\]: parts has 'phases', which is of the whole search"),
    ({'parts': print}, r'phases\[1\] has parts of the type builtin_function_or_method; it must be'),
    ({'begin': 3}, r'phases\[1\] has begin=3; it must be a function'),
  ],
)
def test_mistakes_in_the_own_objects_of_a_phase_are_named(tmp_path, own, words):
  given = {**OWN, 'phases': ({'epochs': 1}, {'epochs': 1, **own})}
  with pytest.raises(ValueError, match=words):
    run_search(tiny(()), tmp_path / 'run', parts=given)
  assert not (tmp_path / 'run').exists()


@pytest.mark.long
def test_two_equal_phases_are_one_phase_bit_for_bit(tmp_path):
  RUNS.search(tiny((), 2), tmp_path / 'one')
  RUNS.search(tiny(({'epochs': 1}, {'epochs': 1}), 2), tmp_path / 'two')
  RUNS.assert_same_ends(tmp_path / 'one', tmp_path / 'two')
  one, two = (json_files.read_object(tmp_path / name / 'result.json') for name in ('one', 'two'))
  assert {**one, 'seconds': 0} == {**two, 'seconds': 0}


def test_phases_change_depth_operations_and_rule(whole):
  result = json_files.read_object(whole / 'result.json')
  lines = json_files.read_lines(whole / 'metrics.jsonl')
  assert result['epochs'] == 4 and [line['epoch'] for line in lines] == [1, 2, 3, 4]
  saved = trained.read_run(whole, parts=OWN)
  assert saved.objects.net.num_layers == 2
  allowed = saved.objects.net.space.allowed
  assert all((mask.sum(1) == 1).all() for mask in allowed.values())
  # The operations that stay are the strongest of the last cell of the first phase.
  arch_of = json_files.read_lines(whole / 'genotypes.jsonl')[1]['genotype']
  names = helpers.POOL_SPACE.primitives
  for op, src, dst in arch_of['normal']:
    edge = helpers.POOL_SPACE.graph.edges.index((src, dst))
    assert allowed['normal'][edge, names.index(op)]


def test_stops_inside_a_phase_and_at_borders_change_nothing(whole, tmp_path):
  for epoch in (1, 2, 3):
    stop = lambda line, state, at=epoch: line['epoch'] == at
    RUNS.search(tiny(DEEPER), tmp_path / 'run', on_epoch=stop)
    assert RUNS.leaves(tmp_path / 'run')[0] == epoch * RUNS.leaves(whole)[0] // 4
  RUNS.search(tiny(DEEPER), tmp_path / 'run')
  RUNS.assert_same_ends(whole, tmp_path / 'run')


def test_a_kill_between_checkpoints_of_a_phase_changes_nothing(whole, tmp_path):
  """A run that was killed has the checkpoint of a step inside the second phase as its newest."""
  shutil.copytree(whole, tmp_path / 'run')
  per_epoch = RUNS.leaves(whole)[0] // 4
  saved = [int(path.name) for path in (whole / 'checkpoints').iterdir() if path.name.isdigit()]
  inside = [step for step in saved if 2 * per_epoch < step < 3 * per_epoch]
  methods.cut_back(tmp_path / 'run', max(inside))
  RUNS.search(tiny(DEEPER), tmp_path / 'run')
  RUNS.assert_same_ends(whole, tmp_path / 'run')


@pytest.mark.parametrize('phase', [2, 3])
def test_a_damaged_checkpoint_is_passed_over_for_one_of_an_earlier_phase(whole, tmp_path, phase):
  run, per_epoch = tmp_path / 'run', RUNS.leaves(whole)[0] // 4
  shutil.copytree(whole, run)
  saved = sorted(int(path.name) for path in (whole / 'checkpoints').iterdir())
  newest = min(step for step in saved if step > phase * per_epoch)
  methods.cut_back(run, newest)
  file = small_checkpoints.data_file(run / 'checkpoints', newest)
  file.write_bytes(file.read_bytes()[:-9])
  before = saved[saved.index(newest) - 1]
  found, expected = trained.read_run(run, parts=OWN), trained.read_run(run, step=before, parts=OWN)
  assert found.step == before and found.phase == expected.phase
  assert found.objects.net == expected.objects.net


@pytest.mark.long
def test_equal_phases_share_their_programs(tmp_path, monkeypatch):
  made = []
  compile_step = search_task.steps.compile_step
  monkeypatch.setattr(
    search_task.steps, 'compile_step', lambda *args: made.append(compile_step(*args)) or made[-1]
  )
  again = {'epochs': 1, 'new': ('weights', 'alpha')}
  other = {'epochs': 1, 'rule.kind': 'first_order'}
  run_search(tiny(({'epochs': 1}, again, other, again)), tmp_path / 'run', (0, 1), parts=OWN)
  assert len(made) == 2


def test_the_strongest_operations_stay():
  """P-DARTS' stages: of 8 operations 5 stay, then 3; `none` falls before the last one."""
  names = ('none', *'abcdefg')
  rising = np.arange(8.0)[None]
  five = pruning.strongest(rising, np.ones((1, 8), bool), 5, names)
  assert np.flatnonzero(five[0]).tolist() == [3, 4, 5, 6, 7]
  three = pruning.strongest(rising, five, 3, names)
  assert np.flatnonzero(three[0]).tolist() == [5, 6, 7]
  falling = -rising
  five = pruning.strongest(falling, np.ones((1, 8), bool), 5, names)
  assert np.flatnonzero(five[0]).tolist() == [0, 1, 2, 3, 4]
  assert np.flatnonzero(pruning.strongest(falling, five, 1, names)[0]).tolist() == [1]


def test_one_operation_of_each_group_stays():
  names = ('none', 'max_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'dil_conv_3x3')
  groups = axes.groups_of(names)
  assert groups == [[0, 1, 2], [3, 4]]
  strength = np.array([[0.1, 0.2, 0.7, 0.4, 0.6], [0.5, 0.3, 0.2, 0.9, 0.1]])
  kept = pruning.strongest_of_groups(strength, np.ones((2, 5), bool), groups)
  assert np.argwhere(kept).tolist() == [[0, 2], [0, 4], [1, 0], [1, 3]]
