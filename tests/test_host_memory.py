"""What malloc is told, and when."""

import ctypes
import platform
import subprocess
import sys

import pytest
from jax import monitoring

from stretchnas_jax.runtime import host_memory, measure


class Library:
  """As much of glibc as is asked; remembers what it was told."""

  def __init__(self):
    self.told = []

  def mallopt(self, parameter, value):
    self.told.append((parameter, value))

  def malloc_trim(self, pad):
    self.told.append('trim')


@pytest.fixture
def started(monkeypatch):
  """`use_one_heap` as in a new process: `(library, listener)`, the latter None if there is none."""

  def start(library, **environment):
    for *_, variable, _ in host_memory.SETTINGS:
      monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
    for name, value in environment.items():
      monkeypatch.setenv(name, value)
    listeners = []
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: library)
    monkeypatch.setattr(monitoring, 'register_event_duration_secs_listener', listeners.append)
    host_memory.use_one_heap.__wrapped__()
    return library, (listeners or [None])[0]

  return start


HEAPS, MAPPED, KEPT = [(parameter, value) for parameter, value, *_ in host_memory.SETTINGS]


def test_one_heap_from_the_start_and_its_rest_given_back_after_a_compilation(started):
  library, compiled = started(Library())
  assert library.told == [HEAPS, MAPPED, KEPT]
  compiled(measure.COMPILED, 2.0, fun_name='step')
  assert library.told == [HEAPS, MAPPED, KEPT, 'trim']


def test_short_compilations_and_other_events_change_nothing(started):
  library, compiled = started(Library())
  compiled(measure.COMPILED, 0.5)
  compiled(measure.FROM_CACHE, 5.0)
  assert library.told == [HEAPS, MAPPED, KEPT]


@pytest.mark.parametrize(
  'environment, told',
  [
    ({'MALLOC_ARENA_MAX': '4'}, [MAPPED, KEPT]),
    ({'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1:glibc.malloc.arena_max=4'}, [MAPPED, KEPT]),
    ({'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}, [HEAPS, MAPPED, KEPT]),
    ({'MALLOC_TRIM_THRESHOLD_': '0'}, [HEAPS, MAPPED]),
    ({'MALLOC_MMAP_MAX_': '9', 'GLIBC_TUNABLES': 'glibc.malloc.trim_threshold=1'}, [HEAPS]),
  ],
)
def test_what_the_user_has_set_stays(started, environment, told):
  library, compiled = started(Library(), **environment)
  compiled(measure.COMPILED, 2.0)
  assert library.told == [*told, 'trim']


def test_another_library_of_c_is_left_alone(started):
  assert started(object())[1] is None


ARRAYS = """
import resource, numpy as np
from stretchnas_jax.runtime import host_memory
{call}
def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.ones(64 << 20, np.uint8)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(max(faults() for _ in range(3)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='of glibc')
def test_memory_of_one_step_serves_the_next(monkeypatch):
  for name in ('GLIBC_TUNABLES', *(variable for *_, variable, _ in host_memory.SETTINGS)):
    monkeypatch.delenv(name, raising=False)
  faults = lambda call: int(
    subprocess.run(
      [sys.executable, '-c', ARRAYS.format(call=call)], capture_output=True, text=True, check=True
    ).stdout
  )
  assert faults('') > 20  # or nothing is to be gained: pages of 4 KiB, or of 2 MiB
  assert faults('host_memory.use_one_heap()') <= 4
