"""What a figure was measured on."""

import os
import pathlib
import platform


def facts():
  """`{'cpu', 'cores'}`; devices are named in a run's `run.json` beside it."""
  return {'cpu': cpu_model(), 'cores': os.cpu_count()}


def cpu_model():
  path = pathlib.Path('/proc/cpuinfo')
  for line in path.read_text('utf-8').splitlines() if path.exists() else ():
    if line.startswith('model name'):
      return line.split(':', 1)[1].strip()
  return platform.processor() or platform.machine()
