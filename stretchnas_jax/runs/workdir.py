"""The folder of a run: its config, its lock, and files that are whole or absent.

A file appears under its name only when it is complete: it is written beside it and renamed.
"""

import dataclasses
import fcntl
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import filelock
import jax

from stretchnas_jax.config import ConfigDict
from stretchnas_jax.machine.files import TEMPORARY, replace
from stretchnas_jax.runs import fields as fields_lib
from stretchnas_jax.runs import identity
from stretchnas_jax.runs.fields import Refused
from stretchnas_jax.runs.json_files import Lines, dumps, read_object
from stretchnas_jax.runs.record import record

LOCK = '.lock'

# Seconds to wait for the lock: `in_use` of another process may hold it for a moment.
_PATIENCE = 0.2


@dataclasses.dataclass(frozen=True)
class Workdir:
  """A run's folder. In a job of several processes only the first one writes.

  Attributes:
    path: an absolute path.
    config: the content of `config.json`: the fields with which the run was made.
    writes: False in a process that only reads.
    lock: keeps other processes out, until `close` or the end of this process.
  """

  path: pathlib.Path
  config: dict = dataclasses.field(default_factory=dict)
  writes: bool = True
  lock: filelock.BaseFileLock | None = None

  @classmethod
  def open(
    cls,
    path: pathlib.Path | str,
    config: dict,
    *,
    argv: Sequence[str],
    ignore: Sequence[str] = (),
    defaults: dict | None = None,
    facts: dict | None = None,
    data: dict | None = None,
  ) -> 'Workdir':
    """Makes the folder of a run, or takes up the folder of an earlier start with the same config.

    Args:
      path: the folder.
      config: a plain dict, nested, that JSON can hold.
      argv: the command line, kept for the record.
      ignore: fields, or groups of them, that may differ: `('log', 'checkpoint.keep')`.
      defaults: values of fields that the folder's config may lack, nested.
      facts: see `identity.facts_of`; None where there are none to compare.
      data: facts about the images, for the record.

    Returns:
      A `Workdir`. It keeps other processes out until it is closed. It is also a context manager.

    Raises:
      Refused: another config made it, it is not a run, or another process works in it. Nothing has
        been changed then.
      OSError: it cannot be read or made.
    """
    path = absolute(path)
    config, defaults = json.loads(dumps(config)), json.loads(dumps(defaults or {}))
    _check_place(path, config, ignore, defaults, facts)
    writes = jax.process_index() == 0
    lock = _acquire(path) if writes else None
    try:
      # Checked again, now that nobody else can write.
      stored = _check_place(path, config, ignore, defaults, facts)
      if stored is not None:
        config = fields_lib.kept(stored, config, defaults)
      workdir = cls(path, config, writes, lock)
      workdir.write_json('config.json', config)
      if facts is not None and identity.known(path) != json.loads(dumps(facts)):
        workdir.write_json(identity.FILE, facts)
      workdir.write_json('run.json', record(path / 'run.json', argv, data, config))
    except BaseException:
      if lock is not None:
        lock.release()
      raise
    return workdir

  def __enter__(self) -> 'Workdir':
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def close(self) -> None:
    """Lets other processes in."""
    if self.lock is not None:
      self.lock.release()

  @property
  def finished(self) -> bool:
    """True once the result of the run is written."""
    return (self.path / 'result.json').exists()

  def lines(self, name: str) -> Lines:
    """Returns the file of JSON lines with that name."""
    return Lines(self.path / name, self.writes)

  def write_text(self, name: str, text: str) -> None:
    """Puts a whole text file in place at once.

    Args:
      name: of the file.
      text: its content.
    """
    self.write_bytes(name, text.encode('utf-8'))

  def write_json(self, name: str, value: Any) -> None:
    """Puts a whole JSON file in place at once.

    Args:
      name: of the file.
      value: see `json_files.dumps`.
    """
    self.write_text(name, dumps(value, indent=2) + '\n')

  def write_bytes(self, name: str, data: bytes) -> None:
    """Puts a whole file in place at once; after a crash there is the old one or the new one.

    Args:
      name: of the file.
      data: its content.
    """
    if self.writes:
      self.path.mkdir(parents=True, exist_ok=True)
      replace(self.path / name, data)


def absolute(path: pathlib.Path | str) -> pathlib.Path:
  """Returns the absolute path of a folder; `~` is the user's home.

  Raises:
    ValueError: the user has no home.
  """
  try:
    return pathlib.Path(path).expanduser().absolute()
  except RuntimeError as error:
    raise ValueError(f'workdir {path}: {error}') from error


def check_outside(path: pathlib.Path, config: ConfigDict) -> None:
  """Raises Refused where a run would put its files among the images that it reads.

  Args:
    path: the folder of the run.
    config: of the run.
  """
  data = config['data']
  if data['name'] != 'folder' or not data['path']:
    return
  images = absolute(data['path']).resolve()
  if images in (path.resolve(), *path.resolve().parents):
    raise Refused(
      f'workdir {path} lies inside the images of config.data.path={data["path"]}, and would be '
      'taken for a class: choose a workdir outside'
    )


def _acquire(path: pathlib.Path) -> filelock.BaseFileLock:
  """Makes the folder and locks it; the system releases the lock of a dead process."""
  path.mkdir(parents=True, exist_ok=True)
  lock = filelock.FileLock(path / LOCK)
  try:
    lock.acquire(timeout=_PATIENCE)
  except filelock.Timeout:
    raise Refused(
      f'workdir {path} is in use by another process: wait until it ends, or choose another workdir'
    ) from None
  return lock


def in_use(path: pathlib.Path) -> bool:
  """Returns whether a process of this machine works in the folder of a run."""
  try:
    with (path / LOCK).open('rb') as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # closing the file releases it
  except BlockingIOError:
    return True
  except OSError:  # there is no lock, or the system has none
    return False
  return False


def _check_place(
  path: pathlib.Path, config: dict, ignore: Sequence[str], defaults: dict, facts: dict | None
) -> dict | None:
  """Refuses a folder that is not a run, or is another run; returns its config, if it has one."""
  if path.exists() and not path.is_dir():
    raise Refused(f'workdir {path} is a file')
  # Listed first: a start that begins meanwhile writes its config before its other files.
  names = [file.name for file in path.iterdir()] if path.is_dir() else []
  if (path / 'config.json').exists():
    stored = read_object(path / 'config.json')
    known = None if facts is None else identity.known(path)
    # The fingerprint says which data they are, and then their place may change.
    free = ignore if known is None else (*ignore, *identity.PLACE)
    fields_lib.check_same(path, stored, config, free, defaults)
    if known is not None and facts is not None:
      compare_times = config.get('data', {}).get('compare_times', True)
      identity.check(path, known, facts, compare_times)
    return stored
  # Of several seeds each may have begun alone, in its own folder.
  passed = (TEMPORARY, LOCK, 'seed_') if 'seeds' in config else (TEMPORARY, LOCK)
  if not all(name.startswith(passed) for name in names):
    raise Refused(f'workdir {path} is not empty, and it is not a run: it has no config.json')
  return None
