"""CIFAR-10 and CIFAR-100 from the files that their authors publish (Krizhevsky 2009)."""

import io
import os
import pathlib
import pickle
import tarfile
import warnings
import zlib
from collections.abc import Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

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
    labels_key='labels',
    label_bytes=1,
    class_names=tuple(_CIFAR10_CLASSES.split()),
  ),
  'cifar100': Layout(
    train=('train',),
    test=('test',),
    folders=('cifar-100-python', 'cifar-100-binary'),
    archives=('cifar-100-python.tar.gz', 'cifar-100-binary.tar.gz'),
    labels_key='fine_labels',
    label_bytes=2,
    class_names=tuple(_CIFAR100_CLASSES.split()),
  ),
}

# Pickles of Python 2, and of NumPy 1 and 2, need these to build arrays, and nothing else.
_ALLOWED = {
  ('numpy', 'ndarray'),
  ('numpy', 'dtype'),
  ('numpy.core.multiarray', '_reconstruct'),
  ('numpy._core.multiarray', '_reconstruct'),
  ('numpy.core.numeric', '_frombuffer'),
  ('numpy._core.numeric', '_frombuffer'),
  ('_codecs', 'encode'),
}

_ROW = 3 * 32 * 32  # bytes of an image

_Rows = UInt8[np.ndarray, 'N 3072']
_Labels = Integer[np.ndarray, 'N']


def load(name: str, path: str | os.PathLike) -> dict[str, np.ndarray] | None:
  """Reads a local copy, in its Python or its binary form.

  Args:
    name: 'cifar10' or 'cifar100'.
    path: the unpacked folder or the tar archive of either form, or a folder that holds one of them.

  Returns:
    `train_images` uint8 `[N, 32, 32, 3]`, `train_labels`, `test_images` and `test_labels`; None if
    there are no such files.

  Raises:
    ValueError: a file is missing or damaged, or holds other things than arrays.
  """
  layout, path = FILES[name], pathlib.Path(path)
  wanted = [*layout.train, *layout.test]
  blobs = _find(layout, path)
  for suffix, parse in ('', _parse_pickle), ('.bin', _parse_binary):
    present = [file for file in wanted if file + suffix in blobs]
    if not present:
      continue
    if missing := sorted(set(wanted) - set(present)):
      raise ValueError(f'{path} is not all of {name}: the file {missing[0]}{suffix} is missing')
    found = {file: parse(blobs[file + suffix], file + suffix, layout) for file in wanted}
    train = _join('train', [found[file] for file in layout.train])
    return train | _join('test', [found[file] for file in layout.test])
  return None


def _find(layout: Layout, path: pathlib.Path) -> dict[str, bytes]:
  """Returns the contents of the files by name, from the first place that has any of them.

  Args:
    layout: of the data set.
    path: see `load`.
  """
  wanted = {name + suffix for name in layout.train + layout.test for suffix in ('', '.bin')}
  if path.is_file():
    return _read_archive(path, wanted)
  for folder in path, *(path / name for name in layout.folders):
    found = {name: folder / name for name in sorted(wanted) if (folder / name).is_file()}
    if found:
      return {name: file.read_bytes() for name, file in found.items()}
  archive = next((path / name for name in layout.archives if (path / name).is_file()), None)
  return _read_archive(archive, wanted) if archive else {}


def _read_archive(file: pathlib.Path, wanted: Set[str]) -> dict[str, bytes]:
  """Reads the wanted members of a tar archive; unpacks nothing to disk.

  Args:
    file: the archive.
    wanted: names of members, without their folders.
  """
  blobs = {}
  try:
    with tarfile.open(file) as archive:
      for member in archive:
        name = pathlib.PurePosixPath(member.name).name
        file_in_archive = archive.extractfile(member) if member.isfile() else None
        if file_in_archive is not None and name in wanted:
          blobs[name] = file_in_archive.read()
  except (tarfile.TarError, EOFError, zlib.error) as error:
    raise ValueError(f'{file} is not a whole tar archive ({error})') from error
  return blobs


class ArraysOnly(pickle.Unpickler):
  """An unpickler that builds arrays alone, since a pickle can run any code."""

  def find_class(self, module: str, name: str) -> Any:
    """Returns a class or function of NumPy that builds arrays.

    Args:
      module: that the pickle names.
      name: in the module.

    Raises:
      UnpicklingError: the pickle asks for anything else.
    """
    if (module, name) not in _ALLOWED:
      raise pickle.UnpicklingError(f'{module}.{name} is not allowed in a CIFAR file')
    return super().find_class(module.replace('numpy.core', 'numpy._core'), name)


def _parse_pickle(blob: bytes, file: str, layout: Layout) -> tuple[_Rows, _Labels]:
  """Returns the rows and labels of a file in the Python form.

  Args:
    blob: content of the file.
    file: its name, for messages.
    layout: of the data set.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # NumPy 2.4 warns about the way Python 2 wrote a dtype
      content = ArraysOnly(io.BytesIO(blob), encoding='bytes').load()
    content = {k.decode() if isinstance(k, bytes) else k: v for k, v in content.items()}
    rows, labels = content['data'], np.array(content[layout.labels_key])
  except Exception as error:  # broken pickles raise almost anything
    reason = f'no {error}' if isinstance(error, KeyError) else error
    raise ValueError(f'{file} is not a CIFAR file ({reason})') from error
  _check(rows, labels, file, layout)
  return rows, labels


def _parse_binary(blob: bytes, file: str, layout: Layout) -> tuple[_Rows, _Labels]:
  """Returns the rows and labels of a file in the binary form; arguments as for the Python form."""
  row = layout.label_bytes + _ROW
  if not blob or len(blob) % row:
    raise ValueError(f'{file} is not a CIFAR file ({len(blob)} bytes are not rows of {row})')
  table = np.frombuffer(blob, np.uint8).reshape(-1, row)
  labels, rows = table[:, layout.label_bytes - 1], table[:, layout.label_bytes :]
  _check(rows, labels, file, layout)
  return rows, labels


def _check(rows: Any, labels: np.ndarray, file: str, layout: Layout) -> None:
  """Raises ValueError unless rows and labels have the right shapes, types and range.

  Args:
    rows: anything that a file holds as its data.
    labels: an array of anything.
    file: its name, for messages.
    layout: of the data set.
  """
  if not (isinstance(rows, np.ndarray) and rows.dtype == np.uint8 and rows.ndim == 2):
    raise ValueError(f'{file} is not a CIFAR file (its data is not a table of bytes)')
  if rows.shape[1] != _ROW or labels.shape != rows.shape[:1] or not len(rows):
    raise ValueError(
      f'{file} is not a CIFAR file (data of shape {rows.shape}, labels of {labels.shape})'
    )
  most = len(layout.class_names) - 1
  if labels.dtype.kind not in 'iu' or labels.min() < 0 or labels.max() > most:
    raise ValueError(f'{file} has labels that are not whole numbers from 0 to {most}')


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
