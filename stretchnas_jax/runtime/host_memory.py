"""What this process takes of the host's memory, most of it for the compiler."""

import ctypes
import functools
import os

from jax import monitoring

from stretchnas_jax.runtime import measure

M_ARENA_MAX = -8  # of malloc.h: the number of heaps
# Shorter compilations leave little behind; a second is many times what giving it back takes.
LEAST_SECONDS = 1.0


@functools.cache
def spare():
  """Lets the threads of the compiler share one heap, and gives back what it leaves behind.

  Each would have a heap of its own, and glibc keeps what is free in any of them. At their first
  start a search step at C 16, 8 layers, S 4, batch 16 needed 2.3 GB at its peak instead of 2.7, a
  training step of DARTS_V2 at C 36, 20 layers, batch 8 2.1 instead of 2.9 (two CPU cores). Steps
  took as long as before, within the noise. A heap that keeps the memory of a step spares its page
  faults too, but after a compilation the step took a tenth longer or more, nobody knows why.

  Only glibc is told; the number of heaps that the user has set in the environment stays.
  """
  library = ctypes.CDLL(None)
  if not (hasattr(library, 'mallopt') and hasattr(library, 'malloc_trim')):
    return
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  if 'MALLOC_ARENA_MAX' not in os.environ and 'glibc.malloc.arena_max=' not in tunables:
    library.mallopt(M_ARENA_MAX, 1)

  def trim(event, seconds, **_):
    if event == measure.COMPILED and seconds >= LEAST_SECONDS:
      library.malloc_trim(0)

  monitoring.register_event_duration_secs_listener(trim)
