"""Labels from tables: `labels.csv` beside images, or one table for each part.

A table has a header with the columns `file` and `label`, and may have a column `part`. Names of
files are relative to the folder of the table, or absolute.
"""

import collections
import csv
import logging
import os
import pathlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from stretchnas_jax.data.datasets import image_files, listing

_NAME = 'labels.csv'
_COLUMNS = {
  'file': ('file', 'filename', 'file_name', 'path', 'image', 'image_id'),
  'label': ('label', 'class', 'category'),
  'part': ('part', 'split'),
}
"""Names of the columns, in any case."""
_DELIMITERS = ',;\t'


class _Row(NamedTuple):
  """A line of a table: where it stands, and its values."""

  where: str
  file: str
  label: str
  part: str


def find(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the tables of a folder by part; the part '' is a table of all images.

  A folder of a part may hold a `labels.csv` of its own.

  Args:
    root: the folder.

  Raises:
    ValueError: there are tables that contradict each other.
  """
  names = [name for name in _files(root) if name.lower().endswith('.csv')]
  whole = [name for name in names if name.casefold() == _NAME]
  named = [name for name in names if listing.part_of(os.path.splitext(name)[0])]
  folders = [name for name in listing.subfolders(root) if listing.part_of(name)]
  inside = {name: found for name in folders if (found := _table_in(root / name))}
  kinds = [kind for kind in (whole, named, list(inside.values())) if kind]
  if len(kinds) > 1:
    raise ValueError(f'{root} has the tables {kinds[0][0]} and {kinds[1][0]}; keep one kind')
  if whole:
    return {'': root / whole[0]}
  if named:
    return {part: root / name for part, name in listing.one_per_part(root, named).items()}
  if inside and len(inside) < len(folders):
    without = next(name for name in folders if name not in inside)
    raise ValueError(f'{root / without} has no {_NAME}, and other parts have one')
  if not inside:
    return {}
  return {part: inside[name] for part, name in listing.one_per_part(root, inside).items()}


def by_tables(root: pathlib.Path, tables: Mapping[str, pathlib.Path]) -> listing.Listing:
  """Lists the images that tables name.

  Labels that are all whole numbers are sorted as numbers, other labels as texts; they are the
  classes 0, 1, and so on. Images are sorted by class, then by name.

  Args:
    root: the folder.
    tables: see `find`.

  Raises:
    ValueError: names the table, the line and the mistake.
  """
  walk = image_files.Walk(root)
  images = walk.images(root)
  known = _Known(root, images)
  labels: dict[str, dict[str, str]] = collections.defaultdict(dict)
  for part, table in tables.items():
    places = known.places(table, part)
    for row in _read(table):
      own = part or _part_of(row)
      name = known.find(row, places)
      if any(name in found for found in labels.values()):
        raise ValueError(f'{row.where} names {row.file!r}, which has a label already')
      labels[own][name] = row.label
    walk.passed_over['.csv'] -= 1
  if not labels['train']:
    raise ValueError(f'{next(iter(tables.values()))} has no training images')
  names = _sorted_labels(labels['train'].values())
  if len(names) < 2:
    raise ValueError(f'{root} has one class only, {names[0]!r}; at least two are needed')
  files = {}
  for part in (part for part in listing.PART_NAMES if labels.get(part)):
    listing.check_known(f'{root} ({part})', labels[part].values(), names)
    number = {name: label for label, name in enumerate(names)}
    found = [(name, number[label]) for name, label in labels[part].items()]
    files[part] = sorted(found, key=lambda image: (image[1], image[0]))
  tables_used = ', '.join(table.relative_to(root).as_posix() for table in tables.values())
  unlabelled = _unlabelled(images, [name for found in labels.values() for name in found])
  logging.info('labels come from %s', tables_used)
  return listing.Listing(str(root), names, files, dict(+walk.passed_over), unlabelled)


class _Known:
  """The images of a folder, by their names as tables give them."""

  def __init__(self, root: pathlib.Path, images: Sequence[str]) -> None:
    self._root, self._images = root, set(images)
    stems = [os.path.splitext(name)[0] for name in images]
    counts = collections.Counter(stems)
    self._by_stem = {stem: name for stem, name in zip(stems, images) if counts[stem] == 1}

  def places(self, table: pathlib.Path, part: str) -> list[str]:
    """Returns the folders, relative to the root, in which the images of a table may stand.

    Args:
      table: its folder is the first place. The second one is the folder of its part beside it.
      part: of the table, or ''.
    """
    names = listing.PART_NAMES.get(part, ())
    beside = [name for name in listing.subfolders(table.parent) if name.casefold() in names]
    folders = [table.parent, *(table.parent / name for name in beside)]
    return [folder.relative_to(self._root).as_posix() for folder in folders]

  def find(self, row: _Row, places: Sequence[str]) -> str:
    """Returns the name of an image, relative to the root.

    A table may leave the ending out, where one image alone has that name.

    Args:
      row: names the image.
      places: see above.
    """
    file = row.file.replace('\\', '/')
    for place in places:
      name = posixpath.normpath(posixpath.join(place, file))
      if posixpath.isabs(name):
        name = posixpath.relpath(name, self._root.absolute().as_posix())
      if name.startswith('..'):
        raise ValueError(f'{row.where} names {row.file!r}, which is outside of {self._root}')
      if name in self._images or os.path.isfile(self._root / name):
        return name
      if name in self._by_stem:
        return self._by_stem[name]
    raise ValueError(f'{row.where} names {row.file!r}; there is no such file')


def _files(folder: pathlib.Path) -> list[str]:
  """Returns the sorted names of the files in a folder, without hidden ones."""
  with os.scandir(folder) as entries:
    return sorted(e.name for e in entries if not e.name.startswith('.') and e.is_file())


def _table_in(folder: pathlib.Path) -> pathlib.Path | None:
  """Returns the table `labels.csv` of a folder, in any case, or None."""
  found = [name for name in _files(folder) if name.casefold() == _NAME]
  return folder / found[0] if found else None


def _read(table: pathlib.Path) -> list[_Row]:
  """Returns the lines of a table; ValueError names the line that is wrong."""
  try:
    with open(table, encoding='utf-8-sig', newline='') as file:  # Excel writes a byte order mark
      header = file.readline()
      delimiter = next((d for d in _DELIMITERS if d in header), ',')
      file.seek(0)
      lines = csv.reader(file, delimiter=delimiter, strict=True)
      columns = _columns(table, [name.strip() for name in next(lines, [])])
      return [
        _row(f'{table} line {lines.line_num}', line, columns)
        for line in lines
        if any(value.strip() for value in line)
      ]
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(f'{table} is not a table of comma-separated values ({error})') from error


def _columns(table: pathlib.Path, header: Sequence[str]) -> dict[str, int]:
  """Returns the places of the columns by their meaning."""
  found: dict[str, int] = {}
  for meaning, names in _COLUMNS.items():
    places = [i for i, name in enumerate(header) if name.casefold() in names]
    if len(places) > 1:
      raise ValueError(f'{table} has {len(places)} columns for the {meaning}; keep one')
    if places:
      found[meaning] = places[0]
  if missing := [meaning for meaning in ('file', 'label') if meaning not in found]:
    raise ValueError(
      f'{table} has no column {missing[0]!r}; its first line must be: file,label (it is '
      f'{",".join(header)[:100]!r})'
    )
  return found


def _row(where: str, line: Sequence[str], columns: Mapping[str, int]) -> _Row:
  """Returns the values of a line; a file and a label must be there."""
  values = {
    meaning: line[place].strip() if place < len(line) else '' for meaning, place in columns.items()
  }
  for meaning in 'file', 'label':
    if not values[meaning]:
      raise ValueError(f'{where} has no {meaning}')
  return _Row(where, values['file'], values['label'], values.get('part', ''))


def _part_of(row: _Row) -> str:
  """Returns the part of a line; 'train' where the table has no such column."""
  if not row.part:
    return 'train'
  part = listing.part_of(row.part)
  if part is None:
    raise ValueError(f'{row.where} has the part {row.part!r}; allowed are train, val, test')
  return part


def _sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
  """Returns the different labels, sorted as numbers if all are whole numbers, else as texts."""
  different = set(labels)
  are_numbers = all(label.isascii() and label.isdigit() for label in different)
  return tuple(sorted(different, key=lambda label: (int(label), label) if are_numbers else label))


def _unlabelled(images: Sequence[str], labelled: Iterable[str]) -> tuple[str, ...]:
  """Returns a sentence about images without a label, if there are any."""
  missing = sorted(set(images) - set(labelled))
  if not missing:
    return ()
  verbs = ('images have', 'are') if len(missing) > 1 else ('image has', 'is')
  return (
    f'{len(missing)} {verbs[0]} no label and {verbs[1]} not used, for example {missing[0]!r}',
  )
