"""A file operation of a save fails: the new or the previous checkpoint loads."""

import errno
import os
import shutil

import pytest

from experiments.reliability import failing_saver, file_operations, interception
from stretchnas_jax.runs import checkpoint

# The threads of orbax complain about a failed save once more, after it was an error.
pytestmark = [
  pytest.mark.usefixtures('garbage_collected'),
  pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'),
  pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning'),
]
WHY = interception.reason_against()


@pytest.fixture(scope='module')
def campaign(tmp_path_factory):
  with file_operations.Campaign(tmp_path_factory.mktemp('operations')) as found:
    found.seen = None
    yield found


@pytest.mark.skipif(bool(WHY), reason=str(WHY))
@pytest.mark.parametrize('share', [0.1, 0.5, 0.75, 1.0])
@pytest.mark.parametrize('kind', failing_saver.FAULTS)
def test_an_operation_fails(campaign, kind, share):
  campaign.seen = campaign.seen or campaign.trial('EIO', 0)[0].seen
  every = failing_saver.FAULTS[kind].every
  count = len(campaign.seen) if every else sum(one.changes for one in campaign.seen)
  fault, result = campaign.trial(kind, max(1, int(share * count) - 30))
  assert fault.hit and result in file_operations.GOOD, (fault.hit, result)


@pytest.mark.skipif(bool(WHY), reason=str(WHY))
def test_a_campaign_counts_operations_and_can_fail(campaign, tmp_path):
  fault, result = campaign.trial('EIO', 10**6)
  assert result == 'new' and fault.hit is None
  assert {'mkdir', 'fsync', 'rename'} <= {one.name for one in fault.seen}
  shutil.copytree(campaign.folder / 'original', tmp_path / 'c')
  place = tmp_path / 'c' / 'checkpoints'
  lost = file_operations.verdict(place, campaign.states, 'saved')
  assert lost == 'previous' and lost not in file_operations.GOOD


@pytest.mark.parametrize(
  'name, n',
  [('mkdir', 1), ('mkdir', 3), ('rename', 1), ('rename', 3), ('fsync', 1), ('fsync', 12),
   ('replace', 1)],
)  # fmt: skip
def test_a_call_of_python_fails(campaign, tmp_path, monkeypatch, name, n):
  shutil.copytree(campaign.folder / 'original', tmp_path / 'c')
  place, calls, real = tmp_path / 'c' / 'checkpoints', [], getattr(os, name)

  def failing(*args, **kwargs):
    calls.append(args)
    if len(calls) == n:
      raise OSError(errno.EIO, os.strerror(errno.EIO))
    return real(*args, **kwargs)

  answer = 'saved'
  try:
    with checkpoint.Checkpoints(place, failing_saver.KEEP) as manager:
      monkeypatch.setattr(os, name, failing)
      manager.save(failing_saver.NEW, campaign.states[failing_saver.NEW], {'identity': {}})
  except checkpoint.SaveFailed as error:
    answer = f'said: {error}'
  monkeypatch.undo()
  assert file_operations.verdict(place, campaign.states, answer) in file_operations.GOOD
  assert len(calls) >= n
  assert 'Input/output error' in answer
