"""Fresh processes that measure, and the machine that they run on.

Nothing here imports JAX or PyTorch. The peak memory of a process counts the memory that its parent
held when it started.
"""

import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch')


def run(
  module: str,
  words: Iterable[str],
  environment: Mapping[str, str] | None = None,
  timeout: float | None = None,
) -> dict[str, Any]:
  """Runs `python -m module words` and returns the JSON object that it prints.

  Args:
    module: the module of the program.
    words: its command line.
    environment: variables that are added to those of this process.
    timeout: the most seconds that it may take; None for any number.

  Returns:
    The object, with `started_at`: the time of the start in seconds since 1970.

  Raises:
    RuntimeError: the process failed. Its last lines are in the text.
    subprocess.TimeoutExpired: it took longer than `timeout`, and was ended.
  """
  command = [sys.executable, '-m', module, *words]
  started = time.time()
  with subprocess.Popen(
    command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    env={**os.environ, **(environment or {})}, start_new_session=True,
  ) as process:  # fmt: skip
    try:
      printed, said = process.communicate(timeout=timeout)
    except BaseException:
      os.killpg(process.pid, signal.SIGKILL)  # the processes that it has started too
      raise
  if process.returncode:
    last = '\n'.join(said.splitlines()[-15:])
    raise RuntimeError(f'{" ".join(command[1:])} ended with {process.returncode}:\n{last}')
  return {**json.loads(printed.splitlines()[-1]), 'started_at': started}


def benchmark(
  words: Iterable[str],
  cache: str | pathlib.Path | None = None,
  environment: Mapping[str, str] | None = None,
  **options: Any,
) -> dict[str, Any]:
  """Runs the benchmark of the package.

  Args:
    words: its command line.
    cache: the folder of compiled programs; None for an empty one.
    environment: variables that are added to those of this process.
    **options: further arguments of `run`.

  Returns:
    The figures that it prints.
  """
  with contextlib.ExitStack() as stack:
    folder = cache or stack.enter_context(tempfile.TemporaryDirectory())
    variables = {'XDG_CACHE_HOME': str(folder), **(environment or {})}
    return run('stretchnas_jax.benchmark', words, variables, **options)


def require(*packages: str) -> None:
  """Ends this program in one sentence unless all packages are installed."""
  lacking = [name for name in packages if importlib.util.find_spec(name) is None]
  if lacking:
    print(f'{lacking[0]} is not installed: pip install {" ".join(lacking)}', file=sys.stderr)
    raise SystemExit(2)


def facts() -> dict[str, Any]:
  """Returns the machine, the versions, the date and the commit of a measurement."""
  return {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'git_commit': _answer(
      ['git', '-C', str(ROOT), 'describe', '--always', '--dirty', '--abbrev=12']
    ),
    'machine': {
      'cpu': cpu_model(),
      'cores': os.cpu_count(),
      'memory_gb': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9),
      'load': round(os.getloadavg()[0], 2),  # of other work, before this one
      'gpu': _answer(['nvidia-smi', '--query-gpu=name', '--format=csv,noheader']),
    },
    'versions': {
      'python': platform.python_version(),
      **{name: _version(name) for name in PACKAGES},
    },
  }


def cpu_model() -> str:
  """Returns the name of the processor."""
  path = pathlib.Path('/proc/cpuinfo')
  lines = path.read_text('utf-8').splitlines() if path.exists() else []
  models = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
  return models[0] if models else platform.processor() or platform.machine()


def _answer(command: Sequence[str]) -> str | None:
  """Returns the output of a command, or None where it does not exist or fails."""
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
  except (OSError, subprocess.TimeoutExpired):
    return None
  return done.stdout.strip() or None if done.returncode == 0 else None


def _version(package: str) -> str | None:
  """Returns the version of an installed package, or None."""
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None
