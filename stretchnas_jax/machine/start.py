"""Settings of this process that let searches and trainings start sooner and run faster."""

import functools
import gc
import logging
import os
from collections.abc import Callable

from stretchnas_jax.machine import host_memory, program_cache

_SWITCH = 'STRETCHNAS_SET_UP'
_OBJECTS = 100_000  # new objects before the garbage collector looks for cycles


@functools.cache
def set_up() -> None:
  """Makes three settings of this process, once; commands and calls from Python get the same.

  - JAX keeps compiled programs on disk, so that a second start on as many cores compiles
    nothing.
  - The C library keeps the memory of one step for the next one, in large pages on Linux.
  - The garbage collector runs less often, since tracing makes millions of objects that stay.

  Each setting that the user has made stays as it is. A setting that fails is a warning. With
  STRETCHNAS_SET_UP=0 in the environment nothing is set.
  """
  if os.environ.get(_SWITCH) == '0':
    return
  settings: tuple[Callable[[], None], ...] = (
    program_cache.use_cache,
    host_memory.set_up,
    _collect_less_often,
  )
  for setting in settings:
    try:
      setting()
    except Exception as error:  # a run works without them, only slower
      logging.warning('a setting of this process was not made: %s', error)


def _collect_less_often() -> None:
  threshold, middle, old = gc.get_threshold()
  # 0 turns the collector off, and is the user's choice.
  if 0 < threshold < _OBJECTS:
    gc.set_threshold(_OBJECTS, max(middle, 50), max(old, 50))
