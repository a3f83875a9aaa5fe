"""Programs of the last start: loaded ahead, and only those that this start would have made."""

import json
import pathlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache as jax_cache
from jax.experimental.compilation_cache import compilation_cache

from stretchnas_jax import app
from stretchnas_jax.data import cache
from stretchnas_jax.runtime import preload

ROOT = pathlib.Path(__file__).parents[1]
CACHING = {
  'jax_enable_compilation_cache': True,
  'jax_persistent_cache_min_compile_time_secs': 0.0,
}
X = np.arange(4.0, dtype=np.float32)


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
  """An empty user's cache folder, in which JAX keeps every program."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  settings = {**CACHING, 'jax_compilation_cache_dir': str(tmp_path / 'programs')}
  before = {name: getattr(jax.config, name) for name in settings}
  for name, value in settings.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  yield tmp_path / 'stretchnas_jax' / 'starts'
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


class Loads(list):
  """What was loaded from the cache, in order: (name, 'ahead' or 'asked')."""

  def __init__(self):
    super().__init__()
    self.ahead = threading.Event()  # that something was, or was tried to be


@pytest.fixture
def loads(cache_folder, monkeypatch):
  found, load = Loads(), jax_cache.get_executable_and_time

  def spy(key, *args):
    ahead = threading.current_thread().name.startswith('preload')
    if ahead:
      found.ahead.set()
    program = load(key, *args)
    if program[0] is not None:
      found.append((key.split('-')[0], 'ahead' if ahead else 'asked'))
    return program

  monkeypatch.setattr(jax_cache, 'get_executable_and_time', spy)
  return found


def start(*functions, name='search', after=None):
  """What the functions make of X, in what might be a new process."""
  jax.clear_caches()
  with preload.last_programs(name):
    assert after is None or after.wait(60)
    return [np.asarray(jax.jit(function)(X)) for function in functions]


def double(x):
  return jnp.sin(x) * 2


def triple(x):
  return jnp.cos(x) * 3


def record(folder):
  (path,) = folder.glob('*')
  return path, json.loads(path.read_text('utf-8').partition('\n')[2])


def rewrite(path, content):
  text = json.dumps(content)
  path.write_text(f'{cache.digest(text)}\n{text}')


def names(content):
  return [key.split('-')[0] for key in content['programs']]


def of(loads, name):
  return [who for key, who in loads if key == name]


def test_what_the_last_start_used_is_loaded_ahead(cache_folder, loads):
  first = start(double, triple)
  assert not loads
  assert names(record(cache_folder)[1])[-2:] == ['jit_double', 'jit_triple']
  second = start(double, triple, after=loads.ahead)
  np.testing.assert_array_equal(first, second)
  np.testing.assert_allclose(second, [2 * np.sin(X), 3 * np.cos(X)], rtol=1e-6)
  # By one thread or the other, but once.
  assert len(of(loads, 'jit_double')) == len(of(loads, 'jit_triple')) == 1
  assert 'ahead' in {who for _, who in loads}
  assert names(record(cache_folder)[1])[-2:] == ['jit_double', 'jit_triple']


def test_nothing_is_loaded_ahead_for_another_name_or_machine_or_without_a_cache(
  cache_folder, loads
):
  start(double)
  start(double, name='train')
  for path in cache_folder.glob('*'):
    content = json.loads(path.read_text('utf-8').partition('\n')[2])
    rewrite(path, {**content, 'machine': 'jit__lambda-another'})
  start(double)
  assert {who for _, who in loads} == {'asked'} and len(of(loads, 'jit_double')) == 2
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.reset_cache()
  del loads[:]
  assert start(double)[0][0] == 0 and not loads


def test_another_program_of_the_same_name_is_made_anew_and_takes_the_old_ones_place(
  cache_folder, loads
):
  def work(x):
    return x + 1

  start(work, double)
  work = lambda x: x + 2  # as if its source had changed
  work.__name__ = 'work'
  np.testing.assert_array_equal(start(work)[0], X + 2)
  programs = names(record(cache_folder)[1])
  assert programs.count('jit_work') == 1 and 'jit_double' not in programs
  np.testing.assert_array_equal(start(work)[0], X + 2)
  assert len(of(loads, 'jit_work')) <= 2


def test_what_still_waits_for_its_turn_is_not_waited_for(cache_folder, loads, monkeypatch):
  start(double, triple)
  free, load = threading.Event(), jax_cache.get_executable_and_time

  def slow(key, *args):
    if threading.current_thread().name.startswith('preload'):
      loads.ahead.set()
      assert free.wait(60)
    return load(key, *args)

  monkeypatch.setattr(jax_cache, 'get_executable_and_time', slow)
  jax.clear_caches()
  with preload.last_programs('search'):
    assert loads.ahead.wait(60)
    np.testing.assert_allclose(jax.jit(triple)(X), 3 * np.cos(X), rtol=1e-6)
    assert of(loads, 'jit_triple') == ['asked']
    free.set()
    np.testing.assert_allclose(jax.jit(double)(X), 2 * np.sin(X), rtol=1e-6)


def spoil(folder, how):
  path, content = record(folder)
  programs = content['programs']
  if how == 'no json':
    path.write_bytes(path.read_bytes()[:-20])
  elif how == 'no text':
    path.write_bytes(b'\xff\n{}')
  elif how == 'a list':
    rewrite(path, [1, 2])
  elif how == 'no programs':
    rewrite(path, {**content, 'programs': [3]})
  elif how == 'no fields':
    rewrite(path, {**content, 'programs': dict.fromkeys(programs, {})})
  elif how == 'options':  # with them XLA would end the process
    options = next(iter(programs.values()))['options']
    path.write_text(path.read_text('utf-8').replace(options, 'AAAA'))
  elif how == 'devices':
    spoiled = {key: {**each, 'devices': [977]} for key, each in programs.items()}
    rewrite(path, {**content, 'programs': spoiled})
  elif how == 'empty cache':
    for entry in (folder.parent.parent / 'programs').glob('*-cache'):
      entry.unlink()
  elif how == 'a file in its place':
    path.unlink()
    folder.rmdir()
    folder.write_text('')


@pytest.mark.parametrize(
  'how',
  [
    'no json', 'no text', 'a list', 'no programs', 'no fields', 'options', 'devices', 'empty cache',
    'a file in its place',
  ],
)  # fmt: skip
def test_no_fault_of_the_record_or_the_cache_makes_a_start_fail(cache_folder, loads, how):
  start(double)
  spoil(cache_folder, how)
  np.testing.assert_allclose(start(double)[0], 2 * np.sin(X), rtol=1e-6)
  if how != 'a file in its place':
    assert 'jit_double' in names(record(cache_folder)[1])
    assert all(each['devices'] == [0] for each in record(cache_folder)[1]['programs'].values())


def test_jax_has_its_own_functions_back_whatever_the_work_does(cache_folder, loads):
  before = jax_cache.get_executable_and_time, jax_cache.put_executable_and_time
  with pytest.raises(ZeroDivisionError), preload.last_programs('search'):
    assert jax_cache.get_executable_and_time is not before[0]
    1 / 0  # noqa: B018
  assert (jax_cache.get_executable_and_time, jax_cache.put_executable_and_time) == before


def test_without_a_home_a_start_is_as_ever(cache_folder, loads, monkeypatch):
  monkeypatch.delenv('XDG_CACHE_HOME')
  monkeypatch.setattr(pathlib.Path, 'home', no_home)
  for _ in range(2):
    np.testing.assert_allclose(start(double)[0], 2 * np.sin(X), rtol=1e-6)
  assert of(loads, 'jit_double') == ['asked']


def no_home():
  raise RuntimeError('there is no home')


def test_only_so_many_records_are_kept(cache_folder, loads, monkeypatch):
  monkeypatch.setattr(preload, 'KEEP', 2)
  for name in 'abc':
    start(double, name=name)
  assert len(list(cache_folder.glob('*'))) == 2


def test_a_program_loads_ahead_what_its_own_last_start_with_this_config_used(cache_folder, loads):
  def run(*words, program='search.py', after=None):
    def work():
      assert after is None or after.wait(60)
      jax.jit(double)(X)

    jax.clear_caches()
    argv = [program, f'--config={ROOT / "configs" / "digits.py"}', *words]
    app.run(lambda args: work, workdir=False, argv=argv)

  run()
  assert 'jit_double' in names(record(cache_folder)[1])
  run('--config.seed=1', after=loads.ahead)  # programs do not depend on it
  assert len(of(loads, 'jit_double')) == 1
  loads.ahead.clear()
  run('--config.model.channels=4')
  run(program='benchmark.py')
  assert not loads.ahead.is_set() and len(list(cache_folder.iterdir())) == 3
