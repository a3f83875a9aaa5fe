"""Settings of the process that commands and calls from Python share."""

import gc
import os
import pathlib
import stat

import filelock
import jax
import pytest
from jax._src import compiler, lru_cache

from stretchnas_jax.machine import facts, host_memory, program_cache, start
from stretchnas_jax.runs import trained

CACHE = (
  'jax_enable_compilation_cache', 'jax_compilation_cache_dir', 'jax_compilation_cache_max_size',
  'jax_persistent_cache_min_compile_time_secs',
)  # fmt: skip


@pytest.fixture
def settings(monkeypatch, tmp_path):
  """A process in which nothing is set yet; afterwards all is as before."""
  before = {name: getattr(jax.config, name) for name in CACHE}, gc.get_threshold()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.delenv('STRETCHNAS_SET_UP', raising=False)
  jax.config.update('jax_enable_compilation_cache', True)
  jax.config.update('jax_compilation_cache_dir', None)
  gc.set_threshold(700, 10, 10)
  memory = []
  monkeypatch.setattr(host_memory, 'set_up', lambda: memory.append('set'))
  start.set_up.cache_clear()
  yield memory
  start.set_up.cache_clear()
  for name, value in before[0].items():
    jax.config.update(name, value)
  gc.set_threshold(*before[1])


def programs(caches, cores=None):
  """The folder of compiled programs below the caches of a user."""
  return caches / 'stretchnas_jax' / f'programs_for_{cores or facts.num_cores()}_cores'


def test_all_settings_are_made_once(settings, tmp_path):
  start.set_up()
  start.set_up()
  folder = programs(tmp_path)
  assert jax.config.jax_compilation_cache_dir == str(folder)
  # JAX runs whatever programs it finds there.
  assert stat.S_IMODE(folder.stat().st_mode) & 0o022 == 0
  assert jax.config.jax_compilation_cache_max_size == 4 * 2**30
  assert settings == ['set'] and gc.get_threshold() == (100_000, 50, 50)


def test_each_command_that_reads_a_network_makes_them(settings, tmp_path):
  with pytest.raises(FileNotFoundError, match='is not a run'):
    trained.read_run(tmp_path)
  assert settings == ['set'] and jax.config.jax_compilation_cache_dir == str(programs(tmp_path))


def test_programs_for_another_number_of_cores_are_kept_apart(settings, tmp_path, monkeypatch):
  for cores in (1, 64):
    monkeypatch.setattr(facts, 'num_cores', lambda cores=cores: cores)
    jax.config.update('jax_compilation_cache_dir', None)
    start.set_up.cache_clear()
    start.set_up()
    assert jax.config.jax_compilation_cache_dir == str(programs(tmp_path, cores))


def test_settings_of_the_user_stay(settings, tmp_path):
  jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'own'))
  gc.set_threshold(0, 7, 7)
  start.set_up()
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / 'own')
  assert gc.get_threshold() == (0, 7, 7)


def test_a_cache_that_is_switched_off_stays_off(settings, tmp_path):
  jax.config.update('jax_enable_compilation_cache', False)
  start.set_up()
  assert not jax.config.jax_compilation_cache_dir and not list(tmp_path.iterdir())


def test_a_variable_switches_all_of_it_off(settings, monkeypatch):
  monkeypatch.setenv('STRETCHNAS_SET_UP', '0')
  start.set_up()
  assert not jax.config.jax_compilation_cache_dir and not settings
  assert gc.get_threshold() == (700, 10, 10)


def test_a_setting_that_fails_is_a_warning_and_the_others_are_made(settings, monkeypatch, caplog):
  monkeypatch.setattr(program_cache, 'use_cache', lambda: 1 / 0)
  start.set_up()
  assert 'a setting of this process was not made: division by zero' in caplog.text
  assert settings == ['set'] and gc.get_threshold()[0] == 100_000


def test_a_cache_folder_that_cannot_be_made_is_a_warning(settings, tmp_path, caplog):
  (tmp_path / 'stretchnas_jax').touch()
  start.set_up()
  assert 'compiled programs are not kept' in caplog.text
  assert not jax.config.jax_compilation_cache_dir


@pytest.fixture
def folder(tmp_path):
  """The folder of compiled programs, with one program in it, as JAX leaves them."""
  found = programs(tmp_path)
  found.mkdir(parents=True, mode=0o700)
  found.parent.chmod(0o700)
  lru_cache.LRUCache(str(found), max_size=10**6).put('good', b'program')
  return found


def names(folder):
  """The names in a folder, without the lock."""
  return {path.name for path in folder.iterdir()} - {'.lockfile'}


GOOD = {'good-cache', 'good-atime'}


def test_programs_that_a_dead_process_has_left_are_cleared(settings, folder, caplog):
  """JAX before 0.11.2 would keep no program any more."""
  (folder / 'orphan-cache').write_bytes(b'half')
  (folder / 'no_time-cache').write_bytes(b'whole')
  (folder / 'no_time-atime').touch()
  (folder / 'empty-cache').touch()
  (folder / 'empty-atime').write_bytes(bytes(8))
  if jax.__version_info__ < (0, 11, 2):
    with pytest.raises(FileNotFoundError):
      lru_cache.LRUCache(str(folder), max_size=10**6).put('next', b'program')
  start.set_up()
  assert names(folder) - {'no_time-atime', 'empty-atime'} == GOOD and not caplog.text
  assert jax.config.jax_compilation_cache_dir == str(folder)
  lru_cache.LRUCache(str(folder), max_size=10**6).put('next', b'program')
  assert {'next-cache', 'next-atime'} <= names(folder)


def test_a_cache_that_another_process_writes_to_is_not_cleared_now(settings, folder, monkeypatch):
  monkeypatch.setattr(program_cache, '_PATIENCE', 0.05)
  (folder / 'new-cache').write_bytes(b'its time of use comes next')
  with filelock.FileLock(folder / '.lockfile'):
    start.set_up()
  assert 'new-cache' in names(folder)
  assert jax.config.jax_compilation_cache_dir == str(folder)


def test_a_folder_of_the_users_choice_is_cleared_of_orphans_alone(settings, folder):
  (folder / 'orphan-cache').write_bytes(b'half')
  (folder / 'foreign').symlink_to('/etc/hosts')
  jax.config.update('jax_compilation_cache_dir', str(folder))
  start.set_up()
  assert 'orphan-cache' in names(folder)  # without a limit JAX writes no times
  jax.config.update('jax_compilation_cache_max_size', 10**6)
  start.set_up.cache_clear()
  start.set_up()
  assert names(folder) == {*GOOD, 'foreign'}


def test_the_folder_in_which_xla_keeps_what_a_gpu_has_measured_stays(settings, folder, caplog):
  start.set_up()
  options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
  debug = options.executable_build_options.debug_options
  measured = pathlib.Path(debug.xla_gpu_per_fusion_autotune_cache_dir)
  assert measured.parent == folder  # JAX's default; a new place would need a new rule here
  (measured / 'tmp').mkdir(parents=True)
  measured.chmod(0o777)
  (measured / 'fusion.textproto').write_text('the best tiling')
  (measured / 'tmp' / 'link').symlink_to('/etc/hosts')
  for _ in range(2):
    jax.config.update('jax_compilation_cache_dir', None)
    start.set_up.cache_clear()
    start.set_up()
  assert names(folder) == {*GOOD, measured.name}
  assert names(measured) == {'fusion.textproto', 'tmp'} and not names(measured / 'tmp')
  assert stat.S_IMODE(measured.stat().st_mode) == 0o755
  assert caplog.text.count('held 1 entries of others; they are removed') == 1


def test_links_and_folders_among_the_programs_are_removed_and_modes_are_narrowed(
  settings, folder, caplog
):
  (folder / 'link-cache').symlink_to(folder / 'good-cache')
  (folder / 'folder-cache').mkdir()
  (folder / 'good-cache').chmod(0o666)
  start.set_up()
  assert names(folder) == GOOD and 'held 2 entries of others; they are removed' in caplog.text
  assert stat.S_IMODE((folder / 'good-cache').stat().st_mode) == 0o644


def test_a_cache_to_which_others_may_write_is_not_used(settings, folder, caplog):
  for place in (folder, folder.parent):
    for mode in (0o720, 0o702):
      place.chmod(mode)
      start.set_up.cache_clear()
      start.set_up()
      place.chmod(0o700)
      assert not jax.config.jax_compilation_cache_dir
      assert f'others may write to {place}' in caplog.records[-1].getMessage()


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='only root gives away')
@pytest.mark.parametrize('what', ['folder', 'parent', 'entry', 'link'])
def test_a_cache_of_somebody_else_is_not_used(settings, folder, tmp_path, what, caplog):
  if what == 'link':
    folder.rename(tmp_path / 'elsewhere')
    folder.symlink_to(tmp_path / 'elsewhere')
    os.chown(tmp_path / 'elsewhere', 12345, 12345)
  else:
    place = {'folder': folder, 'parent': folder.parent, 'entry': folder / 'good-cache'}[what]
    os.chown(place, 12345, 12345)
  start.set_up()
  if what == 'entry':
    assert names(folder) == {'good-atime'}
    assert 'held 1 entries of others; they are removed' in caplog.text
  else:
    assert not jax.config.jax_compilation_cache_dir
    assert 'belongs to another user' in caplog.text and len(caplog.records) == 1


def test_new_folders_of_the_cache_are_private(settings, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'new' / 'cache'))
  start.set_up()
  folder = programs(tmp_path / 'new' / 'cache')
  for place in (folder, *list(folder.parents)[:3]):
    assert stat.S_IMODE(place.stat().st_mode) == 0o700, place
