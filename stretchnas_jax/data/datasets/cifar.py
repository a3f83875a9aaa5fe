"""CIFAR-10 and CIFAR-100 from the files that their authors publish (Krizhevsky 2009)."""

import io
import pathlib
import pickle
import tarfile
import warnings
import zlib
from typing import NamedTuple

import numpy as np

CIFAR10_CLASSES = 'airplane automobile bird cat deer dog frog horse ship truck'
CIFAR100_CLASSES = """
  apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
  butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
  crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
  keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
  mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
  plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
  skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
  television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class Files(NamedTuple):
  """How one of the two data sets is laid out on disk."""

  train: tuple[str, ...]
  test: tuple[str, ...]
  folders: tuple[str, ...]
  archives: tuple[str, ...]
  labels_key: str  # of the Python form
  label_bytes: int  # of a row in the binary form; the last of them is the label
  class_names: tuple[str, ...]


FILES = {
  'cifar10': Files(
    train=tuple(f'data_batch_{i}' for i in range(1, 6)),
    test=('test_batch',),
    folders=('cifar-10-batches-py', 'cifar-10-batches-bin'),
    archives=('cifar-10-python.tar.gz', 'cifar-10-binary.tar.gz'),
    labels_key='labels',
    label_bytes=1,
    class_names=tuple(CIFAR10_CLASSES.split()),
  ),
  'cifar100': Files(
    train=('train',),
    test=('test',),
    folders=('cifar-100-python', 'cifar-100-binary'),
    archives=('cifar-100-python.tar.gz', 'cifar-100-binary.tar.gz'),
    labels_key='fine_labels',
    label_bytes=2,
    class_names=tuple(CIFAR100_CLASSES.split()),
  ),
}

# Pickles of Python 2 and of numpy 1 and 2 alike: arrays, and nothing else.
ALLOWED = {
  ('numpy', 'ndarray'),
  ('numpy', 'dtype'),
  ('numpy.core.multiarray', '_reconstruct'),
  ('numpy._core.multiarray', '_reconstruct'),
  ('numpy.core.numeric', '_frombuffer'),
  ('numpy._core.numeric', '_frombuffer'),
  ('_codecs', 'encode'),
}


def load(name, path):
  """Reads a local copy, in its Python or its binary form.

  Args:
    name: 'cifar10' or 'cifar100'.
    path: the unpacked folder or the tar archive of either form, or a folder that holds one of them.

  Returns:
    Mapping with `train_images` uint8 `[N, 32, 32, 3]`, `train_labels`, `test_images` and
    `test_labels`, or None if nothing of the kind is there.

  Raises:
    ValueError: a file is missing or damaged, or does more than hold arrays.
  """
  files, path = FILES[name], pathlib.Path(path)
  wanted = [*files.train, *files.test]
  blobs = find(files, path)
  for suffix, parse in ('', parse_pickle), ('.bin', parse_binary):
    have = [file for file in wanted if file + suffix in blobs]
    if not have:
      continue
    if missing := sorted(set(wanted) - set(have)):
      raise ValueError(f'{path} is not all of {name}: the file {missing[0]}{suffix} is missing')
    read = lambda file: parse(blobs[file + suffix], file + suffix, files)  # noqa: B023
    return {**join('train', files.train, read), **join('test', files.test, read)}
  return None


def find(files, path):
  """The contents of the files by name, from the first place that has any of them."""
  wanted = {name + suffix for name in files.train + files.test for suffix in ('', '.bin')}
  if path.is_file():
    return read_archive(path, wanted)
  for folder in path, *(path / name for name in files.folders):
    found = {name: folder / name for name in sorted(wanted) if (folder / name).is_file()}
    if found:
      return {name: file.read_bytes() for name, file in found.items()}
  archive = next((path / name for name in files.archives if (path / name).is_file()), None)
  return read_archive(archive, wanted) if archive else {}


def read_archive(file, wanted):
  """Contents of the wanted members of a tar archive; nothing is unpacked to disk."""
  blobs = {}
  try:
    with tarfile.open(file) as archive:
      for member in archive:
        name = pathlib.PurePosixPath(member.name).name
        if member.isfile() and name in wanted:
          blobs[name] = archive.extractfile(member).read()
  except (tarfile.TarError, EOFError, zlib.error) as error:
    raise ValueError(f'{file} is not a whole tar archive ({error})') from error
  return blobs


class ArraysOnly(pickle.Unpickler):
  """Refuses whatever is not needed to build an array, since a pickle can run any code."""

  def find_class(self, module, name):
    if (module, name) not in ALLOWED:
      raise pickle.UnpicklingError(f'{module}.{name} is not allowed in a CIFAR file')
    return super().find_class(module.replace('numpy.core', 'numpy._core'), name)


def parse_pickle(blob, file, files):
  """Rows uint8 `[N, 3072]` and labels `[N]` of a file in the Python form."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # numpy 2.4 dislikes how Python 2 wrote a dtype
      content = ArraysOnly(io.BytesIO(blob), encoding='bytes').load()
    content = {k.decode() if isinstance(k, bytes) else k: v for k, v in content.items()}
    rows, labels = content['data'], np.array(content[files.labels_key])
  except Exception as error:  # broken pickles raise almost anything
    reason = f'no {error}' if isinstance(error, KeyError) else error
    raise ValueError(f'{file} is not a CIFAR file ({reason})') from error
  return check(rows, labels, file, files)


def parse_binary(blob, file, files):
  """Rows uint8 `[N, 3072]` and labels `[N]` of a file in the binary form."""
  row = files.label_bytes + 3072
  if not blob or len(blob) % row:
    raise ValueError(f'{file} is not a CIFAR file ({len(blob)} bytes are not rows of {row})')
  table = np.frombuffer(blob, np.uint8).reshape(-1, row)
  labels, rows = table[:, files.label_bytes - 1], table[:, files.label_bytes :]
  return check(rows, labels, file, files)


def check(rows, labels, file, files):
  """The arguments, if rows and labels have the shapes, types and range that they should."""
  if not (isinstance(rows, np.ndarray) and rows.dtype == np.uint8 and rows.ndim == 2):
    raise ValueError(f'{file} is not a CIFAR file (its data is no table of bytes)')
  if rows.shape[1] != 3072 or labels.shape != rows.shape[:1] or not len(rows):
    raise ValueError(
      f'{file} is not a CIFAR file (data of shape {rows.shape}, labels of {labels.shape})'
    )
  most = len(files.class_names) - 1
  if labels.dtype.kind not in 'iu' or labels.min() < 0 or labels.max() > most:
    raise ValueError(f'{file} has labels that are not whole numbers from 0 to {most}')
  return rows, labels


def join(part, names, read):
  """The arrays of one part from its files; rows hold a plane per colour."""
  rows, labels = zip(*(read(name) for name in names))
  images = np.concatenate(rows).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return {
    f'{part}_images': np.ascontiguousarray(images),
    f'{part}_labels': np.concatenate(labels).astype(np.int32),
  }
