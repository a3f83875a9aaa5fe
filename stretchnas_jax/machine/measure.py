"""The cost of a program: time to compile it, memory at its peak, a trace of its work."""

import contextlib
import os
import pathlib
import resource
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax import monitoring

from stretchnas_jax.machine import devices

# The names under which JAX reports seconds; a test tells when they change.
LOWERED = '/jax/core/compile/jaxpr_to_mlir_module_duration'
"""The lowering of a program, right before its compilation."""
COMPILED = '/jax/core/compile/backend_compile_duration'
"""The compilation of a program, or its loading from JAX's cache."""
FROM_CACHE = '/jax/compilation_cache/cache_retrieval_time_sec'
"""The loading of a program from JAX's cache."""


class Compilation(NamedTuple):
  """The compiler's part of some work.

  Attributes:
    seconds: for each program, in order.
    cached: the seconds of each program that came from the cache.
  """

  seconds: list[float]
  cached: list[float]

  @property
  def from_cache(self) -> bool:
    """Whether any program came from the cache."""
    return bool(self.cached)


@contextlib.contextmanager
def compilation() -> Iterator[Compilation]:
  """Yields a `Compilation` that fills while JAX compiles within the context."""
  found = Compilation([], [])

  def listen(event: str, duration_secs: float, **_: Any) -> None:
    if event == COMPILED:
      found.seconds.append(duration_secs)
    elif event == FROM_CACHE:
      found.cached.append(duration_secs)

  monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    monitoring.unregister_event_duration_listener(listen)


def peak_memory_mb() -> float:
  """Returns the most memory in use so far, in MiB: of the fullest accelerator, or of this process.

  The figure of the process, for a CPU, includes the memory of the compiler.
  """
  accelerators = [device for device in devices.of_this_process() if device.platform != 'cpu']
  known = [stats for stats in (device.memory_stats() for device in accelerators) if stats]
  if known:
    return max(stats['peak_bytes_in_use'] for stats in known) / 2**20
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**20 if sys.platform == 'darwin' else 2**10)


@contextlib.contextmanager
def trace(folder: str | os.PathLike[str] | None) -> Iterator[None]:
  """Writes a trace of the context under a folder, for TensorBoard and Perfetto; None for none."""
  if folder is None:
    yield
    return
  with jax.profiler.trace(str(folder), create_perfetto_trace=True):
    yield


def traces(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
  """Returns the files that `trace` has left, those for Perfetto (`*.json.gz`) last."""
  found = (path for path in pathlib.Path(folder).rglob('*') if path.is_file())
  return sorted(found, key=lambda path: (path.suffix == '.gz', path.name))
