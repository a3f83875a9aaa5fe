"""Keeps arrays that are slow to make on disk; a run never fails because of the disk."""

import contextlib
import hashlib
import logging
import os
import pathlib
import stat
import tempfile
import time
from collections.abc import Callable, Mapping

import numpy as np

from stretchnas_jax.machine import files

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
"""The bits of a mode that let others write."""
_TEMPORARY = f'{files.TEMPORARY}arrays-'
_STALE = 24 * 60 * 60  # seconds after which a file that is not complete has no writer any more


def cached(
  name: str,
  key: str,
  make: Callable[[], dict[str, np.ndarray]],
  folder: str | os.PathLike | None = None,
) -> dict[str, np.ndarray]:
  """Returns the arrays of `make()`, from the cache if it holds them.

  Args:
    name: of the entry. An entry with another key replaces it, so that old entries do not pile up.
    key: a text that changes whenever the arrays would change.
    make: returns the arrays by name.
    folder: of the cache; None is the user's own.
  """
  try:
    file = own_folder(pathlib.Path(folder) if folder else default_folder()) / f'{name}.npz'
  except RuntimeError:  # the user has no home folder
    return make()
  except OSError as error:
    logging.warning('decoded images are not kept: %s', error)
    return make()
  arrays = _read(file, key)
  if arrays is None:
    arrays = make()
    _write(file, key, arrays)
  return arrays


def default_folder() -> pathlib.Path:
  """Returns `$XDG_CACHE_HOME/stretchnas_jax`, or `~/.cache/stretchnas_jax` without that variable.

  Raises:
    RuntimeError: the user has no home folder.
  """
  folder = os.environ.get('XDG_CACHE_HOME', '')
  # The XDG standard asks programs to ignore a relative path.
  base = pathlib.Path(folder) if os.path.isabs(folder) else pathlib.Path.home() / '.cache'
  return base / 'stretchnas_jax'


def own_folder(folder: pathlib.Path) -> pathlib.Path:
  """Returns a folder to which only this user can write, and makes it where it is missing.

  Raises:
    OSError: it cannot be made, it belongs to another user, or others may write to it.
  """
  for place in (*reversed(folder.parents), folder):
    if not place.exists():
      place.mkdir(mode=0o700, exist_ok=True)
  found = os.stat(folder)
  if not stat.S_ISDIR(found.st_mode):
    raise NotADirectoryError(f'{folder} is not a folder')
  if not (is_own(found) and is_own(os.lstat(folder))):
    raise PermissionError(f'{folder} belongs to another user')
  if found.st_mode & OTHERS_WRITE:
    raise PermissionError(f'others may write to {folder}: delete it, a new one is made')
  return folder


def is_own(found: os.stat_result) -> bool:
  """Returns True for a file or folder of this user."""
  return not hasattr(os, 'geteuid') or found.st_uid == os.geteuid()  # Windows has no such owners


def _read(file: pathlib.Path, key: str) -> dict[str, np.ndarray] | None:
  """Returns the arrays in a file, or None if it is absent, damaged or has another key."""
  try:
    with open(file, 'rb') as stored, np.load(stored, allow_pickle=False) as saved:
      if not is_own(os.fstat(stored.fileno())):
        raise PermissionError('it belongs to another user')
      if str(saved['key']) != key:
        return None
      return {name: saved[name] for name in saved.files if name != 'key'}
  except FileNotFoundError:
    return None
  except Exception as error:  # a damaged archive raises one of a dozen types
    logging.warning('the cache %s cannot be read and is made again (%s)', file, error)
    return None


def _write(file: pathlib.Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays to a file by an atomic rename, so that a reader sees all of it or nothing."""
  temporary = None
  try:
    _clear(file.parent)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=_TEMPORARY, delete=False) as out:
      temporary = out.name
      np.savez(out, key=np.array(key), **arrays)  # pyrefly: ignore[bad-argument-type]
    os.replace(temporary, file)
  except OSError as error:
    logging.warning('the cache %s cannot be written (%s)', file, error)
  finally:
    if temporary:
      with contextlib.suppress(OSError):  # most often it has its final name now
        os.unlink(temporary)


def _clear(folder: pathlib.Path) -> None:
  """Removes files that a killed process has left; a living one writes to its file all the time."""
  for file in folder.glob(f'{_TEMPORARY}*'):
    with contextlib.suppress(OSError):  # another process may remove it too
      if time.time() - file.stat().st_mtime > _STALE:
        file.unlink()


def digest(*parts: object) -> str:
  """Returns a short text that depends on all of the values.

  Args:
    *parts: any values, which are converted to text. File names need not be valid text.
  """
  text = '\0'.join(map(str, parts))
  return hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:16]
