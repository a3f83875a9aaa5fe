"""Loads every data set that fits in memory: uint8 images and integer labels."""

import os
from typing import Any

import numpy as np

from stretchnas_jax.data.datasets import cifar, folder, images, splits, tfds, tfds_sets
from stretchnas_jax.data.datasets.dataset import Dataset, make_dataset

# Of CIFAR-10 as DARTS and its successors print them; they use them for CIFAR-100 too.
_CIFAR_MEAN = (0.49139968, 0.48215827, 0.44653124)
_CIFAR_STD = (0.24703233, 0.24348505, 0.26158768)

NAMES = ('digits', 'folder', *cifar.FILES, f'{tfds_sets.PREFIX}NAME')
"""Data sets that fit in memory."""
ON_BAD_IMAGE = ('error', 'skip')


def load(
  name: str,
  *,
  path: str | None = None,
  image_size: images.Size | None = None,
  value_range: images.Range | None = None,
  cache: str | os.PathLike | None = None,
  on_bad_image: str = 'error',
) -> Dataset:
  """Loads a data set.

  Args:
    name: 'digits', 'folder', 'cifar10', 'cifar100', or 'tfds:' and the name of a data set in TFDS.
    path: for 'folder', a folder of images, see `folder.find`. For CIFAR, the published files (see
      `cifar.load`). For CIFAR and TFDS, a folder in which TFDS prepared the data set; None is TFDS'
      default folder.
    image_size: side to which all images are scaled, or height and width. None is 16 for digits, 32
      for a folder, and the size of the data set for others.
    value_range: the values of black and white, for images of a folder or of TFDS that have more
      than 8 bits; see `images.to_rgb`.
    cache: a folder for decoded images; None is the user's cache folder.
    on_bad_image: 'error', or 'skip' to leave out unreadable files of a folder.

  Raises:
    ValueError, OSError: names the field or the file, and the allowed values, in one sentence.
  """
  if on_bad_image not in ON_BAD_IMAGE:
    raise ValueError(
      f'data.on_bad_image is {on_bad_image!r}; it must be {" or ".join(ON_BAD_IMAGE)}'
    )
  if image_size is not None and min(images.height_and_width(image_size)) < 1:
    raise ValueError(f'data.image_size is {image_size!r}; it must be at least 1')
  path = os.path.expanduser(path) if path else None
  if name == 'digits':
    return _load_digits(path, image_size or 16)
  if name == 'folder':
    if not path:
      raise ValueError("data.path is missing; data.name 'folder' needs a folder of class folders")
    return folder.load(
      path,
      image_size=image_size or 32,
      value_range=value_range,
      cache=cache,
      on_bad_image=on_bad_image,
    )
  if name in cifar.FILES:
    return _load_cifar(name, path, image_size or 32, cache)
  if name.startswith(tfds_sets.PREFIX):
    return _load_tfds(name, path, image_size, value_range, cache)
  raise ValueError(f'data.name is {name!r}; in memory it can be one of {", ".join(NAMES)}')


def _load_digits(path: str | None, image_size: images.Size) -> Dataset:
  """Loads the 1797 handwritten digits of scikit-learn; the same fifth of them is always for tests.

  Args:
    path: must be None.
    image_size: to which the images of 8 x 8 pixels are scaled.
  """
  from sklearn import datasets  # slow to import

  if path:
    raise ValueError(f'data.path is {path!r}; digits come with scikit-learn and have no path')
  digits: Any = datasets.load_digits()
  levels = np.round(digits.images * (255 / 16)).astype(np.uint8)
  pictures = images.resize(levels[..., None], image_size)
  test, *rest = splits.deal(digits.target, 5, seed=0)
  train = np.sort(np.concatenate(rest))
  arrays = {
    'train_images': pictures[train],
    'train_labels': digits.target[train],
    'test_images': pictures[test],
    'test_labels': digits.target[test],
  }
  return make_dataset('digits', arrays, map(str, digits.target_names))


def _load_tfds(
  name: str,
  path: str | None,
  image_size: images.Size | None,
  value_range: images.Range | None,
  cache: str | os.PathLike | None,
) -> Dataset:
  """Loads a data set that TFDS has prepared; arguments as for `load`."""
  own_name, notes = name.removeprefix(tfds_sets.PREFIX), []
  parts = tfds_sets.parts_of(own_name, data_dir=path)
  arrays = tfds.load(
    own_name,
    data_dir=path,
    cache=cache,
    splits=parts,
    image_size=image_size,
    value_range=value_range,
    instead='the folder in which TFDS has prepared it',
  )
  for part, split in parts.items():
    if part != 'train' and (arrays[f'{part}_labels'] < 0).any():
      notes.append(f'the split {split!r} has images without a label and is not used')
      arrays = {key: value for key, value in arrays.items() if not key.startswith(f'{part}_')}
  return make_dataset(name, arrays, tfds_sets.class_names(own_name, path), notes=tuple(notes))


def _load_cifar(
  name: str, path: str | None, image_size: images.Size, cache: str | os.PathLike | None
) -> Dataset:
  """Loads CIFAR from the published files, or else from TFDS; arguments as for `load`."""
  files = cifar.FILES[name]
  if path and not os.path.exists(path):
    raise FileNotFoundError(f'data.path is {path!r}; there is no such file or folder')
  arrays = cifar.load(name, path) if path else None
  if arrays is None:
    if path and not os.path.isdir(os.path.join(path, name)):
      raise FileNotFoundError(
        f'data.path is {path!r}; it has no {name}: it must be {" or ".join(files.folders)}, an '
        f"archive of either, or a folder prepared by TFDS (class folders are data.name 'folder')"
      )
    arrays = tfds.load(name, data_dir=path, cache=cache)
  scaled = {
    f'{part}_images': images.resize(arrays[f'{part}_images'], image_size)
    for part in ('train', 'test')
  }
  statistics = np.array(_CIFAR_MEAN, np.float32), np.array(_CIFAR_STD, np.float32)
  return make_dataset(name, arrays | scaled, files.class_names, statistics)
