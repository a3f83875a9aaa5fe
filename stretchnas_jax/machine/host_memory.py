"""The memory that this process takes of the host, for the compiler and for the steps of a CPU.

XLA asks malloc for a step's temporary memory each time. By default large blocks come from the
system and go back to it, and each of their pages is a fault. A heap keeps them for the next step.
Only the heap of the main thread has room for blocks above 64 MB, so that thread must run the steps.
That heap gets pages of 2 MB where the system grants them, since a step reads much memory in a row.

Each of the compiler's threads has a heap of its own, in which glibc keeps the free memory. It goes
back to the system while a compilation goes on, which lowers the peak of a first start. One heap for
all threads does not help, because steps become slower in it.
"""

import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import monitoring

from stretchnas_jax.machine import measure

_TRIM_EVERY = 0.5  # seconds
_LARGE_PAGE = 2 << 20  # bytes
_MADV_HUGEPAGE = 14


class _Setting(NamedTuple):
  """A setting of malloc.

  Attributes:
    parameter: its number in malloc.h.
    value: ours.
    variable: the environment variable by which a user sets it.
    tunable: its name in GLIBC_TUNABLES.
  """

  parameter: int
  value: int
  variable: str
  tunable: str


_SETTINGS = (
  # M_MMAP_MAX: large blocks lie in a heap too.
  _Setting(-4, 0, 'MALLOC_MMAP_MAX_', 'glibc.malloc.mmap_max'),
  # M_TRIM_THRESHOLD: a heap never shrinks by itself. A size would not do: mallopt takes at most
  # 2 GB, and the step of a large training needs more.
  _Setting(-1, -1, 'MALLOC_TRIM_THRESHOLD_', 'glibc.malloc.trim_threshold'),
)


@functools.cache
def set_up() -> None:
  """Keeps the memory of a step on a CPU for the next one, and returns that of the compiler.

  Only glibc is told. The settings that the user has made in the environment stay.
  """
  library = ctypes.CDLL(None)
  if not (hasattr(library, 'mallopt') and hasattr(library, 'malloc_trim')):
    return
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  for setting in _SETTINGS:
    if setting.variable not in os.environ and f'{setting.tunable}=' not in tunables:
      library.mallopt(setting.parameter, setting.value)
  if 'glibc.malloc.hugetlb=' not in tunables and hasattr(library, 'madvise'):
    _ask_for_large_pages(library)
  if 'JAX_CPU_ENABLE_ASYNC_DISPATCH' not in os.environ:
    jax.config.update('jax_cpu_enable_async_dispatch', False)
  _trim_compilations(give_back)


def _ask_for_large_pages(library: ctypes.CDLL) -> None:
  """Lets the heap have room of half the machine's memory, in pages of 2 MB.

  The room takes no memory before it is written to. A small block above it, which is never freed,
  keeps the room in the heap when free memory goes back to the system. A system that does not grant
  so much room grants none.
  """
  library.malloc.restype = ctypes.c_void_p
  size = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
  room = library.malloc(ctypes.c_size_t(size))
  if not room:
    return
  library.malloc(ctypes.c_size_t(_LARGE_PAGE))
  start = -(-room // _LARGE_PAGE) * _LARGE_PAGE
  length = (room + size - start) // _LARGE_PAGE * _LARGE_PAGE
  library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_HUGEPAGE)
  library.free(ctypes.c_void_p(room))


def give_back() -> None:
  """Returns free memory to the system, where malloc is that of glibc."""
  trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
  if trim is not None:
    trim(0)


def _trim_compilations(trim: Callable[[], None]) -> None:
  """Calls a function again and again while JAX compiles, and after a program was made or loaded.

  Args:
    trim: returns free memory to the system.
  """
  compiling = threading.Event()

  def listen(event: str, duration_secs: float, **_: Any) -> None:
    if event == measure.LOWERED:
      compiling.set()
    elif event == measure.COMPILED:
      compiling.clear()
      if duration_secs >= _TRIM_EVERY:
        trim()
    elif event == measure.FROM_CACHE:
      trim()

  def work() -> None:
    while compiling.wait():
      time.sleep(_TRIM_EVERY)
      if compiling.is_set():
        trim()

  monitoring.register_event_duration_secs_listener(listen)
  threading.Thread(target=work, name='trim', daemon=True).start()
