"""A full disk, a real one in memory: a failed save is an error, and the next one succeeds."""

import pytest

from experiments.reliability import full_disk

# The threads of orbax complain about a failed save once more, after it was an error.
pytestmark = [
  pytest.mark.usefixtures('garbage_collected'),
  pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'),
  pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning'),
]


def test_a_save_on_a_disk_with_too_little_room(tmp_path):
  try:
    with full_disk.disk(tmp_path / 'disk', 64):
      pass
  except OSError as error:
    pytest.skip(f'no disk can be mounted here: {error}')
  found = full_disk.saves(tmp_path, every=3)
  assert not found['bad'], found
  assert found['previous, and said'] >= 3 and found['new'] == 1
