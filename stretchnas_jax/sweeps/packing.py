"""Packs the files of finished runs, without their checkpoints, into one archive.

Unpacked into another folder of runs, these runs count as finished there. So results move from a
cluster to another machine, and an experiment can go on elsewhere.
"""

import io
import lzma
import pathlib
import tarfile
from collections.abc import Iterable, Sequence

from stretchnas_jax.sweeps.trials import is_done

_CHECKPOINTS = 'checkpoints.json'  # lists the folder of that name, which is left out


def packed(
  path: pathlib.Path, root: pathlib.Path, folders: Iterable[pathlib.Path]
) -> tuple[bytes, int]:
  """Returns the content of an archive; the same files give the same bytes.

  Args:
    path: the archive that is to be written, `.tar.xz`.
    root: the folder that the names in the archive are relative to.
    folders: the folders of runs; those that are not finished are left out.

  Returns:
    The bytes, and the number of runs in them.

  Raises:
    ValueError: no run is finished, or the archive at `path` holds more.
  """
  done = [folder for folder in sorted(folders) if is_done(folder)]
  if not done:
    raise ValueError(f'no run in {root} is finished: there is nothing to pack')
  files = _kept_files(done)
  names = [file.relative_to(root).as_posix() for file in files]
  lost = sorted(_names_in(path) - set(names)) if path.exists() else []
  if lost:
    raise ValueError(
      f'{path} holds {lost[0]}, which would be lost: leave out --only, or unpack it first: '
      f'tar -xf {path} -C {root}'
    )
  return _archive(names, files), len(done)


def _kept_files(done: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  """Returns the files of finished runs, and the configs that several seeds share."""
  # A folder of several seeds is known by its config.
  shared = {folder.parent / 'config.json' for folder in done}
  files = sorted(file for file in shared if file.is_file())
  for folder in done:
    files += [file for file in sorted(folder.iterdir()) if _is_kept(file)]
  return files


def _is_kept(file: pathlib.Path) -> bool:
  return file.is_file() and not file.name.startswith('.') and file.name != _CHECKPOINTS


def _names_in(path: pathlib.Path) -> set[str]:
  """Returns the names in an archive; raises ValueError where the file is none."""
  try:
    with tarfile.open(path) as archive:
      return set(archive.getnames())
  except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
    raise ValueError(f'{path} is not an archive: {error}') from error


def _archive(names: Sequence[str], files: Sequence[pathlib.Path]) -> bytes:
  """Returns an archive of files, without times and users."""
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w:xz') as archive:
    for name, file in zip(names, files):
      content = file.read_bytes()
      entry = tarfile.TarInfo(name)
      entry.size = len(content)
      archive.addfile(entry, io.BytesIO(content))
  return buffer.getvalue()
