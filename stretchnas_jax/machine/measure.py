"""What a program costs: time to compile it, memory at its peak, a trace of what it does."""

import contextlib
import pathlib
import resource
import sys
from typing import NamedTuple

import jax
from jax import monitoring

from stretchnas_jax.machine import devices

# What JAX calls the time that lowering a program takes, right before its compilation; that of the
# compilation; and that of getting a program out of its cache.
LOWERED = '/jax/core/compile/jaxpr_to_mlir_module_duration'
COMPILED = '/jax/core/compile/backend_compile_duration'
FROM_CACHE = '/jax/compilation_cache/cache_retrieval_time_sec'


class Compilation(NamedTuple):
  """The compiler's part of some work."""

  seconds: list  # of each program, in order
  cached: list  # of those that came out of the cache, the time that took

  @property
  def from_cache(self):
    return bool(self.cached)


@contextlib.contextmanager
def compilation():
  """Yields a `Compilation` that fills while JAX compiles within the block."""
  found = Compilation([], [])

  def listen(event, seconds, **_):
    if event == COMPILED:
      found.seconds.append(seconds)
    elif event == FROM_CACHE:
      found.cached.append(seconds)

  monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    monitoring.unregister_event_duration_listener(listen)


def peak_memory_mb():
  """The most memory so far, in MiB: of the fullest accelerator, or on a CPU of this process.

  The latter includes what the compiler took.
  """
  stats = [
    device.memory_stats() for device in devices.of_this_process() if device.platform != 'cpu'
  ]
  if any(stats):
    return max(s['peak_bytes_in_use'] for s in stats if s) / 2**20
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**20 if sys.platform == 'darwin' else 2**10)


@contextlib.contextmanager
def trace(folder):
  """Leaves a trace of the block under `folder`, for TensorBoard and Perfetto; None for no trace."""
  if folder is None:
    yield
    return
  with jax.profiler.trace(str(folder), create_perfetto_trace=True):
    yield


def traces(folder):
  """The files that `trace` has left, those for Perfetto (`*.json.gz`) last."""
  found = (path for path in pathlib.Path(folder).rglob('*') if path.is_file())
  return sorted(found, key=lambda path: (path.suffix == '.gz', path.name))
