"""What malloc is told, and when."""

import ctypes

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
def spared(monkeypatch):
  """`spare` as in a process of its own: `(library, listener)`, the latter None if there is none."""

  def spare(library, **environment):
    for name in ('MALLOC_ARENA_MAX', 'GLIBC_TUNABLES'):
      monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
      monkeypatch.setenv(name, value)
    listeners = []
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: library)
    monkeypatch.setattr(monitoring, 'register_event_duration_secs_listener', listeners.append)
    host_memory.spare.__wrapped__()
    return library, (listeners or [None])[0]

  return spare


ONE_HEAP = (host_memory.M_ARENA_MAX, 1)


def test_one_heap_from_the_start_and_its_rest_given_back_after_a_compilation(spared):
  library, compiled = spared(Library())
  assert library.told == [ONE_HEAP]
  compiled(measure.COMPILED, 2.0, fun_name='step')
  assert library.told == [ONE_HEAP, 'trim']


def test_short_compilations_and_other_events_change_nothing(spared):
  library, compiled = spared(Library())
  compiled(measure.COMPILED, 0.5)
  compiled(measure.FROM_CACHE, 5.0)
  assert library.told == [ONE_HEAP]


@pytest.mark.parametrize(
  'environment, told',
  [
    ({'MALLOC_ARENA_MAX': '4'}, []),
    ({'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1:glibc.malloc.arena_max=4'}, []),
    ({'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}, [ONE_HEAP]),
  ],
)
def test_the_number_of_heaps_that_the_user_has_set_stays(spared, environment, told):
  library, compiled = spared(Library(), **environment)
  compiled(measure.COMPILED, 2.0)
  assert library.told == [*told, 'trim']


def test_another_library_of_c_is_left_alone(spared):
  assert spared(object())[1] is None
