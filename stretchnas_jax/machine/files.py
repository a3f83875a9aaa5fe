"""Files that are on the disk when they are said to be: whole, synced, or not there at all."""

import contextlib
import os
import pathlib
import tempfile

TEMPORARY = '.part-'


@contextlib.contextmanager
def named(path):
  """Errors of the system that name no file, such as that of a full disk, name this one."""
  try:
    yield
  except OSError as error:
    if error.errno and error.filename is None:
      error.filename = str(path)
    raise


def replace(path, data):
  """Writes beside `path`, then renames; waits until the disk has both."""
  with named(path):
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
      with os.fdopen(handle, 'wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
      os.chmod(temporary, 0o666 & ~current_umask())
      os.replace(temporary, path)
    except BaseException:
      with contextlib.suppress(OSError):  # the first error is the one to see
        os.unlink(temporary)
      raise
    sync(path.parent)


def append(path, data):
  """Adds to a file in one write, and waits until the disk has it."""
  new = not os.path.exists(path)
  # In one write: a reader never sees two halves of two lines in one.
  with named(path), open(path, 'ab', buffering=0) as file:
    if file.write(data) != len(data):
      raise OSError(f'{path}: there was no room for a whole line')
    os.fsync(file.fileno())
  if new:
    sync(pathlib.Path(path).parent)


def sync(path):
  """Waits until the disk has a file, or the names in a folder."""
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def sync_tree(folder):
  """Waits until the disk has all that a folder holds, and at last its names."""

  def fail(error):
    raise error

  for place, _, names in os.walk(folder, topdown=False, onerror=fail):
    for name in names:
      sync(os.path.join(place, name))
    sync(place)


def current_umask():
  mask = os.umask(0)
  os.umask(mask)
  return mask
