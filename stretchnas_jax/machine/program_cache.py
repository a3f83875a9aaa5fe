"""Compiled programs, kept on disk from one start to the next.

JAX runs the programs that it finds there. So they lie in a folder to which nobody else may write.
XLA compiles a program of a CPU for the cores that the process may use. JAX would use it with any
other number too, where it is slower. So each number of cores has a folder.
"""

import contextlib
import logging
import os
import pathlib
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator

import filelock
import jax
from jax.experimental.compilation_cache import compilation_cache

from stretchnas_jax.machine import devices, disk_cache, facts

_MAX_BYTES = 4 * 2**30  # the least recently used programs go first
_LEAST_SECONDS = 0.5  # of compilation; programs that compile faster are not kept
_NO_LIMIT = -1  # JAX's value
# Names of JAX's files; a test tells when they change.
_PROGRAM, _LAST_USE, _LOCK = '-cache', '-atime', '.lockfile'
_PATIENCE = 1.0  # seconds for the lock
_setting_aside = threading.Lock()


def use_cache() -> None:
  """Lets JAX keep compiled programs in the user's cache folder.

  A folder that the user has chosen (`JAX_COMPILATION_CACHE_DIR`) stays, and so does a cache that is
  switched off (`JAX_ENABLE_COMPILATION_CACHE=false`). No fault of the folder makes a run fail.
  """
  # pyrefly: ignore[missing-attribute]
  chosen, limit = jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size
  # pyrefly: ignore[missing-attribute]
  if not jax.config.jax_enable_compilation_cache:
    return
  if chosen:
    if limit != _NO_LIMIT and os.path.isdir(chosen):  # without a limit JAX writes no times
      with contextlib.suppress(OSError):
        _clear_orphans(pathlib.Path(chosen))
    return
  try:
    folder = default_folder()
    disk_cache.own_folder(folder.parent)
    disk_cache.own_folder(folder)
    if not os.access(folder, os.W_OK):
      raise PermissionError(f'{folder} is not writable')
    _remove_foreign(folder)
    _clear_orphans(folder)
  except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
    logging.warning('compiled programs are not kept: %s', error)
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_compilation_cache_max_size', _MAX_BYTES)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', _LEAST_SECONDS)


def default_folder() -> pathlib.Path:
  """Returns the folder of compiled programs in the user's cache folder.

  Raises:
    RuntimeError: the user has no home folder.
  """
  return disk_cache.default_folder() / f'programs_for_{facts.num_cores()}_cores'


def agree() -> None:
  """Switches the cache off in a job whose processes do not share one folder; each must call this.

  Process 0 alone writes programs. On a GPU the processes compile together: XLA gives each of them a
  part of its measurements. If process 0 finds a program that the others lack, they wait for it.
  """
  number, count = devices.process()
  if count == 1:
    return
  # pyrefly: ignore[missing-attribute]
  folder = jax.config.jax_compilation_cache_dir if jax.config.jax_enable_compilation_cache else None
  with _sign(folder if number == 0 else None) as own:
    sign = devices.all_texts(own)[0]
    found = set(devices.all_texts(_look(folder, sign)))
  if found not in ({'off'}, {'shared'}):
    jax.config.update('jax_enable_compilation_cache', False)
    compilation_cache.reset_cache()
    if number == 0:
      logging.warning(
        'compiled programs are not kept: the processes of this job need one folder that all of '
        'them read and write; JAX_COMPILATION_CACHE_DIR can name it'
      )


@contextlib.contextmanager
def _sign(folder: str | None) -> Iterator[str]:
  """Puts a file into a folder for this context; yields its name, or 'none' where there is none.

  The sign of a remote folder, such as gs://programs, is its address.
  """
  with contextlib.ExitStack() as stack:
    name = 'none'
    if folder and _is_remote(folder):
      name = folder
    elif folder:
      with contextlib.suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        file = stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix='shared-'))
        name = os.path.basename(file.name)
    yield name


def _look(folder: str | None, sign: str) -> str:
  """Returns whether the folder of this process is that of the sign: 'off', 'shared', 'own'."""
  if not folder:
    return 'off'
  if _is_remote(folder):
    return 'shared' if folder == sign else 'own'
  seen = os.path.exists(os.path.join(folder, sign)) and os.access(folder, os.R_OK | os.W_OK)
  return 'shared' if seen else 'own'


def _is_remote(folder: str) -> bool:
  return '://' in folder


@contextlib.contextmanager
def set_aside() -> Iterator[None]:
  """Lets JAX compile without its cache in this context, in one thread at a time.

  Other threads may compile meanwhile; they do without the cache too.
  """
  with _setting_aside:
    # pyrefly: ignore[missing-attribute]
    folder = jax.config.jax_compilation_cache_dir
    _use_folder(None)
    try:
      yield
    finally:
      _use_folder(folder)


def _use_folder(folder: str | None) -> None:
  jax.config.update('jax_compilation_cache_dir', folder)
  compilation_cache.reset_cache()  # it remembers the folder


def _remove_foreign(folder: pathlib.Path) -> None:
  """Removes what this user has not written from the folder of the cache, and says how much it was.

  Raises:
    OSError: an entry cannot be removed.
  """
  if foreign := _without_foreign(folder):
    logging.warning('%s held %d entries of others; they are removed', folder, foreign)


def _without_foreign(folder: pathlib.Path) -> int:
  """Removes the entries of others from a folder, and returns their number.

  Folders of this user stay, without what others have put there. On a GPU XLA keeps what it has
  measured in one of them.
  """
  foreign = 0
  for entry in os.scandir(folder):
    with contextlib.suppress(FileNotFoundError):  # another process has removed it meanwhile
      foreign += _foreign_in(entry)
  return foreign


def _foreign_in(entry: os.DirEntry) -> int:
  """Removes an entry of others, or what a folder holds of others; returns how many these are."""
  found = entry.stat(follow_symlinks=False)
  is_folder = stat.S_ISDIR(found.st_mode) and not entry.name.endswith((_PROGRAM, _LAST_USE))
  if not disk_cache.is_own(found) or not (is_folder or stat.S_ISREG(found.st_mode)):
    _remove(pathlib.Path(entry.path), found)
    return 1
  if found.st_mode & disk_cache.OTHERS_WRITE:  # by the umask; nobody could reach it
    os.chmod(entry.path, stat.S_IMODE(found.st_mode) & ~disk_cache.OTHERS_WRITE)
  return _without_foreign(pathlib.Path(entry.path)) if is_folder else 0


def _clear_orphans(folder: pathlib.Path) -> None:
  """Removes programs that a process has left behind which died while it wrote them.

  JAX keeps no program any more where the time of the last use of one is missing. It never writes a
  program again that is there and empty.

  Raises:
    OSError: one of them cannot be removed.
  """
  lock = filelock.FileLock(folder / _LOCK)
  with contextlib.suppress(filelock.Timeout), lock.acquire(timeout=_PATIENCE):
    sizes = {}
    for entry in os.scandir(folder):
      with contextlib.suppress(FileNotFoundError):  # another process has removed it meanwhile
        if entry.is_file():
          sizes[entry.name] = entry.stat().st_size
    for name, size in sizes.items():
      key = name.removesuffix(_PROGRAM)
      if name.endswith(_PROGRAM) and not (size and sizes.get(key + _LAST_USE)):
        (folder / name).unlink(missing_ok=True)


def _remove(path: pathlib.Path, found: os.stat_result) -> None:
  if stat.S_ISDIR(found.st_mode):
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)
