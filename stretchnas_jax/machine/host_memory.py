"""What this process takes of the host's memory, for the compiler and for the steps of a CPU."""

import ctypes
import functools
import os
import threading
import time

import jax
from jax import monitoring

from stretchnas_jax.machine import measure

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
# What malloc is told, and by what a user sets it.
SETTINGS = (
  (M_MMAP_MAX, 0, 'MALLOC_MMAP_MAX_', 'glibc.malloc.mmap_max'),  # large blocks lie in a heap too
  # Never by itself. The largest number of bytes that mallopt takes is 2 GB, and a training step of
  # DARTS_V2 at batch 64 has 3: its 735,000 faults were 1.8 of 6 s.
  (M_TRIM_THRESHOLD, -1, 'MALLOC_TRIM_THRESHOLD_', 'glibc.malloc.trim_threshold'),
)
TRIM_EVERY = 0.5  # seconds; one takes 8 ms


@functools.cache
def set_up():
  """Steps on a CPU keep their memory for the next one; what the compiler leaves is given back.

  XLA asks malloc for a step's temporary memory each time. By default large blocks come from the
  system and go back to it, and each of their pages is a fault: 98,000 in a training step of
  DARTS_V2 at C 36, 20 layers, batch 8. A heap keeps them; but only that of the main thread has room
  for blocks above 64 MB, so that it is this thread that has to run the steps.

  Each of the compiler's threads has a heap of its own, of which glibc keeps what is free: 0.7 of
  3.0 GB at the peak of a search at C 16, 8 layers. To let all share one does not help: compiling
  and, in a heap full of holes, all later steps took about a third longer (two CPU cores).

  Only glibc is told; what the user has set in the environment stays.
  """
  library = ctypes.CDLL(None)
  if not (hasattr(library, 'mallopt') and hasattr(library, 'malloc_trim')):
    return
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  for parameter, value, variable, tunable in SETTINGS:
    if variable not in os.environ and f'{tunable}=' not in tunables:
      library.mallopt(parameter, value)
  if 'JAX_CPU_ENABLE_ASYNC_DISPATCH' not in os.environ:
    jax.config.update('jax_cpu_enable_async_dispatch', False)
  trim_compilations(give_back)


def give_back():
  """What malloc keeps for later goes back to the system, where it is glibc's."""
  trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
  if trim is not None:
    trim(0)


def trim_compilations(trim):
  """Calls `trim` again and again while JAX compiles, and after what took long.

  That is a compilation, or to load what has once been compiled.
  """
  compiling = threading.Event()

  def listen(event, seconds, **_):
    if event == measure.LOWERED:
      compiling.set()
    elif event == measure.COMPILED:
      compiling.clear()
      if seconds >= TRIM_EVERY:
        trim()
    elif event == measure.FROM_CACHE:
      trim()

  def work():
    while compiling.wait():
      time.sleep(TRIM_EVERY)
      if compiling.is_set():
        trim()

  # pyrefly: ignore[bad-argument-type]
  monitoring.register_event_duration_secs_listener(listen)
  threading.Thread(target=work, name='trim', daemon=True).start()
