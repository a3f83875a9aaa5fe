"""A data set that is a folder of class folders of images."""

import logging
import os
import pathlib
import re

import numpy as np

from stretchnas_jax.data.datasets import images as images_lib
from stretchnas_jax.machine import disk_cache as cache_lib

SUFFIXES = tuple(
  '.avif .bmp .gif .j2k .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp'.split()  # noqa: SIM905
)
FORMAT = 1  # of the cached arrays


def load(path, *, image_size, cache=None, on_bad_image='error'):
  """Reads class folders of images, or a folder with `train/` and `test/` (or `val/`) of them.

  Names are sorted and their places are the labels; hidden files and files that are no images by
  their name's ending are passed over. There is one channel if all images are grey, else three.

  Args:
    path: the folder.
    image_size: side of the images that result; each is scaled as a whole, not cropped.
    cache: a folder for the decoded images; None for the user's cache folder.
    on_bad_image: 'error' or 'skip'.

  Returns:
    Mapping with `class_names`, `train_images`, `train_labels`, and, if there is a test folder,
    `test_images`, `test_labels`.

  Raises:
    FileNotFoundError, NotADirectoryError, ValueError: say in one sentence what is wrong.
  """
  path = check(path)
  class_names, files = find_files(path)
  name = f'folder-{re.sub(r"[^A-Za-z0-9]+", "-", path.name)[:40]}-'
  name += cache_lib.digest(path.resolve(), image_size)
  make = lambda: decode(files, class_names, image_size, on_bad_image)
  return cache_lib.cached(name, fingerprint(files, image_size, on_bad_image), make, cache)


def find_files(path):
  """The names of the classes, and `{'train': [(file, label)]}`, with 'test' if there is any.

  Raises:
    FileNotFoundError, NotADirectoryError, ValueError: say in one sentence what is wrong.
  """
  path = check(path)
  train, test = find_parts(path)
  class_names = find_classes(train)
  files = {'train': list_files(train, class_names)}
  if test:
    files['test'] = list_files(test, class_names, partly=True)
  return class_names, files


def check(path):
  """The path of a folder that is there."""
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'data.path is {str(path)!r}; there is no such folder')
  if not path.is_dir():
    raise NotADirectoryError(f'data.path is {str(path)!r}; it must be a folder of class folders')
  return path


def find_parts(path):
  """The folders of training and of test images; the latter may be None."""
  train = path / 'train'
  # A folder `train` of images, beside folders of other names, is a class: cars, planes, trains.
  if not (
    train.is_dir() and (subfolders(train) or set(subfolders(path)) <= {'train', 'test', 'val'})
  ):
    return path, None
  candidates = [path / name for name in ('test', 'val') if (path / name).is_dir()]
  test = next((folder for folder in candidates if subfolders(folder)), None)
  if candidates and not test:
    logging.warning('%s has no class folders and is not used', candidates[0])
  return train, test


def subfolders(folder):
  with os.scandir(folder) as entries:
    return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith('.'))


def find_classes(folder):
  """The names of at least two class folders."""
  names = subfolders(folder)
  if not names:
    raise ValueError(f'{folder} has no class folders; it must hold one folder of images per class')
  if len(names) == 1:
    raise ValueError(f'{folder} has one class only, {names[0]!r}; at least two are needed')
  return names


def list_files(folder, class_names, partly=False):
  """All (file, label) of a folder of class folders; `partly` allows classes to be absent."""
  names = subfolders(folder)
  if unknown := sorted(set(names) - set(class_names)):
    raise ValueError(f'{folder} has the class {unknown[0]!r}, which has no training images')
  found = []
  for name in names if partly else class_names:
    label, inside = class_names.index(name), os.path.join(folder, name)
    files = list_images(inside)
    if not files:
      raise ValueError(f'{inside} has no images; a class folder holds files such as .png or .jpg')
    found += [(os.path.join(inside, file), label) for file in files]
  return found


def list_images(folder):
  """Names of the image files in a folder, dangling links included: reading those is an error."""
  with os.scandir(folder) as entries:
    return sorted(
      e.name
      for e in entries
      if e.name.lower().endswith(SUFFIXES) and not e.name.startswith('.') and not e.is_dir()
    )


def fingerprint(files, image_size, on_bad_image):
  """Changes with the name, size or time of any file."""
  parts = [FORMAT, image_size, on_bad_image]
  for name, found in files.items():
    for file, label in found:
      try:
        stat = os.stat(file)
      except OSError:  # a dangling link: reading it says so better
        parts += [name, file, label, None]
      else:
        parts += [name, file, label, stat.st_size, stat.st_mtime_ns]
  return cache_lib.digest(*parts)


def decode(files, class_names, image_size, on_bad_image):
  """The arrays that `load` returns, from lists of (file, label)."""
  arrays = {'class_names': np.array(class_names)}
  for part, found in files.items():
    paths, labels = zip(*found)
    logging.info('reading %d images of %s', len(paths), os.path.dirname(os.path.dirname(paths[0])))
    images, readable = images_lib.read_all(paths, image_size, on_bad_image=on_bad_image)
    labels = np.array(labels, np.int32)[readable]
    if lost := sorted({label for _, label in found} - set(labels.tolist())):
      raise ValueError(f'{part} has no readable image of the class {class_names[lost[0]]!r}')
    arrays |= {f'{part}_images': images[readable], f'{part}_labels': labels}
  parts = [f'{part}_images' for part in files]
  if all(is_grey(arrays[name]) for name in parts):
    arrays |= {name: np.ascontiguousarray(arrays[name][..., :1]) for name in parts}
  return arrays


def is_grey(images):
  return np.array_equal(images[..., 0], images[..., 1]) and np.array_equal(
    images[..., 0], images[..., 2]
  )
