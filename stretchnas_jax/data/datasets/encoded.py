"""Images too many for memory, by number: files in class folders, or records that TFDS prepared.

Only names and labels are held; an image is read when it is asked for.
"""

import io
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from stretchnas_jax.data.datasets import folder, tfds

IMAGENET = 'imagenet2012'
NAMES = (IMAGENET, 'folder')


class Files(NamedTuple):
  """Image files."""

  paths: list[str]  # N
  labels: np.ndarray  # int32 [N]

  def open(self, i):
    """What holds image `i`, as Pillow takes it."""
    return self.paths[i]

  def name(self, i):
    """What a person calls image `i`."""
    return self.paths[i]


class Records(NamedTuple):
  """Records of a split that TFDS prepared."""

  source: Any  # random access to N examples whose images are encoded
  labels: np.ndarray  # int32 [N]
  split: str

  def open(self, i):
    try:
      return io.BytesIO(self.source[int(i)]['image'])
    except Exception as error:  # what a damaged file raises is the library's affair
      raise ValueError(f'{self.name(i)} cannot be read ({error})') from error

  def name(self, i):
    return f'record {i} of {self.split}'


class EncodedDataset(NamedTuple):
  """A data set whose images stay where they are. M classes."""

  name: str
  train: Files | Records
  test: Files | Records | None  # None where no test images were given
  class_names: tuple[str, ...]  # M

  @property
  def train_labels(self):
    """int32 `[N]`"""
    return self.train.labels


def load(name, *, path=None, cache=None):
  """Finds the images and the labels of a data set and reads no image.

  Args:
    name: 'imagenet2012' or 'folder'.
    path: class folders of images, or a folder with `train/` and `val/` (or `test/`) of class
      folders, labels in the order of the sorted names; for imagenet2012 also the folder in which
      TFDS has prepared it as array_record, and None for TFDS' default folder.
    cache: a folder for the labels of TFDS' records, which are slow to find; None for the user's.

  Returns:
    An `EncodedDataset`. ImageNet's `validation` is its test part, as its own is not public.

  Raises:
    ValueError, OSError: one sentence that names what is wrong.
  """
  if name not in NAMES:
    raise ValueError(f'data.name is {name!r}; streamed it can be one of {", ".join(NAMES)}')
  path = os.path.expanduser(path) if path else None
  if name == IMAGENET and (not path or os.path.isdir(os.path.join(path, name))):
    return load_records(name, path, cache)
  if not path:
    raise ValueError("data.path is missing; data.name 'folder' needs a folder of class folders")
  class_names, files = folder.find_files(pathlib.Path(path))
  parts = {part: as_files(found) for part, found in files.items()}
  return EncodedDataset(name, parts['train'], parts.get('test'), tuple(class_names))


def as_files(found):
  """`Files` from a list of (path, label)."""
  paths, labels = zip(*found)
  return Files(list(paths), np.array(labels, np.int32))


def load_records(name, data_dir, cache):
  """The splits `train` and `validation` of a data set as TFDS has prepared it."""
  parts, class_names = {}, ()
  for split in 'train', 'validation':
    source, labels, class_names = tfds.open_records(name, split, data_dir=data_dir, cache=cache)
    parts[split] = Records(source, labels, f'{name} ({split})')
  return EncodedDataset(name, parts['train'], parts['validation'], class_names)
