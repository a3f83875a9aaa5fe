"""Which programs of own objects the user of this machine has run before."""

import contextlib
import pathlib

from stretchnas_jax.machine import disk_cache


def trust(digest: str) -> None:
  """Remembers that the user of this machine ran a program; a fault of the disk does not matter.

  Args:
    digest: of the program, see `parts.Source`.
  """
  with contextlib.suppress(OSError, RuntimeError):
    _file(digest).touch()


def is_trusted(digest: str) -> bool:
  """Tells if the user of this machine has run a program before.

  Args:
    digest: of the program, see `parts.Source`.
  """
  with contextlib.suppress(OSError, RuntimeError):
    return disk_cache.is_own(_file(digest).stat())
  return False


def _file(digest: str) -> pathlib.Path:
  base = disk_cache.own_folder(disk_cache.default_folder())
  return disk_cache.own_folder(base / 'trusted') / digest
