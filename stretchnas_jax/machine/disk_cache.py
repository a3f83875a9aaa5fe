"""Arrays that are slow to make, kept on disk; no fault of the disk makes a run fail."""

import contextlib
import hashlib
import logging
import os
import pathlib
import tempfile

import numpy as np


def cached(name, key, make, folder=None):
  """The arrays of `make()`, from the cache where it holds them.

  Args:
    name: of the entry; a later `key` takes its place, so that stale entries do not pile up.
    key: text that changes whenever the arrays would.
    make: () -> mapping of names to arrays.
    folder: of the cache; None for the user's own.
  """
  try:
    file = (pathlib.Path(folder) if folder else default_folder()) / f'{name}.npz'
  except RuntimeError:  # the user has no home
    return make()
  arrays = read(file, key)
  if arrays is None:
    arrays = make()
    write(file, key, arrays)
  return arrays


def default_folder():
  """`$XDG_CACHE_HOME/stretchnas_jax`, or the same under `~/.cache`."""
  folder = os.environ.get('XDG_CACHE_HOME', '')
  # The XDG standard says that a relative path is to be ignored.
  base = pathlib.Path(folder) if os.path.isabs(folder) else pathlib.Path.home() / '.cache'
  return base / 'stretchnas_jax'


def read(file, key):
  """The arrays in `file`, or None if it is absent, damaged or has another key."""
  try:
    with open(file, 'rb') as stored, np.load(stored, allow_pickle=False) as saved:
      if str(saved['key']) != key:
        return None
      return {name: saved[name] for name in saved.files if name != 'key'}
  except FileNotFoundError:
    return None
  except Exception as error:  # a damaged archive raises one of a dozen types
    logging.warning('the cache %s cannot be read and is made anew (%s)', file, error)
    return None


def write(file, key, arrays):
  """Writes by an atomic rename: a reader sees the whole entry or none."""
  temporary = None
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix='.tmp', delete=False) as out:
      temporary = out.name
      np.savez(out, key=np.array(key), **arrays)
    os.replace(temporary, file)
  except OSError as error:
    logging.warning('the cache %s cannot be written (%s)', file, error)
    if temporary:
      with contextlib.suppress(OSError):
        os.unlink(temporary)


def digest(*parts):
  """A short name for any sequence of values; file names need not be valid text."""
  text = '\0'.join(map(str, parts))
  return hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:16]
