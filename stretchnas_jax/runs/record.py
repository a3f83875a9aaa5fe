"""The record of a run's starts, `run.json`: command, versions, devices, commit."""

import datetime
import importlib.metadata
import logging
import pathlib
import platform
import subprocess
from collections.abc import Sequence

from stretchnas_jax.machine import devices, facts
from stretchnas_jax.runs.json_files import read_object

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'stretchnas_jax')


def record(path: pathlib.Path, argv: Sequence[str]) -> dict:
  """Returns the facts of this start, and the list of all starts so far under `starts`.

  Args:
    path: the `run.json` of earlier starts, if there were any.
    argv: the command line; empty for a call from Python.
  """
  try:
    starts = list(read_object(path)['starts']) if path.exists() else []
  except (ValueError, KeyError, TypeError):
    logging.warning('%s is damaged; a new list of starts begins', path)
    starts = []
  now = {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'argv': list(argv),
    'versions': {'python': platform.python_version(), **versions()},
    'machine': facts.facts(),
    'devices': devices.names(),
    'git_commit': _git_commit(),
  }
  return {**now, 'starts': [*starts, now]}


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
  """Returns `{name: version}` of packages; None for one that is not installed."""
  found: dict[str, str | None] = {}
  for name in packages:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = None
  return found


def _git_commit() -> str | None:
  """Returns the commit of this source tree, `-dirty` if it was edited; None outside of git."""
  root = pathlib.Path(__file__).parents[2]
  if not (root / '.git').exists():
    return None
  options = ['describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
  try:
    answer = subprocess.run(
      ['git', '-C', str(root), *options], capture_output=True, text=True, timeout=10
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return answer.stdout.strip() or None if answer.returncode == 0 else None
