"""The memory that this process takes of the host, for the compiler and for the steps of a CPU.

XLA asks malloc for a step's temporary memory each time. By default large blocks come from the
system and go back to it, and each of their pages is a fault. A heap keeps them for the next step.
Only the heap of the main thread has room for blocks above 64 MB, so that thread must run the steps.
That heap asks Linux for pages of 2 MB, since a step reads much memory in a row.

Each of the compiler's threads has a heap of its own, in which glibc keeps the free memory. It goes
back to the system while a compilation goes on, which lowers the peak of a first start. One heap for
all threads does not help, because steps become slower in it.
"""

import ctypes
import functools
import mmap
import os
import pathlib
import resource
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import monitoring

from stretchnas_jax.machine import measure

_TRIM_EVERY = 0.5  # seconds
_LARGE_PAGE = 2 << 20  # bytes
_OVERCOMMIT = pathlib.Path('/proc/sys/vm/overcommit_memory')


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

  On Linux it also asks for large pages. Only glibc is told. The settings that the user has made in
  the environment stay.
  """
  library = ctypes.CDLL(None)
  if not (hasattr(library, 'mallopt') and hasattr(library, 'malloc_trim')):
    return
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  ours = [
    setting
    for setting in _SETTINGS
    if setting.variable not in os.environ and f'{setting.tunable}=' not in tunables
  ]
  for setting in ours:
    library.mallopt(setting.parameter, setting.value)
  may_reserve = hasattr(library, 'madvise') and 'glibc.malloc.hugetlb=' not in tunables
  if may_reserve and len(ours) == len(_SETTINGS) and not _is_room_limited():
    _ask_for_large_pages(library)
  if 'JAX_CPU_ENABLE_ASYNC_DISPATCH' not in os.environ:
    jax.config.update('jax_cpu_enable_async_dispatch', False)
  _trim_compilations(give_back)


def _is_room_limited() -> bool:
  """Returns whether memory counts for this process before it is written to."""
  limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
  if any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits):
    return True
  return not _OVERCOMMIT.is_file() or _OVERCOMMIT.read_text().strip() == '2'


def _ask_for_large_pages(library: Any) -> None:
  """Gives the heap room of half the machine's memory, in pages of 2 MB.

  A small block above the room is never freed. It keeps the room in the heap when free memory goes
  back to the system. Where the system or malloc puts them elsewhere, the heap stays as it is.
  """
  library.malloc.restype = library.sbrk.restype = ctypes.c_void_p
  size = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
  room, above = (library.malloc(ctypes.c_size_t(length)) for length in (size, _LARGE_PAGE))
  if room and above and room < above < library.sbrk(ctypes.c_ssize_t(0)):
    start = -(-room // _LARGE_PAGE) * _LARGE_PAGE
    length = (room + size - start) // _LARGE_PAGE * _LARGE_PAGE
    library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
  else:
    library.free(ctypes.c_void_p(above))
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
