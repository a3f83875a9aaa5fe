"""Settings of the process that commands and calls from Python share."""

import gc
import stat

import jax
import pytest

from stretchnas_jax.machine import host_memory, program_cache, start

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


def test_all_settings_are_made_once(settings, tmp_path):
  start.set_up()
  start.set_up()
  folder = tmp_path / 'stretchnas_jax' / 'programs'
  assert jax.config.jax_compilation_cache_dir == str(folder)
  # JAX runs whatever programs it finds there.
  assert stat.S_IMODE(folder.stat().st_mode) & 0o022 == 0
  assert jax.config.jax_compilation_cache_max_size == 4 * 2**30
  assert settings == ['set'] and gc.get_threshold() == (100_000, 50, 50)


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
