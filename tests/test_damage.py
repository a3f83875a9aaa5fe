"""Damaged checkpoints, as in the campaign: a state is restored as it was saved, or not at all."""

import pathlib

import pytest

from experiments.reliability import damage, damages, lost, provenance

# orbax leaves coroutines behind when it meets damage; nobody has awaited them.
pytestmark = [
  pytest.mark.usefixtures('garbage_collected'),
  pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'),
]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  return folder, damage.make_runs(folder)


@pytest.mark.parametrize('seed', range(3 * len(damages.DAMAGES)))
def test_a_restored_state_is_the_saved_one(runs, seed):
  folder, states = runs
  name, outcome = damage.trial(folder, states, seed)
  assert outcome in damage.GOOD, f'{name}: {outcome}'


def test_a_campaign_can_fail(runs, tmp_path):
  folder, states = runs
  with damage.checkpoint.Checkpoints(pathlib.Path(tmp_path) / 'c') as manager:
    wrong = states[30]._replace(params={**states[30].params, 'bias': states[20].params['bias']})
    manager.save(30, wrong)
  assert damage.outcome(tmp_path / 'c', states, every=False) == 'silent'


def test_losses_of_another_commit_are_not_counted(tmp_path, monkeypatch):
  monkeypatch.setattr(provenance, 'RESULTS', tmp_path)
  provenance.save('dead', {'losses': 1}, [{'losses': []}])
  assert lost.known_runs('dead') == [{'losses': []}] and not lost.known_runs('stuck')
  monkeypatch.setattr(provenance, 'commit', lambda: 'another')
  assert not lost.known_runs('dead')
