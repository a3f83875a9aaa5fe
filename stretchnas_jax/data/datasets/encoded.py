"""Data sets that are too large for memory: ImageNet, or a folder of class folders.

Only names and labels are held; an image is read when it is needed.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from stretchnas_jax.data.datasets import fingerprints, folder, tfds
from stretchnas_jax.data.datasets.encoded_images import EncodedImages, Files, Records

IMAGENET = 'imagenet2012'
_NAMES = (IMAGENET, 'folder')


class EncodedDataset(NamedTuple):
  """A data set whose images stay on disk."""

  name: str
  train: EncodedImages
  test: EncodedImages | None
  """None if the data set has no test images."""
  class_names: tuple[str, ...]

  @property
  def train_labels(self) -> Int32[np.ndarray, 'N']:
    """The labels of the training images."""
    return self.train.labels

  def fingerprint(self) -> fingerprints.Fingerprint:
    """Returns the classes, and for each part facts that change whenever a batch would change."""
    parts = {'train': self.train, 'test': self.test}
    found = {name: part.fingerprint() for name, part in parts.items() if part is not None}
    return {'classes': list(self.class_names), **found}


def load(
  name: str, *, path: str | None = None, cache: str | os.PathLike | None = None
) -> EncodedDataset:
  """Finds the images and the labels of a data set, and reads no image.

  Args:
    name: 'imagenet2012' or 'folder'.
    path: a folder of class folders of images, or a folder with `train/` and `val/` (or `test/`) of
      class folders. The sorted names are the classes 0, 1, and so on. For imagenet2012 this may
      also be the folder in which TFDS prepared it as array_record; None is TFDS' default folder.
    cache: a folder for the labels of TFDS' records, which are slow to find. None is the user's
      cache folder.

  Returns:
    The data set. ImageNet's part `validation` is its test part, since the labels of its own test
    images are not public.

  Raises:
    ValueError, OSError: names the mistake in one sentence.
  """
  if name not in _NAMES:
    raise ValueError(f'data.name is {name!r}; streamed it can be one of {", ".join(_NAMES)}')
  path = os.path.expanduser(path) if path else None
  if name == IMAGENET and (not path or os.path.isdir(os.path.join(path, name))):
    return _load_records(name, path, cache)
  if not path:
    raise ValueError("data.path is missing; data.name 'folder' needs a folder of class folders")
  class_names, files = folder.find_files(pathlib.Path(path))
  test = _as_files(files['test']) if 'test' in files else None
  return EncodedDataset(name, _as_files(files['train']), test, tuple(class_names))


def _as_files(found: list[tuple[str, int]]) -> Files:
  """Returns `Files` from pairs of path and label."""
  paths = [path for path, _ in found]
  return Files(paths, np.array([label for _, label in found], np.int32))


def _load_records(
  name: str, data_dir: str | None, cache: str | os.PathLike | None
) -> EncodedDataset:
  """Loads the splits `train` and `validation` of a data set that TFDS prepared."""
  parts, class_names = {}, ()
  for split in 'train', 'validation':
    source, labels, class_names = tfds.open_records(name, split, data_dir=data_dir, cache=cache)
    parts[split] = Records(source, labels, f'{name} ({split})')
  return EncodedDataset(name, parts['train'], parts['validation'], class_names)
