"""CIFAR-10 and CIFAR-100 from the files that their authors publish (Krizhevsky 2009)."""

import hashlib
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from stretchnas_jax.data.datasets import archives, cifar_pickle

_CIFAR10_CLASSES = 'airplane automobile bird cat deer dog frog horse ship truck'
_CIFAR100_CLASSES = """
  apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
  butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
  crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
  keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
  mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
  plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
  skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
  television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class Layout(NamedTuple):
  """The files of one of the two data sets."""

  train: tuple[str, ...]
  test: tuple[str, ...]
  folders: tuple[str, ...]
  """Names of the unpacked folder, in the Python and in the binary form."""
  archives: tuple[str, ...]
  """Names of the archive, in the Python and in the binary form."""
  most_rows: int
  """Images of the largest file as published."""
  md5: Mapping[str, str]
  """Checksums of the published files in the Python form."""
  labels_key: str
  """Name of the labels in the Python form."""
  label_bytes: int
  """Bytes before the pixels of a row in the binary form; the last one is the label."""
  class_names: tuple[str, ...]


FILES = {
  'cifar10': Layout(
    train=tuple(f'data_batch_{i}' for i in range(1, 6)),
    test=('test_batch',),
    folders=('cifar-10-batches-py', 'cifar-10-batches-bin'),
    archives=('cifar-10-python.tar.gz', 'cifar-10-binary.tar.gz'),
    most_rows=10_000,
    md5={
      'data_batch_1': 'c99cafc152244af753f735de768cd75f',
      'data_batch_2': 'd4bba439e000b95fd0a9bffe97cbabec',
      'data_batch_3': '54ebc095f3ab1f0389bbae665268c751',
      'data_batch_4': '634d18415352ddfa80567beed471001a',
      'data_batch_5': '482c414d41f54cd18b22e5b47cb7c3cb',
      'test_batch': '40351d587109b95175f43aff81a1287e',
    },
    labels_key='labels',
    label_bytes=1,
    class_names=tuple(_CIFAR10_CLASSES.split()),
  ),
  'cifar100': Layout(
    train=('train',),
    test=('test',),
    folders=('cifar-100-python', 'cifar-100-binary'),
    archives=('cifar-100-python.tar.gz', 'cifar-100-binary.tar.gz'),
    most_rows=50_000,
    md5={
      'train': '16019d7e3df5f24257cddd939b257f8d',
      'test': 'f0ef6b0ae62326f3e7ffdfab6717acfc',
    },
    labels_key='fine_labels',
    label_bytes=2,
    class_names=tuple(_CIFAR100_CLASSES.split()),
  ),
}

_ROW = 3 * 32 * 32  # bytes of an image

# Python 3 stores bytes from 128 on as two in protocol 2. File names take about thirty bytes a row.
_MOST_ROW = 2 * _ROW + 256

_PUBLISHED_ROWS = 10_000  # of a published file; some have more
_ENDINGS = ('.tar.gz', '.tgz', '.tar', '.tar.bz2', '.tar.xz', '.zip')

_Rows = UInt8[np.ndarray, 'N 3072']
_Labels = Integer[np.ndarray, 'N']


def load(name: str, path: str | os.PathLike) -> dict[str, np.ndarray] | None:
  """Reads a local copy, in its Python or its binary form.

  No file may have more than twice the bytes that the published ones have.

  Args:
    name: 'cifar10' or 'cifar100'.
    path: the unpacked folder or an archive (tar or zip) of either form, or a folder that holds one
      of them.

  Returns:
    `train_images` uint8 `[N, 32, 32, 3]`, `train_labels`, `test_images` and `test_labels`; None if
    there are no such files.

  Raises:
    ValueError: a file is missing or damaged, or holds other things than arrays.
  """
  layout = FILES[name]
  wanted = [*layout.train, *layout.test]
  place, blobs = _find(name, pathlib.Path(path))
  for suffix, parse in ('', _parse_pickle), ('.bin', _parse_binary):
    present = [file for file in wanted if file + suffix in blobs]
    if not present:
      continue
    if missing := sorted(set(wanted) - set(present)):
      raise ValueError(f'{place} is not all of {name}: the file {missing[0]}{suffix} is missing')
    changed = [file for file in wanted if _is_changed(blobs, file + suffix, layout)]
    if changed:
      words = '%s: the MD5 of %s is not the published one, so that images or labels may differ'
      logging.warning(words, place, ', '.join(changed))
    found = {}
    for file in wanted:
      where = f'{file}{suffix} of {place}' if place.is_file() else str(place / f'{file}{suffix}')
      found[file] = parse(blobs.pop(file + suffix), where, layout)
    train = _join('train', [found[file] for file in layout.train])
    return train | _join('test', [found[file] for file in layout.test])
  return None


def _find(name: str, path: pathlib.Path) -> tuple[pathlib.Path, dict[str, bytes]]:
  """Returns the first place that has any of the files, and their contents by name.

  Args:
    name: of the data set.
    path: see `load`.
  """
  layout = FILES[name]
  files = {file + suffix for file in layout.train + layout.test for suffix in ('', '.bin')}
  most = dict.fromkeys(files, layout.most_rows * _MOST_ROW)
  if path.is_file():
    return path, archives.read(path, most)
  for folder in path, *(path / name for name in layout.folders):
    found = [file for file in sorted(files) if (folder / file).is_file()]
    if found:
      return folder, {file: _read_file(folder / file, most[file]) for file in found}
  stems = [archive.removesuffix('.tar.gz') for archive in layout.archives]
  candidates = [path / (stem + ending) for stem in stems for ending in _ENDINGS]
  archive = next((file for file in candidates if file.is_file()), None)
  return (archive, archives.read(archive, most)) if archive else (path, {})


def _read_file(file: pathlib.Path, most: int) -> bytes:
  """Returns the content of a file, which may have at most this many bytes."""
  size = file.stat().st_size
  if size > most:
    raise ValueError(f'{file} is not a CIFAR file ({size} bytes; it can have at most {most})')
  return file.read_bytes()


def _is_changed(blobs: Mapping[str, bytes], file: str, layout: Layout) -> bool:
  """Tells whether a file has as many images as the published one, and other content.

  Args:
    blobs: contents by name.
    file: its name.
    layout: of the data set.
  """
  if file not in layout.md5 or len(blobs[file]) < _PUBLISHED_ROWS * _ROW:
    return False
  return hashlib.md5(blobs[file], usedforsecurity=False).hexdigest() != layout.md5[file]


def _parse_pickle(blob: bytes, file: str, layout: Layout) -> tuple[_Rows, _Labels]:
  """Returns the rows and labels of a file in the Python form.

  Args:
    blob: content of the file.
    file: its name, for messages.
    layout: of the data set.
  """
  try:
    content = cifar_pickle.read(blob)
  except cifar_pickle.BadPickle as error:
    raise ValueError(f'{file} is not a CIFAR file ({error})') from error
  for key in 'data', layout.labels_key:
    if key.encode() not in content:
      raise ValueError(f'{file} is not a CIFAR file (no {key!r})')
  labels = _whole_numbers(content[layout.labels_key.encode()])
  return _checked(content[b'data'], labels, file, layout)


def _whole_numbers(labels: Any) -> np.ndarray | None:
  """Returns an array, or a flat list of whole numbers, as an array; None for anything else."""
  if isinstance(labels, np.ndarray):
    return labels
  # A list of lists could stand for far more numbers than the file has bytes.
  if not isinstance(labels, list) or not set(map(type, labels)) <= {int}:
    return None
  try:
    return np.array(labels, np.int64)
  except OverflowError:
    return None


def _parse_binary(blob: bytes, file: str, layout: Layout) -> tuple[_Rows, _Labels]:
  """Returns the rows and labels of a file in the binary form; arguments as for the Python form."""
  row = layout.label_bytes + _ROW
  if not blob or len(blob) % row:
    raise ValueError(f'{file} is not a CIFAR file ({len(blob)} bytes are not rows of {row})')
  table = np.frombuffer(blob, np.uint8).reshape(-1, row)
  labels, rows = table[:, layout.label_bytes - 1], table[:, layout.label_bytes :]
  return _checked(rows, labels, file, layout)


def _checked(
  rows: Any, labels: np.ndarray | None, file: str, layout: Layout
) -> tuple[_Rows, _Labels]:
  """Returns rows and labels that have the right shapes, types and range.

  Args:
    rows: anything that a file holds as its data.
    labels: an array of anything; None for labels that are not whole numbers.
    file: its name, for messages.
    layout: of the data set.

  Raises:
    ValueError: names the file, and says what is wrong.
  """
  if not (isinstance(rows, np.ndarray) and rows.dtype == np.uint8 and rows.ndim == 2):
    raise ValueError(f'{file} is not a CIFAR file (its data is not a table of bytes)')
  most = len(layout.class_names) - 1
  wrong = ValueError(f'{file} has labels that are not whole numbers from 0 to {most}')
  if labels is None or labels.dtype.kind not in 'iu':
    raise wrong
  if rows.shape[1] != _ROW or labels.shape != rows.shape[:1] or not len(rows):
    raise ValueError(
      f'{file} is not a CIFAR file (data of shape {rows.shape}, labels of {labels.shape})'
    )
  if labels.min() < 0 or labels.max() > most:
    raise wrong
  return rows, labels


def _join(part: str, files: Sequence[tuple[_Rows, _Labels]]) -> dict[str, np.ndarray]:
  """Returns the arrays of one part from the rows of its files, which hold a plane per colour.

  Args:
    part: 'train' or 'test', for the names of the arrays.
    files: rows and labels of each file.
  """
  rows = np.concatenate([rows for rows, _ in files])
  labels = np.concatenate([labels for _, labels in files])
  images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return {
    f'{part}_images': np.ascontiguousarray(images),
    f'{part}_labels': labels.astype(np.int32),
  }
