"""Tests of the cache of arrays on disk."""

import os
import pathlib
import time

import numpy as np
import pytest

from stretchnas_jax.machine import disk_cache


class Maker:
  """Makes new arrays at each call, and counts the calls."""

  def __init__(self):
    self.calls = 0

  def __call__(self):
    self.calls += 1
    return {'x': np.arange(2000) + self.calls, 'names': np.array(['é', 'b'])}


def test_the_cache_holds_arrays_until_the_key_changes(tmp_path):
  make, folder = Maker(), tmp_path / 'deep' / 'cache'
  results = [disk_cache.cached('entry', key, make, folder) for key in 'aabba']
  assert [int(result['x'][0]) for result in results] == [1, 1, 2, 2, 3]
  assert list(results[1]['names']) == ['é', 'b'] and set(results[1]) == {'x', 'names'}
  assert [file.name for file in folder.iterdir()] == ['entry.npz']


@pytest.mark.parametrize('damage', ['empty', 'short', 'text', 'flipped', 'folder', 'pickle'])
def test_a_damaged_cache_is_made_again(tmp_path, damage):
  make, file = Maker(), tmp_path / 'entry.npz'
  disk_cache.cached('entry', 'a', make, tmp_path)
  whole = file.read_bytes()
  middle = len(whole) // 2
  flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
  if damage == 'folder':
    file.unlink()
    file.mkdir()
  elif damage == 'pickle':
    np.savez(file, key=np.array('a'), x=np.array([{}], object))
  else:
    damaged = {'empty': b'', 'short': whole[:-50], 'text': b'hello', 'flipped': flipped}
    file.write_bytes(damaged[damage])
  assert disk_cache.cached('entry', 'a', make, tmp_path)['x'][0] == 2
  if damage != 'folder':
    assert disk_cache.cached('entry', 'a', make, tmp_path)['x'][0] == 2
  assert [f.name for f in tmp_path.iterdir()] == ['entry.npz']


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch, caplog):
  make = Maker()
  (tmp_path / 'file').write_text('in the way')
  assert disk_cache.cached('entry', 'a', make, tmp_path / 'file')['x'][0] == 1

  def full(*args, **kwargs):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(np, 'savez', full)
  assert disk_cache.cached('entry', 'a', make, tmp_path / 'full')['x'][0] == 2
  assert not list((tmp_path / 'full').iterdir())
  assert 'No space left' in caplog.text


def test_what_a_killed_process_has_left_goes_at_the_next_write(tmp_path):
  old, new, other = (tmp_path / name for name in ('.part-arrays-x', '.part-arrays-y', 'x.tmp'))
  for file in old, new, other:
    file.touch()
    os.utime(file, (time.time() - 90_000,) * 2)
  os.utime(new)  # a living process may write to it
  disk_cache.cached('entry', 'a', Maker(), tmp_path)
  assert {file.name for file in tmp_path.iterdir()} == {'entry.npz', new.name, other.name}


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
  def interrupted(out, **arrays):
    names.extend(file.name for file in tmp_path.iterdir())
    raise KeyboardInterrupt

  names = []
  monkeypatch.setattr(np, 'savez', interrupted)
  with pytest.raises(KeyboardInterrupt):
    disk_cache.cached('entry', 'a', Maker(), tmp_path)
  assert names[0].startswith('.part-arrays-') and not list(tmp_path.iterdir())


def test_the_folder_of_the_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert disk_cache.default_folder() == tmp_path / 'stretchnas_jax'
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  for ignored in 'relative/path', '':
    monkeypatch.setenv('XDG_CACHE_HOME', ignored)
    assert disk_cache.default_folder() == tmp_path / 'home' / '.cache' / 'stretchnas_jax'


def test_without_a_home_folder_nothing_is_kept(monkeypatch):
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)

  def homeless():
    raise RuntimeError('Could not determine home directory.')

  monkeypatch.setattr(pathlib.Path, 'home', homeless)
  assert disk_cache.cached('entry', 'a', Maker())['x'][0] == 1


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='only root gives away')
@pytest.mark.parametrize('what', ['folder', 'entry', 'open'])
def test_the_arrays_of_somebody_else_are_not_used(tmp_path, what, caplog):
  make, folder = Maker(), tmp_path / 'cache'
  disk_cache.cached('entry', 'a', make, folder)
  if what == 'open':
    folder.chmod(0o777)
  else:
    os.chown(folder if what == 'folder' else folder / 'entry.npz', 12345, 12345)
  assert disk_cache.cached('entry', 'a', make, folder)['x'][0] == 2
  assert len(caplog.records) == 1
