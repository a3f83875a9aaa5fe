"""What finished runs have left, but for their checkpoints, as one archive.

Unpacked into another folder of runs they count as finished there: so results go from a cluster to
where they are read, and an experiment goes on elsewhere.
"""

import io
import lzma
import tarfile

from stretchnas_jax.sweeps import jobs as jobs_lib

CHECKPOINTS = 'checkpoints.json'  # says what is in the folder of that name, which stays behind


def packed(path, root, folders):
  """The content of the archive; the same files give the same bytes.

  Args:
    path: where it is to be written, `.tar.xz`.
    root: the folder that names in it are relative to.
    folders: of runs; those that are not finished are left out.

  Returns:
    `(bytes, number of runs in it)`.

  Raises:
    ValueError: no run is finished, or an archive that is there holds more.
  """
  done = [folder for folder in sorted(folders) if jobs_lib.is_done(folder)]
  if not done:
    raise ValueError(f'no run in {root} is finished: there is nothing to pack')
  files = [file for folder in done for file in sorted(folder.iterdir()) if is_kept(file)]
  # A folder of several seeds is known by its config: without it no further seed would be let in.
  shared = {folder.parent / 'config.json' for folder in done}
  files = sorted(file for file in shared if file.is_file()) + files
  names = [file.relative_to(root).as_posix() for file in files]
  if path.exists() and (lost := sorted(names_in(path) - set(names))):
    raise ValueError(
      f'{path} holds {lost[0]}, which would be lost: leave out --only, or unpack it first: '
      f'tar -xf {path} -C {root}'
    )
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w:xz') as archive:
    for name, file in zip(names, files):
      content, entry = file.read_bytes(), tarfile.TarInfo(name)  # of no time and no user
      entry.size = len(content)
      archive.addfile(entry, io.BytesIO(content))
  return buffer.getvalue(), len(done)


def is_kept(file):
  return file.is_file() and not file.name.startswith('.') and file.name != CHECKPOINTS


def names_in(path):
  """The names in an archive; ValueError where it is none."""
  try:
    with tarfile.open(path) as archive:
      return set(archive.getnames())
  except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
    raise ValueError(f'{path} is no archive: {error}') from error
