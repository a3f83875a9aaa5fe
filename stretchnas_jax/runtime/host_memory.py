"""What this process takes of the host's memory, for the compiler and for the steps of a CPU."""

import ctypes
import functools
import os

from jax import monitoring

from stretchnas_jax.runtime import measure

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of malloc.h
# What malloc is told, and by what a user sets it.
SETTINGS = (
  (M_ARENA_MAX, 1, 'MALLOC_ARENA_MAX', 'glibc.malloc.arena_max'),  # one heap for all threads
  (M_MMAP_MAX, 0, 'MALLOC_MMAP_MAX_', 'glibc.malloc.mmap_max'),  # large blocks lie in it too
  (M_TRIM_THRESHOLD, 2**31 - 1, 'MALLOC_TRIM_THRESHOLD_', 'glibc.malloc.trim_threshold'),
)
# Shorter compilations leave little behind; a second is many times what giving it back takes.
LEAST_SECONDS = 1.0


@functools.cache
def use_one_heap():
  """One heap, that keeps the memory of a step for the next one and not what the compiler leaves.

  XLA asks malloc for a step's temporary memory each time. By default large blocks come from the
  system and go back to it, and each of their pages is a fault: 98,000 in a training step of
  DARTS_V2 at C 36, 20 layers, batch 8, which takes up to a fifth less time without them (two CPU
  cores); a search has few, and gains nothing.
  And each thread of the compiler would have a heap of its own, of which glibc keeps what is free:
  one heap, given back after a compilation, makes the peak of that training about 1 GB lower.

  Only glibc is told; what the user has set in the environment stays.
  """
  library = ctypes.CDLL(None)
  if not (hasattr(library, 'mallopt') and hasattr(library, 'malloc_trim')):
    return
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  for parameter, value, variable, tunable in SETTINGS:
    if variable not in os.environ and f'{tunable}=' not in tunables:
      library.mallopt(parameter, value)

  def trim(event, seconds, **_):
    if event == measure.COMPILED and seconds >= LEAST_SECONDS:
      library.malloc_trim(0)

  monitoring.register_event_duration_secs_listener(trim)
