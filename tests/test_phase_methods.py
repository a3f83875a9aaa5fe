"""Methods in phases and with monitors: P-DARTS, DOTS, DrNAS, gradual pruning, DARTS+."""

import json

import helpers
import jax.numpy as jnp
import numpy as np
import phase_runs
import pytest

from stretchnas_jax.cells import graph, space
from stretchnas_jax.learning import timetable
from stretchnas_jax.networks import sizes
from stretchnas_jax.runs import axes, json_files, search_phases, search_task

NAMES = ('none', 'max_pool_3x3', 'skip_connect', 'dil_conv_3x3')
SMALL = space.SearchSpace(graph.CellGraph(2), NAMES)
SMALLEST = space.SearchSpace(graph.CellGraph(1), NAMES)
DIGITS = {
  'data.name': 'digits', 'data.image_size': 8, 'data.crop_padding': 1, 'data.fraction': 0.05,
  'model.channels': 4, 'model.num_layers': 1, 'model.form': 'merged', 'search.batch_size': 8,
  'search.epochs': 3, 'parallel.backend': 'single',
}  # fmt: skip
FORMS = [
  (name, *form)
  for name in ('p_darts', 'dots', 'drnas', 'gradual_pruning', 'darts_plus')
  for form in ((), ('sc',))
]


def config_of(name, *form, **fields):
  """Returns the config of a method on digits, with networks of one cell or two."""
  config = helpers.load_config(helpers.ROOT / 'configs' / f'{name}_cifar10.py', *form)
  shallow = {5: 1, 11: 2, 17: 1}
  phases = json.loads(json.dumps(config.search.phases))
  for phase in phases:
    if 'model.num_layers' in phase:
      phase['model.num_layers'] = shallow[phase['model.num_layers']]
  if name == 'drnas':
    fields = {'model.channels': 24} | fields
  return helpers.with_fields(config, DIGITS | {'search.phases': tuple(phases)} | fields)


@pytest.mark.parametrize('name, form', [(n, f) for n, *f in FORMS])
def test_every_form_of_a_method_is_planned(name, form):
  """Planning builds the objects of all phases, and each begins from the one before it."""
  plan = search_task.SEARCH.plan(config_of(name, *form), None)
  assert plan.settings.num_steps > 0
  plan.close()


@pytest.mark.parametrize(
  'name, form, of',
  [
    pytest.param('gradual_pruning', ('sc',), SMALLEST, marks=pytest.mark.long),
    pytest.param('dots', ('sc',), SMALL, marks=pytest.mark.long),
    pytest.param('p_darts', (), SMALLEST, marks=pytest.mark.long),
    pytest.param('drnas', (), SMALLEST, marks=pytest.mark.long),
  ],
)  # fmt: skip
def test_a_method_stops_in_any_phase_and_goes_on_bit_for_bit(tmp_path, name, form, of):
  runs, config = phase_runs.Runs({'space': of}), config_of(name, *form)
  result = runs.search(config, tmp_path / 'whole')
  assert 1 <= result['epochs'] <= 3 and result['genotype']['normal']
  for epoch in (1, 2):
    stop = lambda line, state, at=epoch: line['epoch'] >= at
    assert runs.search(config, tmp_path / 'stopped', on_epoch=stop) is None
  runs.search(config, tmp_path / 'stopped')
  runs.assert_same_ends(tmp_path / 'whole', tmp_path / 'stopped')


# ---- the facts of the methods --------------------------------------------------------------------


def test_the_dropout_of_skips_follows_p_darts():
  rate = timetable.skip_dropout(0.4, warmup_epochs=10, epochs=25)
  expected = {0: 0.4 * 24 / 25, 9: 0.4 * 15 / 25, 10: 0.4, 11: 0.4 * np.exp(-0.2)}
  for epoch, value in expected.items():
    np.testing.assert_allclose(rate(jnp.asarray(epoch)), value, rtol=1e-6)


def knobs_at(plan, number, epoch):
  """Returns the knobs in an epoch of a phase."""
  phase, length = plan.phases[number], plan.phase_feeds[number].train.steps_per_epoch
  knobs = axes.knobs_of(phase.config, None, phase.epochs * length, length)
  return {name: float(value) for name, value in knobs(jnp.asarray(epoch * length)).items()}


def test_the_temperature_of_dots_falls_in_its_last_phase():
  plan = search_task.SEARCH.plan(config_of('dots', **{'search.epochs': 70}), None)
  assert [phase.epochs for phase in plan.phases] == [30, 20, 20]
  assert [phase.schedule for phase in plan.phases] == [(70, 0), (70, 30), (70, 50)]
  for epoch, value in ((0, 10.0), (1, 7.2102), (10, 0.3797), (19, 0.02)):
    found = knobs_at(plan, 2, epoch)
    np.testing.assert_allclose(found['temperature'], value, rtol=1e-3)
    assert found['topology_temperature'] == found['temperature']
  assert [knobs_at(plan, 0, epoch)['moves_arch'] for epoch in (0, 14, 15, 29)] == [0, 0, 1, 1]
  assert [knobs_at(plan, 1, epoch)['moves_arch'] for epoch in (0, 19)] == [0, 0]
  assert 'moves_arch' not in knobs_at(plan, 2, 0)
  # The last phase trains on all images, and its steps are longer epochs of the same curve.
  assert [feeds.train.steps_per_epoch for feeds in plan.phase_feeds] == [4, 4, 9]
  plan.close()


def test_the_epochs_of_a_warm_up_scale_with_their_phase():
  plan = search_task.SEARCH.plan(config_of('p_darts', **{'search.epochs': 15}), None)
  assert [phase.config.search.warmup_epochs for phase in plan.phases] == [2, 2, 2]
  assert [phase.schedule for phase in plan.phases] == [(5, 0), (5, 0), (5, 0)]
  plan.close()


def full_net(name, number=0):
  """Returns the supernet of a phase of a published method, for CIFAR-10."""
  config = helpers.load_config(helpers.ROOT / 'configs' / f'{name}_cifar10.py')
  phase = search_task.phases_lib.read(config)[number]
  return search_phases.objects_of(
    phase, search_task.Parts(), {}, num_classes=10, image_shape=(32, 32, 3), steps_per_epoch=2
  ).net


@pytest.mark.parametrize(
  'name, number, weights',
  [('p_darts', 0, 1_275_834), ('dots', 0, 1_931_130), ('drnas', 0, 2_221_750),
   ('drnas', 1, 2_986_462)],
)  # fmt: skip
def test_search_networks_have_the_counted_weights(name, number, weights):
  assert sizes.count_net_params(full_net(name, number), (32, 32, 3)) == weights


@pytest.mark.long
def test_a_gate_that_fell_has_the_weight_0_for_ever(tmp_path):
  fields = {'monitor.prune_below': 0.6, 'search.epochs': 4, 'alpha.learning_rate': 0.1}
  runs = phase_runs.Runs({'space': SMALL})
  runs.search(config_of('gradual_pruning', **fields), tmp_path / 'run')
  fallen = [weights == 0 for weights in scores(tmp_path / 'run')]
  assert all((after >= before).all() for before, after in zip(fallen, fallen[1:]))
  assert fallen[-1].sum() > fallen[0].sum()
  last = json_files.read_lines(tmp_path / 'run' / 'metrics.jsonl')[-1]
  assert last['macs'] > 0 and last['expected_macs'] > 0


def scores(path):
  """Returns the operation weights of both cell types in each epoch."""
  lines = json_files.read_lines(path / 'scores.jsonl')
  return [np.array([line['op_weights'][c] for c in space.CELL_TYPES]) for line in lines]


def test_a_search_with_many_skips_stops_early(tmp_path):
  only_skips = space.SearchSpace(graph.CellGraph(2), ('none', 'skip_connect'))
  runs = phase_runs.Runs({'space': only_skips})
  config = config_of('darts_plus', **{'monitor.min_epochs': 2})
  assert runs.search(config, tmp_path / 'run')['epochs'] == 2
  assert len(json_files.read_lines(tmp_path / 'run' / 'metrics.jsonl')) == 2
