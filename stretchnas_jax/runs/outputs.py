"""Files that a command writes where its user says, without loss of other files.

A file of this program carries a mark with a checksum of its content. A file without that mark, or
one that was changed later, is somebody's own.
"""

import os
import pathlib
import re
import zlib
from collections.abc import Callable

from PIL import Image

from stretchnas_jax.views import png

MARK = 'written by stretchnas_jax, checksum 00000000'
"""The text that `marked` completes with the checksum."""

_BLANK = MARK.encode()
_MARKS = re.compile(_BLANK.replace(b'0' * 8, b'([0-9a-f]{8})'))

# Files that a run keeps in its folder. Other names there are free.
_OF_A_RUN = {
  'config.json', 'run.json', 'result.json', 'metrics.jsonl', 'genotypes.jsonl', 'genotype.json',
  'cells.svg', 'report.html', 'confusion.json', 'parts.py', 'parts.json', 'identity.json',
  'checkpoints', 'checkpoints.json', 'scores.jsonl', 'space.json',
}  # fmt: skip


def marked(content: bytes) -> bytes:
  """Returns a file whose last `MARK` states the checksum of the file."""
  place = content.rindex(_BLANK)
  mark = _BLANK[:-8] + f'{zlib.crc32(content):08x}'.encode()
  return content[:place] + mark + content[place + len(_BLANK) :]


def is_marked(path: pathlib.Path) -> bool:
  """Returns whether `marked` made the content of a file, which nobody has changed since then."""
  content = path.read_bytes()
  found = list(_MARKS.finditer(content))
  if not found:
    return False
  start, end = found[-1].span()
  blank = content[:start] + _BLANK + content[end:]
  return int(found[-1][1], 16) == zlib.crc32(blank)


def is_own_png(path: pathlib.Path) -> bool:
  """Returns whether a file is a PNG that this program has drawn, with its pixels as they were."""
  try:
    with Image.open(path, formats=['PNG']) as image:
      mark = image.info.get(png.MARK)
      return mark is not None and mark == png.checksum(image)
  except Exception:  # Pillow raises a dozen unrelated types for broken files
    return False


def check_free(
  path: str | pathlib.Path,
  is_own: Callable[[pathlib.Path], bool],
  force: bool = False,
  named: str | pathlib.Path | None = None,
) -> pathlib.Path:
  """Checks that a file may be written; returns its path, with links followed.

  Args:
    path: the file.
    is_own: tells of a file that exists if this program wrote it.
    force: True to allow a file that it did not write.
    named: the file that the user names, where `path` only stands beside it.

  Raises:
    ValueError: the folder does not exist, the file belongs to a run, or it is somebody's own.
  """
  shown, folder = repr(str(named or path)), str(pathlib.Path(path).parent)
  path = pathlib.Path(os.path.realpath(path))
  if not path.parent.is_dir():
    raise ValueError(f'--out is {shown}; there is no folder {folder!r}')
  if path.is_dir():
    raise ValueError(f'--out is {shown}, which is a folder: name a file')
  run = _run_of(path)
  if run is not None:
    raise ValueError(
      f'--out is {shown}, and {path.name!r} is a file of the run in {str(run)!r}: choose another '
      'name'
    )
  if path.exists() and not force and not (path.is_file() and is_own(path)):
    raise ValueError(
      f'--out is {shown}, and this program did not write {path.name!r}: choose another name; '
      '--force (in Python force=True) replaces the file'
    )
  return path


def _run_of(path: pathlib.Path) -> pathlib.Path | None:
  """Returns the folder of the run to which a file belongs, or would belong; None for none."""
  for folder in path.parents:
    inside = path.relative_to(folder).parts[0]
    if (inside in _OF_A_RUN or inside.startswith('.')) and _is_run(folder):
      return folder
  return None


def _is_run(folder: pathlib.Path) -> bool:
  """Returns whether a folder is that of a run, or of several seeds of one."""
  if not (folder / 'config.json').is_file():
    return False
  return (folder / 'run.json').is_file() or any(folder.glob('seed_*/config.json'))
