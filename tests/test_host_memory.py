"""The settings of malloc, and the memory that goes back to the system."""

import ctypes
import mmap
import os
import pathlib
import platform
import resource
import subprocess
import sys
import threading
import time

import jax
import pytest
from jax import monitoring

from stretchnas_jax.machine import host_memory, measure

ASYNC = 'jax_cpu_enable_async_dispatch'


class Library:
  """The part of glibc that is used; remembers its calls."""

  def __init__(self):
    self.told = []

  def mallopt(self, parameter, value):
    self.told.append((parameter, value))

  def malloc_trim(self, pad):
    self.told.append('trim')


VARIABLES = [setting.variable for setting in host_memory._SETTINGS]
NAMES = (*VARIABLES, 'GLIBC_TUNABLES', ASYNC.upper())


@pytest.fixture
def started(monkeypatch):
  """Calls `set_up` as in a new process, and gives `(library, listeners)`."""

  def start(library, **environment):
    for name in NAMES:
      monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
      monkeypatch.setenv(name, value)
    listeners = []
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: library)
    monkeypatch.setattr(monitoring, 'register_event_duration_secs_listener', listeners.append)
    host_memory.set_up.__wrapped__()
    return library, listeners

  before = jax.config.read(ASYNC)
  jax.config.update(ASYNC, True)
  yield start
  jax.config.update(ASYNC, before)


MAPPED, KEPT = [(setting.parameter, setting.value) for setting in host_memory._SETTINGS]


def test_memory_is_given_back_after_a_long_compilation(started):
  library, (listen,) = started(Library())
  assert library.told == [MAPPED, KEPT]
  listen(measure.COMPILED, 2.0, fun_name='step')
  assert library.told == [MAPPED, KEPT, 'trim']


def test_short_compilations_and_other_events_change_nothing(started):
  library, (listen,) = started(Library())
  listen(measure.LOWERED, 5.0)
  listen(measure.COMPILED, 0.1)
  assert library.told == [MAPPED, KEPT]


def test_memory_is_given_back_after_a_program_was_loaded_from_the_cache(started):
  library, (listen,) = started(Library())
  listen(measure.FROM_CACHE, 0.01)
  assert library.told == [MAPPED, KEPT, 'trim']


def test_memory_is_given_back_during_a_compilation_and_not_before_or_after(monkeypatch):
  listeners, trims = [], threading.Semaphore(0)
  monkeypatch.setattr(monitoring, 'register_event_duration_secs_listener', listeners.append)
  monkeypatch.setattr(host_memory, '_TRIM_EVERY', 0.02)
  host_memory._trim_compilations(trims.release)
  for _ in range(2):
    assert not trims.acquire(timeout=0.1)
    listeners[0](measure.LOWERED, 0.1)
    assert all(trims.acquire(timeout=30) for _ in range(3))
    listeners[0](measure.COMPILED, 0.01)
    time.sleep(0.1)
    while trims.acquire(blocking=False):  # one may have been under way
      pass


@pytest.mark.parametrize(
  'environment, told',
  [
    ({'MALLOC_ARENA_MAX': '4'}, [MAPPED, KEPT]),
    ({'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=4'}, [KEPT]),
    ({'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}, [MAPPED, KEPT]),
    ({'MALLOC_TRIM_THRESHOLD_': '0'}, [MAPPED]),
    ({'MALLOC_MMAP_MAX_': '9', 'GLIBC_TUNABLES': 'glibc.malloc.trim_threshold=1'}, []),
  ],
)
def test_settings_of_the_user_stay(started, environment, told):
  library, (listen,) = started(Library(), **environment)
  listen(measure.COMPILED, 2.0)
  assert library.told == [*told, 'trim']


@pytest.mark.parametrize('environment, waits', [({}, True), ({ASYNC.upper(): '1'}, False)])
def test_the_thread_that_asks_for_a_step_runs_it_unless_the_user_decides_otherwise(
  started, environment, waits
):
  started(Library(), **environment)
  assert jax.config.read(ASYNC) is not waits


def test_another_c_library_is_left_alone(started):
  assert not started(object())[1]
  assert jax.config.read(ASYNC)


ARRAYS = """
import resource, numpy as np
from stretchnas_jax.machine import host_memory
def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.ones(64 << 20, np.uint8)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(max(faults() for _ in range(3)))
host_memory.set_up()
faults()
print(max(faults() for _ in range(3)))
"""


LARGE_BLOCK = """
import ctypes
from stretchnas_jax.machine import host_memory
host_memory.set_up()
library = ctypes.CDLL(None)
library.malloc.restype = library.sbrk.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
block = library.malloc(ctypes.c_size_t(5 << 29))
assert block
end = library.sbrk(0)
library.free(block)
print(end - library.sbrk(0))
"""


LARGE_PAGES = """
from stretchnas_jax.machine import host_memory
def asked():
  in_heap, large = False, False
  for line in open('/proc/self/smaps'):
    if '-' in line.split()[0]:
      in_heap = line.rstrip().endswith('[heap]')
    large |= in_heap and line.startswith('VmFlags') and 'hg' in line.split()
  return int(large)
host_memory.set_up()
print(asked())
host_memory.give_back()
print(asked())
"""


def started_program(program, **environment):
  """Starts a program without any of the settings but the given ones."""
  variables = {name: value for name, value in os.environ.items() if name not in NAMES}
  return subprocess.Popen(
    [sys.executable, '-c', program], stdout=subprocess.PIPE, text=True, env=variables | environment
  )


def numbers_from(process):
  """Waits for a program, and returns the numbers that it prints."""
  printed, _ = process.communicate(timeout=120)
  assert process.returncode == 0
  return [int(line) for line in printed.split()]


of_glibc = pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='of glibc')


@of_glibc
def test_memory_of_one_step_serves_the_next():
  before, after = numbers_from(started_program(ARRAYS))
  assert before > 20  # or nothing is to be gained: pages of 4 KiB, or of 2 MiB
  assert after <= 4


@of_glibc
def test_a_block_of_more_than_2_gb_is_kept_too():
  ours = started_program(LARGE_BLOCK)
  # Without the room for large pages, in which a block stays whatever the threshold.
  small = {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0'}
  limited = started_program(LARGE_BLOCK, MALLOC_TRIM_THRESHOLD_=str(2**31 - 1), **small)
  assert numbers_from(started_program(LARGE_BLOCK, **small)) == [0]
  assert numbers_from(ours) == [0]
  assert numbers_from(limited)[0] > 2**31


class Heap(Library):
  """A C library whose heap begins at a number, and which remembers what it was asked for."""

  def __init__(self, places, end=1 << 60):
    super().__init__()
    self.blocks, self.advised, self.freed = [], [], []
    places = iter(places)

    # Plain functions, since ctypes gives each a type for its result.
    def malloc(size):
      self.blocks.append((next(places), size.value))
      return self.blocks[-1][0]

    def sbrk(_):
      return end

    self.malloc, self.sbrk = malloc, sbrk

  def madvise(self, start, length, advice):
    self.advised.append((start.value, length.value, advice))

  def free(self, block):
    self.freed.append(block.value)


PAGE = 2 << 20
UNALIGNED = 12345


def test_large_pages_lie_inside_of_a_room_with_a_block_above_it(started, monkeypatch):
  monkeypatch.setattr(host_memory, '_is_room_limited', lambda: False)
  library, _ = started(Heap([UNALIGNED, 1 << 50]))
  ((start, length, advice),) = library.advised
  (room, size), _ = library.blocks
  assert advice == mmap.MADV_HUGEPAGE
  assert start % PAGE == length % PAGE == 0
  assert room <= start < room + PAGE and room + size - PAGE < start + length <= room + size
  assert library.freed == [UNALIGNED]


@pytest.mark.parametrize(
  'places, end',
  [([None, 1 << 50], 1 << 60), ([1 << 51, 1 << 50], 1 << 60), ([1, 1 << 50], 1 << 40)],
)
def test_a_room_that_is_refused_or_lies_elsewhere_is_returned(started, monkeypatch, places, end):
  monkeypatch.setattr(host_memory, '_is_room_limited', lambda: False)
  library, _ = started(Heap(places, end))
  assert not library.advised
  assert sorted(library.freed, key=str) == sorted(places, key=str)


@pytest.mark.parametrize(
  'environment', [{'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0'}, {'MALLOC_MMAP_MAX_': '9'}]
)
def test_no_room_where_the_user_decides_on_memory(started, monkeypatch, environment):
  monkeypatch.setattr(host_memory, '_is_room_limited', lambda: False)
  assert not started(Heap([]), **environment)[0].blocks


def test_no_room_where_memory_counts_before_it_is_written_to(started, monkeypatch, tmp_path):
  mode = tmp_path / 'overcommit_memory'
  mode.write_text('0\n')
  monkeypatch.setattr(host_memory, '_OVERCOMMIT', mode)
  monkeypatch.setattr(resource, 'getrlimit', lambda limit: (resource.RLIM_INFINITY,) * 2)
  assert started(Heap([1, 1 << 50]))[0].advised
  mode.write_text('2\n')
  assert not started(Heap([]))[0].blocks
  mode.write_text('0\n')
  monkeypatch.setattr(resource, 'getrlimit', lambda limit: (1 << 40, 1 << 40))
  assert not started(Heap([]))[0].blocks


SMAPS = pathlib.Path('/proc/self/smaps')
GRANTED = pathlib.Path('/sys/kernel/mm/transparent_hugepage')


@of_glibc
@pytest.mark.skipif(
  not (GRANTED.is_dir() and SMAPS.is_file() and 'VmFlags' in SMAPS.read_text())
  or host_memory._is_room_limited(),
  reason='of Linux with large pages and without limits',
)
@pytest.mark.parametrize('tunables, asked', [('', 1), ('glibc.malloc.hugetlb=0', 0)])
def test_the_heap_asks_for_large_pages_and_keeps_them(tunables, asked):
  environment = {'GLIBC_TUNABLES': tunables} if tunables else {}
  assert numbers_from(started_program(LARGE_PAGES, **environment)) == [asked, asked]
