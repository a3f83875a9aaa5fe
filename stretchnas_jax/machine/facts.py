"""Facts about the machine on which a figure was measured."""

import os
import pathlib
import platform


def facts() -> dict[str, str | int | None]:
  """Returns model and number of CPU cores; `devices.names` tells the devices of JAX."""
  return {'cpu': _cpu_model(), 'cores': os.cpu_count()}


def _cpu_model() -> str:
  """Returns the model of the CPU as the system names it."""
  path = pathlib.Path('/proc/cpuinfo')
  for line in path.read_text('utf-8').splitlines() if path.exists() else ():
    if line.startswith('model name'):
      return line.split(':', 1)[1].strip()
  return platform.processor() or platform.machine()
