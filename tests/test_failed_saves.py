"""Saves that fail: each is an error, and the checkpoints before stay."""

import contextlib
import os
import resource
import shutil

import orbax.checkpoint as ocp
import pytest
from small_checkpoints import assert_same, make_state, saved

from stretchnas_jax.runs import checkpoint

# orbax leaves coroutines behind when it meets damage; nobody has awaited them.
pytestmark = [
  pytest.mark.usefixtures('garbage_collected'),
  pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'),
]


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
  """A folder `c` with the checkpoints 1, 2 and 3, each of `make_state(step)`."""
  return saved(tmp_path_factory.mktemp('originals') / 'c', [1, 2, 3])


@pytest.fixture
def three(originals, tmp_path):
  """A copy of the originals, which a test may damage."""
  shutil.copytree(originals, tmp_path / 'c')
  shutil.copyfile(originals.with_name('c.json'), tmp_path / 'c.json')
  return tmp_path / 'c'


def test_a_save_that_fails_in_the_background_is_an_error(tmp_path, monkeypatch):
  manager = checkpoint.Checkpoints(tmp_path / 'c')
  monkeypatch.setattr(manager._store._manager, 'check_for_errors', lambda: 1 / 0)
  with pytest.raises(checkpoint.SaveFailed, match='division by zero'):
    manager.save(1, make_state())
  with pytest.raises(checkpoint.SaveFailed, match='division by zero'):
    manager.close()


def full_disk(path, monkeypatch):
  """Limits the bytes that a file can have."""
  most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
  monkeypatch.setattr(resource, 'undo', (resource.RLIMIT_FSIZE, (most, most)), raising=False)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))


def a_dead_thread(path, monkeypatch):
  monkeypatch.setattr(ocp.CheckpointManager, 'save', lambda *args, **kwargs: True)


FAILURES = {
  'full disk': (full_disk, 'File too large'),
  'folder deleted': (lambda path, _: shutil.rmtree(path), 'not there any more'),
  'a file in its place': (lambda path, _: shutil.rmtree(path) or path.touch(), 'not there any mo'),
  'dead thread': (a_dead_thread, 'its folder is not there'),
}


@pytest.mark.parametrize('how', FAILURES)
@pytest.mark.parametrize('at_the_end', [False, True])
def test_a_failed_save_is_an_error_of_the_next_one(three, monkeypatch, how, at_the_end):
  fail, words = FAILURES[how]
  path = three
  manager = checkpoint.Checkpoints(path)
  fail(path, monkeypatch)
  try:
    with pytest.raises(checkpoint.SaveFailed, match=f'step 4 could not be saved in .*{words}') as e:
      manager.save(4, make_state(4))
      manager.close() if at_the_end else manager.save(5, make_state(5))
  finally:
    if how == 'full disk':
      resource.setrlimit(*resource.undo)
    monkeypatch.undo()
  with contextlib.suppress(checkpoint.SaveFailed):
    manager.close()
  text = str(e.value)
  assert len(text) < 400 and '\n' not in text
  if path.is_dir():
    assert 'that of step 3 stays: the same command goes on from there' in text
    with checkpoint.Checkpoints(path) as manager:
      step, state, _ = manager.restore_latest(make_state(9))
    assert step == 3
    assert_same(state, make_state(3))
  else:
    assert 'there is none before it' in text


def test_all_of_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
  done, sync, rename = [], os.fsync, os.rename

  def synced(handle):
    done.append(('sync', os.readlink(f'/proc/self/fd/{handle}')))
    sync(handle)

  def renamed(old, new, **kwargs):
    done.append(('rename', str(new)))
    rename(old, new, **kwargs)

  monkeypatch.setattr(os, 'fsync', synced)
  monkeypatch.setattr(os, 'rename', renamed)
  path = tmp_path / 'c'
  with checkpoint.Checkpoints(path) as manager:
    manager.save(7, make_state())
  named = done.index(('rename', str(path / '7')))
  before = {p.replace('7.orbax-checkpoint-tmp', '7') for what, p in done[:named] if what == 'sync'}
  everything = {str(p) for p in (path / '7').rglob('*')} | {str(path / '7')}
  # Only the mark that orbax sets last, and does not need, comes after.
  assert everything - before == {str(path / '7' / 'commit_success.txt')}
  assert ('sync', str(path)) in done[named:]


def test_a_checkpoint_that_lacks_a_file_gets_no_name(three, monkeypatch):
  rename = os.rename

  def renamed(old, new, **kwargs):
    # As if orbax could not list the folder, which it would take for an empty one.
    if str(new).endswith('/state'):
      os.unlink(f'{old}/manifest.ocdbt')
    rename(old, new, **kwargs)

  manager, words = checkpoint.Checkpoints(three), 'state/manifest.ocdbt was not written'
  with pytest.raises(checkpoint.SaveFailed, match=words), manager:
    monkeypatch.setattr(os, 'rename', renamed)
    manager.save(4, make_state(4))
  with checkpoint.Checkpoints(three) as manager:
    assert manager.steps() == [3, 2, 1]
