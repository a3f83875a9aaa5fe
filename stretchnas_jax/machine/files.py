"""Files that are whole and on the disk once a write returns, or not there at all."""

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import NoReturn

TEMPORARY = '.part-'
"""The beginning of the name of a file that is not complete yet."""


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
  """Adds a file to errors of the system that name none, such as that of a full disk."""
  try:
    yield
  except OSError as error:
    if error.errno and error.filename is None:
      error.filename = str(path)
    raise


def replace(path: pathlib.Path, data: bytes) -> None:
  """Writes a whole file and waits for the disk; after a crash there is the old file or the new one.

  Args:
    path: of the file; its folder must exist.
    data: the new content.

  Raises:
    OSError: the file is as it was.
  """
  with _naming(path):
    temporary = path.parent / f'{TEMPORARY}{secrets.token_hex(8)}'
    try:
      with open(temporary, 'xb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)
    except BaseException:
      with contextlib.suppress(OSError):  # the first error is the one to see
        os.unlink(temporary)
      raise
    sync(path.parent)


def append(path: str | os.PathLike[str], data: bytes) -> None:
  """Adds to a file, which is made where it is missing, and waits for the disk.

  Args:
    path: of the file; its folder must exist.
    data: the bytes to add.

  Raises:
    OSError: a part of the data may have been written.
  """
  new = not os.path.exists(path)
  # One write, so that no reader sees half a line.
  with _naming(path), open(path, 'ab', buffering=0) as file:
    if file.write(data) != len(data):
      raise OSError(f'{path}: there was no room for a whole line')
    os.fsync(file.fileno())
  if new:
    sync(pathlib.Path(path).parent)


def sync(path: str | os.PathLike[str]) -> None:
  """Waits until a file, or the list of names in a folder, is on the disk."""
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def sync_tree(folder: str | os.PathLike[str]) -> None:
  """Waits until a folder and everything in it is on the disk.

  Raises:
    OSError: something there cannot be read.
  """

  def fail(error: OSError) -> NoReturn:
    raise error

  for place, _, names in os.walk(folder, topdown=False, onerror=fail):
    for name in names:
      sync(os.path.join(place, name))
    sync(place)
