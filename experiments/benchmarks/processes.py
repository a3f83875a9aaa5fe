"""Fresh processes that measure, and the machine that they run on.

Nothing here imports JAX or PyTorch: the peak memory of a process counts what its parent held when
it was started.
"""

import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch')


def run(module, words, environment=None, timeout=None):
  """Runs `python -m module words` and returns the JSON object that it prints.

  `started_at` is added, the time of the start in seconds since 1970.

  Raises:
    RuntimeError: the process failed; the end of what it said is in the text.
    subprocess.TimeoutExpired: it took more than `timeout` seconds, and was ended.
  """
  command = [sys.executable, '-m', module, *words]
  started = time.time()
  done = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, timeout=timeout,
    env={**os.environ, **(environment or {})},
  )  # fmt: skip
  if done.returncode:
    said = '\n'.join(done.stderr.splitlines()[-15:])
    raise RuntimeError(f'{" ".join(command[1:])} ended with {done.returncode}:\n{said}')
  return {**json.loads(done.stdout.splitlines()[-1]), 'started_at': started}


def benchmark(words, cache=None, environment=None, **options):
  """Our own benchmark, with an empty compilation cache unless the folder `cache` is given."""
  with contextlib.ExitStack() as stack:
    folder = cache or stack.enter_context(tempfile.TemporaryDirectory())
    variables = {'XDG_CACHE_HOME': str(folder), **(environment or {})}
    return run('stretchnas_jax.benchmark', words, variables, **options)


def require(*packages):
  """Ends this program in one sentence, before any work, where a package is not installed."""
  if lacking := [name for name in packages if importlib.util.find_spec(name) is None]:
    print(f'{lacking[0]} is not installed: pip install {" ".join(lacking)}', file=sys.stderr)
    raise SystemExit(2)


def facts():
  """Machine, versions, date and commit: what a figure means nothing without."""
  return {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'git_commit': answer('git', '-C', str(ROOT), 'describe', '--always', '--dirty', '--abbrev=12'),
    'machine': {
      'cpu': cpu_model(),
      'cores': os.cpu_count(),
      'memory_gb': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9),
      'load': round(os.getloadavg()[0], 2),  # of other work, when this one starts
      'gpu': answer('nvidia-smi', '--query-gpu=name', '--format=csv,noheader'),
    },
    'versions': {'python': platform.python_version(), **{name: version(name) for name in PACKAGES}},
  }


def answer(*command):
  """What a command prints, or None where it is not there or fails."""
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
  except (OSError, subprocess.TimeoutExpired):
    return None
  return done.stdout.strip() or None if done.returncode == 0 else None


def cpu_model():
  path = pathlib.Path('/proc/cpuinfo')
  for line in path.read_text('utf-8').splitlines() if path.exists() else ():
    if line.startswith('model name'):
      return line.split(':', 1)[1].strip()
  return platform.processor() or platform.machine()


def version(package):
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None
