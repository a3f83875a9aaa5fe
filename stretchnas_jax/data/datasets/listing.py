"""Finds the images of a folder: its parts, its classes, its files, and all that is passed over.

A folder holds one folder of images per class, or a folder per part with class folders inside, or
images and a table of their labels (see `label_table`).
"""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from stretchnas_jax.data.datasets.image_files import Walk

PART_NAMES = {
  'train': ('train', 'training'),
  'val': ('val', 'valid', 'validation', 'dev'),
  'test': ('test', 'testing'),
}
"""Names of parts as folders and tables bear them, in any case."""

_SHOWN_ENDINGS = 8

Found = list[tuple[str, int]]
"""Names of images, relative to a folder, and their labels."""


class Listing(NamedTuple):
  """The images of a folder, before any of them is read.

  Attributes:
    root: the folder.
    class_names: in the order of the labels.
    files: for each part, 'train', 'val' or 'test', the name and the label of each image. Names are
      relative to `root`, with '/' between folders. Class folders keep the order of their names, and
      images the order of theirs.
    passed_over: the number of files of each ending that are not read. Hidden files do not count.
    notes: sentences for a person about folders and labels that are not used.
  """

  root: str
  class_names: tuple[str, ...]
  files: dict[str, Found]
  passed_over: dict[str, int]
  notes: tuple[str, ...] = ()

  def paths(self, part: str) -> Found:
    """Returns the path and the label of each image of a part."""
    return [(os.path.join(self.root, name), label) for name, label in self.files.get(part, ())]

  def sentences(self) -> tuple[str, ...]:
    """Returns the notes, and a sentence about the files that are passed over."""
    counted = passed_over_text(self.passed_over)
    return (*self.notes, *([counted] if counted else []))


def part_of(name: str) -> str | None:
  """Returns the part that a folder or a table is named after, or None.

  Args:
    name: without an ending, in any case.
  """
  return next((part for part, names in PART_NAMES.items() if name.casefold() in names), None)


def check_folder(path: str | os.PathLike) -> pathlib.Path:
  """Returns the path of an existing folder.

  Raises:
    FileNotFoundError, NotADirectoryError: names the path.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'data.path is {str(path)!r}; there is no such folder')
  if not path.is_dir():
    raise NotADirectoryError(f'data.path is {str(path)!r}; it must be a folder of class folders')
  return path


def by_class_folders(root: pathlib.Path) -> Listing:
  """Lists images that stand in class folders, perhaps inside the folders of parts.

  Sub-folders of a class folder belong to the class. The sorted names of the class folders with
  training images are the classes 0, 1, and so on.

  Args:
    root: the folder.

  Raises:
    ValueError: says in one sentence which folder is wrong, and why.
  """
  walk = Walk(root)
  parts = _find_parts(root, walk)
  found = {part: _images_by_class(folder, walk) for part, folder in parts.items()}
  for part, folder in list(parts.items()):
    if part != 'train' and not found[part]:
      walk.notes.append(f'{folder} has no class folders and is not used')
      del parts[part], found[part]
  names = _check_classes(parts['train'], found['train'])
  files = {}
  for part, folder in parts.items():
    check_known(folder, [name for name, images in found[part].items() if images], names)
    prefix = f'{folder.name}/' if folder != root else ''
    files[part] = [
      (f'{prefix}{name}/{image}', label)
      for label, name in enumerate(names)
      for image in found[part].get(name, ())
    ]
    for name, images in found[part].items():
      if not images:
        walk.notes.append(f'{folder / name} has no images')
  files = {part: images for part, images in files.items() if images}
  return Listing(str(root), tuple(names), files, dict(walk.passed_over), tuple(walk.notes))


def check_known(where: object, names: Iterable[str], known: Sequence[str]) -> None:
  """Raises ValueError for a class that has no training images.

  Args:
    where: the folder or table, for the sentence.
    names: of the classes there.
    known: the classes of the training images.
  """
  if unknown := sorted(set(names) - set(known)):
    raise ValueError(f'{where} has the class {unknown[0]!r}, which has no training images')


def passed_over_text(counts: Mapping[str, int]) -> str:
  """Returns a sentence about files that are not read, or '' if there are none.

  Args:
    counts: the number of files of each ending.
  """
  if not counts:
    return ''
  ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
  words = [f'{ending} {count}' for ending, count in ranked[:_SHOWN_ENDINGS]]
  if rest := sum(count for _, count in ranked[_SHOWN_ENDINGS:]):
    words.append(f'others {rest}')
  total = sum(counts.values())
  return f'passed over {total} file{"s" * (total > 1)}: {", ".join(words)}'


def subfolders(folder: str | os.PathLike) -> list[str]:
  """Returns the sorted names of the folders in a folder, without hidden ones.

  Args:
    folder: the folder.
  """
  with os.scandir(folder) as entries:
    return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith('.'))


def one_per_part(root: pathlib.Path, names: Iterable[str]) -> dict[str, str]:
  """Returns the name that stands for each part.

  Args:
    root: the folder, for the sentence.
    names: of folders or tables, perhaps with an ending; all are names of parts.

  Raises:
    ValueError: two names mean the same part, or none means the training images.
  """
  found: dict[str, str] = {}
  for name in names:
    part = part_of(os.path.splitext(name)[0])
    assert part is not None  # the caller has chosen names of parts
    if part in found:
      raise ValueError(
        f'{root} has {found[part]!r} and {name!r}, which both mean the part {part!r}; keep one'
      )
    found[part] = name
  if 'train' not in found:
    others = ' and '.join(map(repr, found.values()))
    raise ValueError(f"{root} has {others}, and no 'train' beside it")
  return {part: found[part] for part in PART_NAMES if part in found}


def _find_parts(root: pathlib.Path, walk: Walk) -> dict[str, pathlib.Path]:
  """Returns the folder of each part; 'train' alone, the root, where there are no such folders."""
  folders = subfolders(root)
  named = [name for name in folders if part_of(name)]
  if not named:
    return {'train': root}
  others = [name for name in folders if not part_of(name) and Walk(root).images(root / name)]
  # A folder `train` of images beside cars and planes is a class; no class is called `val`.
  parts = [n for n in named if n.casefold() != 'train' or subfolders(root / n)]
  if others and parts:
    raise ValueError(
      f'{root} has {parts[0]!r}, which is the name of a part of the images, beside {others[0]!r}; '
      'a folder holds either parts or classes: move or rename one of them'
    )
  if others:
    walk.notes.append(f'{root / named[0]} counts as a class, not as the part train')
    return {'train': root}
  walk.count_loose(root)
  for name in sorted(set(folders) - set(named)):
    walk.images(root / name)  # no images, but other files that are counted
  return {part: root / name for part, name in one_per_part(root, named).items()}


def _images_by_class(folder: pathlib.Path, walk: Walk) -> dict[str, list[str]]:
  """Returns the images of each class folder of a part."""
  walk.count_loose(folder)
  return {name: walk.images(folder / name) for name in subfolders(folder)}


def _check_classes(folder: pathlib.Path, found: Mapping[str, Sequence[str]]) -> list[str]:
  """Returns the sorted names of the classes with training images; there must be at least two."""
  names = [name for name, images in found.items() if images]
  if not found:
    raise ValueError(f'{folder} has no class folders; it must hold one folder of images per class')
  if not names:
    raise ValueError(
      f'{folder} has class folders, and no images in them; a class folder holds files such as .png '
      'or .jpg'
    )
  if len(names) == 1:
    inside = len(subfolders(folder / names[0])) > 1
    hint = f'; if its sub-folders are the classes, set data.path to {folder / names[0]}' * inside
    raise ValueError(f'{folder} has one class only, {names[0]!r}; at least two are needed{hint}')
  return names
