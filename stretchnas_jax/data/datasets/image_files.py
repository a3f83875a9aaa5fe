"""Finds image files in folders and their sub-folders, and counts all other files."""

import collections
import os
import pathlib

SUFFIXES = (
  '.apng', '.avif', '.bmp', '.gif', '.j2c', '.j2k', '.jfif', '.jp2', '.jpe', '.jpeg', '.jpf',
  '.jpg', '.jpx', '.pbm', '.pfm', '.pgm', '.png', '.pnm', '.ppm', '.tga', '.tif', '.tiff', '.webp',
)  # fmt: skip
_NO_ENDING = 'no ending'
_LONGEST_ENDING = 10  # characters; a person knows no longer ending
# Content with which image files begin. TGA has no such mark.
_MARKS = (
  b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff', b'GIF87a', b'GIF89a', b'BM', b'II*\0', b'MM\0*',
  b'\0\0\0\x0cjP  ', b'\xff\x4f\xff\x51',
)  # fmt: skip


class Walk:
  """Walks through folders, and counts all files that are no images.

  Attributes:
    passed_over: the number of files of each ending.
    notes: sentences about folders that are not used.
  """

  def __init__(self, root: pathlib.Path) -> None:
    """Reads no folder yet.

    Args:
      root: the folder of all images. A link to it is not followed.
    """
    self.passed_over: collections.Counter[str] = collections.Counter()
    self.notes: list[str] = []
    self._root = _identity(root)

  def images(self, folder: str | os.PathLike) -> list[str]:
    """Returns the sorted names of the images in a folder and in its sub-folders.

    A dangling link is among them, so that reading it is an error. A link to a folder is followed,
    unless it leads back to a folder that it stands in.

    Args:
      folder: the folder. Names are relative to it.
    """
    found = []
    waiting = [(os.fspath(folder), '', frozenset([self._root]))]
    while waiting:
      path, prefix, above = waiting.pop()
      here = _identity(path)
      if here in above and prefix:
        continue
      with os.scandir(path) as entries:
        for entry in entries:
          if entry.name.startswith('.'):
            continue
          if entry.is_dir():
            waiting.append((entry.path, f'{prefix}{entry.name}/', above | {here}))
          elif _is_image(entry):
            found.append(prefix + entry.name)
          else:
            self.passed_over[_ending(entry.name)] += 1
    return sorted(found)

  def count_loose(self, folder: str | os.PathLike) -> None:
    """Counts the files of a folder that stand in none of its sub-folders.

    Args:
      folder: of parts or of class folders.
    """
    with os.scandir(folder) as entries:
      for entry in entries:
        if not entry.name.startswith('.') and not entry.is_dir():
          outside = ' outside of class folders' * _is_image(entry)
          self.passed_over[_ending(entry.name) + outside] += 1


def _is_image(entry: os.DirEntry) -> bool:
  """Tells whether a file has the ending of an image, or no ending and the content of one."""
  if entry.name.lower().endswith(SUFFIXES):
    return True
  if os.path.splitext(entry.name)[1] or not entry.is_file():
    return False
  with open(entry.path, 'rb') as file:
    start = file.read(16)
  is_webp, is_avif = start[:4] == b'RIFF' and start[8:12] == b'WEBP', start[4:12] == b'ftypavif'
  return start.startswith(_MARKS) or is_webp or is_avif


def _identity(folder: str | os.PathLike) -> tuple[int, int]:
  """Returns numbers that tell a folder from every other one."""
  status = os.stat(folder)
  return status.st_dev, status.st_ino


def _ending(name: str) -> str:
  """Returns the ending of a file's name as messages show it."""
  ending = os.path.splitext(name)[1].lower()
  if not ending:
    return _NO_ENDING
  return ending if len(ending) <= _LONGEST_ENDING and ending[1:].isalnum() else 'other endings'
