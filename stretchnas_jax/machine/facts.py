"""Facts about the machine on which a figure was measured."""

import os
import pathlib
import platform

import jax

# Settings of JAX that change random numbers, or the precision of a result.
_SETTINGS = (
  'jax_default_prng_impl', 'jax_threefry_partitionable', 'jax_enable_x64',
  'jax_default_matmul_precision',
)  # fmt: skip


def facts() -> dict[str, str | int | None]:
  """Returns model and number of CPU cores; `devices.names` tells the devices of JAX."""
  return {'cpu': _cpu_model(), 'cores': os.cpu_count()}


def num_cores() -> int:
  """Returns the number of cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def jax_settings() -> dict[str, str | bool | None]:
  """Returns the settings of JAX, by name, on which the numbers of a run depend."""
  return {name: getattr(jax.config, name) for name in _SETTINGS}


def flags() -> dict[str, str]:
  """Returns the flags of XLA and of its TPU library, without those that only write files."""
  found = {}
  for name in ('XLA_FLAGS', 'LIBTPU_INIT_ARGS'):
    words = os.environ.get(name, '').split()
    found[name] = ' '.join(sorted(w for w in words if not w.startswith('--xla_dump')))
  return found


def _cpu_model() -> str:
  """Returns the model of the CPU as the system names it."""
  path = pathlib.Path('/proc/cpuinfo')
  for line in path.read_text('utf-8').splitlines() if path.exists() else ():
    if line.startswith('model name'):
      return line.split(':', 1)[1].strip()
  return platform.processor() or platform.machine()
