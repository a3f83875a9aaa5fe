"""The record of a run's starts, `run.json`: command, versions, devices, commit."""

import collections
import datetime
import importlib.metadata
import logging
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from stretchnas_jax.machine import devices, facts
from stretchnas_jax.runs.json_files import read_object

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'stretchnas_jax')


def record(
  path: pathlib.Path,
  argv: Sequence[str],
  data: dict | None = None,
  config: Mapping[str, Any] | None = None,
) -> dict:
  """Returns the facts of this start, and the list of all starts so far under `starts`.

  Args:
    path: the `run.json` of earlier starts, if there were any.
    argv: the command line; empty for a call from Python.
    data: facts about the images, which stand under `data`.
    config: the fields of the run, nested; None where they are not known.
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
    'precision': precision(config),
    'git_commit': _git_commit(),
  }
  if starts and isinstance(starts[-1], dict) and (text := changes(starts[-1], now)):
    logging.warning('%s', text)
  own = {} if data is None else {'data': data}
  return {**now, **own, 'starts': [*starts, now]}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """Returns a sentence about versions and devices that differ between two starts; '' for none.

  Args:
    before: the record of the earlier start.
    now: the record of this start.
  """
  old, new = before.get('versions', {}), now['versions']
  found = [f'{name} {old[name]} -> {new[name]}' for name in PACKAGES if old.get(name) != new[name]
           and name in old]  # fmt: skip
  if before.get('devices', now['devices']) != now['devices']:
    found.append(f'devices {_counted(before["devices"])} -> {_counted(now["devices"])}')
  if not found:
    return ''
  return f'since the last start of this run: {", ".join(found)}; the last digits may differ'


def _counted(names: Sequence[str]) -> str:
  return ' + '.join(f'{count} x {name}' for name, count in collections.Counter(names).items())


def precision(config: Mapping[str, Any] | None) -> str:
  """Returns the precision of matrix products, and the type and the kind of device that it is of.

  Args:
    config: the fields of the run, nested.
  """
  model = (config or {}).get('model', {})
  wanted = model.get('precision', 'default')
  if wanted == 'default':
    wanted = f'{jax.config.jax_default_matmul_precision or "default"}'
  return f'{wanted}, {model.get("dtype", "float32")} on {devices.kind()}'


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
