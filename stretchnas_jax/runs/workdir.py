"""The folder of a run: what it was made with, and files that are whole or not there.

A file appears under its name only when it is complete: it is written beside it and renamed. Lines
are appended; one that a crash has torn is dropped by whoever reads or resumes.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import logging
import math
import pathlib
import platform
import subprocess
import zlib

import filelock
import jax
import numpy as np

from stretchnas_jax.machine import facts
from stretchnas_jax.machine.files import TEMPORARY, append, replace

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'stretchnas_jax')
LOCK = '.lock'


class Refused(OSError, ValueError):
  """A folder that a run cannot have."""


@dataclasses.dataclass(frozen=True)
class Workdir:
  """A run's folder. In a job of several processes only the first one writes.

  Attributes:
    path: an absolute Path.
    writes: whether this process writes.
    lock: what keeps other processes out, until `close` or the end of this process.
  """

  path: pathlib.Path
  writes: bool = True
  lock: filelock.BaseFileLock | None = None

  @classmethod
  def open(cls, path, config, *, argv, ignore=()):
    """Makes the folder of a run, or takes up that of an earlier start with the same config.

    Args:
      path: the folder.
      config: a plain dict, nested, that JSON can hold.
      argv: the command line, kept for the record.
      ignore: fields, or groups of them, that may differ: `('log', 'checkpoint.keep')`.

    Returns:
      A `Workdir`, which keeps other processes out until it is closed; also a context manager.

    Raises:
      ValueError: another config made it, it is no run, or another process works in it; nothing has
        been changed then.
      OSError: it cannot be read or made.
    """
    path = pathlib.Path(path).absolute()
    config = json.loads(dumps(config))
    check_place(path, config, ignore)
    writes = jax.process_index() == 0
    workdir = cls(path, writes, acquire(path) if writes else None)
    try:
      check_place(path, config, ignore)  # once more, now that nobody else can write
      workdir.write_json('config.json', config)
      workdir.write_json('run.json', record(path / 'run.json', argv))
    except BaseException:
      workdir.close()
      raise
    return workdir

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def close(self):
    """Lets other processes in."""
    if self.lock is not None:
      self.lock.release()

  @property
  def finished(self):
    return (self.path / 'result.json').exists()

  def lines(self, name):
    """The JSON lines file of that name."""
    return Lines(self.path / name, self.writes)

  def write_text(self, name, text):
    self.write_bytes(name, text.encode('utf-8'))

  def write_json(self, name, value):
    self.write_text(name, dumps(value, indent=2) + '\n')

  def write_bytes(self, name, data):
    """Puts a whole file in place at once; after a crash there is the old one or the new one."""
    if self.writes:
      self.path.mkdir(parents=True, exist_ok=True)
      replace(self.path / name, data)


@dataclasses.dataclass(frozen=True)
class Lines:
  """A file of JSON objects, one a line, each with a `step`."""

  path: pathlib.Path
  writes: bool = True

  def append(self, values):
    """Adds one object; numbers that JSON lacks (NaN, infinities) become null."""
    if self.writes:
      append(self.path, f'{dumps(values)}\n'.encode())

  def cut_back(self, step):
    """Drops torn lines and those of later steps, as a run that resumes from `step` must."""
    if not (self.writes and self.path.exists()):
      return
    kept = [values for values in read(self.path) if values.get('step', math.inf) <= step]
    text = ''.join(f'{dumps(values)}\n' for values in kept).encode()
    if text != self.path.read_bytes():
      replace(self.path, text)


def acquire(path):
  """Makes the folder if need be and locks it; the system lets go of a dead process's lock."""
  path.mkdir(parents=True, exist_ok=True)
  lock = filelock.FileLock(path / LOCK)
  try:
    lock.acquire(timeout=0)
  except filelock.Timeout:
    raise Refused(
      f'workdir {path} is in use by another process: wait until it ends, or choose another workdir'
    ) from None
  return lock


def check_place(path, config, ignore):
  """Refuses a folder that is no run, or the run of another config."""
  if path.exists() and not path.is_dir():
    raise Refused(f'workdir {path} is a file')
  if (path / 'config.json').exists():
    check_same(path, read_object(path / 'config.json'), config, ignore)
  elif path.is_dir() and any(not p.name.startswith((TEMPORARY, LOCK)) for p in path.iterdir()):
    raise Refused(f'workdir {path} is not empty, and it is no run: it has no config.json')


def read(path):
  """All whole objects of a JSON lines file, in order; [] where there is no file."""
  path = pathlib.Path(path)
  objects = []
  for line in path.read_bytes().split(b'\n') if path.exists() else ():
    try:
      value = json.loads(line)
    except (ValueError, RecursionError):
      continue
    if isinstance(value, dict):
      objects.append(value)
  return objects


def dumps(value, indent=None):
  """JSON text of plain values, numpy scalars and arrays; never NaN, which is no JSON."""
  return json.dumps(plain(value), indent=indent, allow_nan=False)


def plain(value):
  if isinstance(value, dict):
    return {str(name): plain(item) for name, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  if isinstance(value, (np.ndarray, np.generic, jax.Array)):
    return plain(np.asarray(value).tolist())
  if isinstance(value, pathlib.PurePath):
    return str(value)
  return None if isinstance(value, float) and not math.isfinite(value) else value


def read_object(path):
  try:
    value = json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path} is damaged: {error}') from error
  if not isinstance(value, dict):
    raise ValueError(f'{path} is damaged: it holds no JSON object')
  return value


def check_same(path, old, new, ignore):
  """Raises ValueError that names the fields by which two configs differ."""
  old, new = flatten(old), flatten(new)
  shown = lambda values, field: json.dumps(values[field]) if field in values else 'absent'
  differences = [
    f'{field}={shown(old, field)}, now {shown(new, field)}'
    for field in sorted(old.keys() | new.keys())
    if shown(old, field) != shown(new, field) and not is_among(field, ignore)
  ]
  if differences:
    raise Refused(
      f'workdir {path} was made with {"; ".join(differences)}: '
      'choose another workdir, or give the fields their old values'
    )


def digest(config, ignore):
  """A short text that changes with every field of a config but those in `ignore`."""
  flat = flatten(json.loads(dumps(config)))
  kept = {field: value for field, value in flat.items() if not is_among(field, ignore)}
  return f'{zlib.crc32(json.dumps(kept, sort_keys=True).encode()):08x}'


def is_among(field, names):
  """Whether a field, or the group that it is in, is named."""
  return any(field == name or field.startswith(f'{name}.') for name in names)


def flatten(values, prefix=''):
  """`{'search.epochs': 50, ...}`; an empty group is a value."""
  flat = {}
  for name, value in values.items():
    nested = isinstance(value, dict) and value
    flat |= flatten(value, f'{prefix}{name}.') if nested else {prefix + name: value}
  return flat


def record(path, argv):
  """What this start of the run is made of, and the list of all starts so far."""
  try:
    starts = list(read_object(path)['starts']) if path.exists() else []
  except (ValueError, KeyError, TypeError):
    logging.warning('%s is damaged; the list of starts begins anew', path)
    starts = []
  now = {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'argv': [str(word) for word in argv],
    'versions': {'python': platform.python_version(), **versions()},
    'machine': facts.facts(),
    'devices': [f'{device.platform}: {device.device_kind}' for device in jax.devices()],
    'git_commit': git_commit(),
  }
  return {**now, 'starts': [*starts, now]}


def versions(packages=PACKAGES):
  """`{name: version}` of packages; None for one that is not installed."""
  found = {}
  for name in packages:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = None
  return found


def git_commit():
  """The commit of this source tree, with `-dirty` for one that was edited; None outside of git."""
  root = pathlib.Path(__file__).parents[2]
  if not (root / '.git').exists():
    return None
  command = [
    'git',
    '-C',
    str(root),
    'describe',
    '--always',
    '--dirty',
    '--abbrev=40',
    '--exclude=*',
  ]
  try:
    answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
  except (OSError, subprocess.TimeoutExpired):
    return None
  return answer.stdout.strip() or None if answer.returncode == 0 else None
