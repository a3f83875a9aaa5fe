"""A data set that is a folder of class folders of images."""

import contextlib
import logging
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from stretchnas_jax.data.datasets import decoding, images
from stretchnas_jax.data.datasets.encoded_images import Files
from stretchnas_jax.machine import disk_cache

SUFFIXES = (
  '.avif', '.bmp', '.gif', '.j2k', '.jp2', '.jpe', '.jpeg', '.jpg', '.pbm', '.pgm', '.png', '.pnm',
  '.ppm', '.tga', '.tif', '.tiff', '.webp',
)  # fmt: skip
_FORMAT = 1  # version of the cached arrays


def load(
  path: str | os.PathLike,
  *,
  image_size: int,
  cache: str | os.PathLike | None = None,
  on_bad_image: str = 'error',
) -> dict[str, np.ndarray]:
  """Reads class folders of images, or a folder with `train/` and `test/` (or `val/`) of them.

  The sorted names of the folders are the classes 0, 1, and so on. Only files with a suffix of
  `SUFFIXES` are read; hidden files are ignored. The result has one channel if all images are grey,
  else three.

  Args:
    path: the folder.
    image_size: side of the resulting images. Each image is scaled as a whole, and not cropped.
    cache: a folder for the decoded images; None is the user's cache folder.
    on_bad_image: 'error', or 'skip' to leave out unreadable images with a warning.

  Returns:
    Arrays `class_names`, `train_images` and `train_labels`. If there is a test folder, also
    `test_images` and `test_labels`.

  Raises:
    FileNotFoundError, NotADirectoryError, ValueError: names the mistake in one sentence.
  """
  path = _check_folder(path)
  class_names, files = find_files(path)
  name = f'folder-{re.sub(r"[^A-Za-z0-9]+", "-", path.name)[:40]}-'
  name += disk_cache.digest(path.resolve(), image_size)

  def make() -> dict[str, np.ndarray]:
    """Decodes all images."""
    return _decode(files, class_names, image_size, on_bad_image)

  return disk_cache.cached(name, _fingerprint(files, image_size, on_bad_image), make, cache)


def find_files(
  path: str | os.PathLike,
) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
  """Lists the images of class folders.

  Args:
    path: class folders, or a folder with `train/` and `test/` (or `val/`) of class folders.

  Returns:
    The names of the classes. For 'train', and for 'test' if there is such a folder, the path and
    the label of each image.

  Raises:
    FileNotFoundError, NotADirectoryError, ValueError: names the mistake in one sentence.
  """
  train, test = _find_parts(_check_folder(path))
  class_names = _find_classes(train)
  files = {'train': _list_files(train, class_names, class_names)}
  if test:
    files['test'] = _list_files(test, class_names, _subfolders(test))
  return class_names, files


def _check_folder(path: str | os.PathLike) -> pathlib.Path:
  """Returns the path of an existing folder."""
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'data.path is {str(path)!r}; there is no such folder')
  if not path.is_dir():
    raise NotADirectoryError(f'data.path is {str(path)!r}; it must be a folder of class folders')
  return path


def _find_parts(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path | None]:
  """Returns the folders of training and of test images; the latter may be None."""
  if not _has_parts(path):
    return path, None
  candidates = [path / name for name in ('test', 'val') if (path / name).is_dir()]
  test = next((folder for folder in candidates if _subfolders(folder)), None)
  if candidates and not test:
    logging.warning('%s has no class folders and is not used', candidates[0])
  return path / 'train', test


def _has_parts(path: pathlib.Path) -> bool:
  """Tells whether the folder `train` holds the training images, and is not a class of trains."""
  if not (path / 'train').is_dir():
    return False
  # A folder `train` of images, beside folders of other names, is a class: cars, planes, trains.
  return bool(_subfolders(path / 'train')) or set(_subfolders(path)) <= {'train', 'test', 'val'}


def _subfolders(folder: pathlib.Path) -> list[str]:
  """Returns the sorted names of the folders in a folder, without hidden ones."""
  with os.scandir(folder) as entries:
    return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith('.'))


def _find_classes(folder: pathlib.Path) -> list[str]:
  """Returns the names of the class folders; there must be at least two."""
  names = _subfolders(folder)
  if not names:
    raise ValueError(f'{folder} has no class folders; it must hold one folder of images per class')
  if len(names) == 1:
    raise ValueError(f'{folder} has one class only, {names[0]!r}; at least two are needed')
  return names


def _list_files(
  folder: pathlib.Path, class_names: Sequence[str], wanted: Sequence[str]
) -> list[tuple[str, int]]:
  """Lists the path and label of each image in class folders.

  Args:
    folder: the class folders.
    class_names: all classes, in the order of the labels.
    wanted: the classes that must have images here.
  """
  if unknown := sorted(set(_subfolders(folder)) - set(class_names)):
    raise ValueError(f'{folder} has the class {unknown[0]!r}, which has no training images')
  found = []
  for name in wanted:
    label, inside = class_names.index(name), os.path.join(folder, name)
    files = _list_images(inside)
    if not files:
      raise ValueError(f'{inside} has no images; a class folder holds files such as .png or .jpg')
    found += [(os.path.join(inside, file), label) for file in files]
  return found


def _list_images(folder: str) -> list[str]:
  """Returns the sorted names of the image files in a folder.

  A dangling link is among them, so that reading it is an error.
  """
  with os.scandir(folder) as entries:
    return sorted(
      e.name
      for e in entries
      if e.name.lower().endswith(SUFFIXES) and not e.name.startswith('.') and not e.is_dir()
    )


def _fingerprint(
  files: Mapping[str, Sequence[tuple[str, int]]], image_size: int, on_bad_image: str
) -> str:
  """Returns a text that changes with the name, size or time of any file."""
  parts = [_FORMAT, image_size, on_bad_image]
  for name, found in files.items():
    for file, label in found:
      parts += [name, file, label]
      try:
        status = os.stat(file)
      except OSError:  # a dangling link, which the decoder reports better
        parts += [None]
      else:
        parts += [status.st_size, status.st_mtime_ns]
  return disk_cache.digest(*parts)


def _decode(
  files: Mapping[str, Sequence[tuple[str, int]]],
  class_names: Sequence[str],
  image_size: int,
  on_bad_image: str,
) -> dict[str, np.ndarray]:
  """Returns the arrays of `load` from the paths and labels of `find_files`."""
  arrays = {'class_names': np.array(class_names)}
  for part, found in files.items():
    paths = [path for path, _ in found]
    labels = np.array([label for _, label in found], np.int32)
    logging.info('reading %d images of %s', len(paths), os.path.dirname(os.path.dirname(paths[0])))
    pixels, readable = _read_all(Files(paths, labels), image_size, on_bad_image)
    if lost := sorted(set(labels.tolist()) - set(labels[readable].tolist())):
      raise ValueError(f'{part} has no readable image of the class {class_names[lost[0]]!r}')
    arrays |= {f'{part}_images': pixels[readable], f'{part}_labels': labels[readable]}
  names = [f'{part}_images' for part in files]
  if all(_is_grey(arrays[name]) for name in names):
    arrays |= {name: np.ascontiguousarray(arrays[name][..., :1]) for name in names}
  return arrays


def _read_all(
  files: Files, size: int, on_bad_image: str
) -> tuple[UInt8[np.ndarray, 'N S S 3'], np.ndarray]:
  """Reads and scales image files.

  Args:
    files: N files.
    size: S, side of the resulting images.
    on_bad_image: 'error' or 'skip'.

  Returns:
    The images, and False for each one that is skipped.
  """

  def read(place: int, file: images.File, name: str) -> UInt8[np.ndarray, 'S S 3']:
    """Reads an image as a whole.

    Args:
      place: of the image among all images; not used.
      file: its path.
      name: of the image; not used, as it is the path.
    """
    with images.opened(file, name) as image:
      return images.whole(image, size)

  # Twice as many threads as cores, since some of them wait for the disk.
  workers = min(16, 2 * decoding.num_cores())
  decoder = decoding.Decoder(files, workers=workers, on_bad_image=on_bad_image)
  with contextlib.closing(decoder):
    return decoder.start(np.arange(len(files.paths)), read, size).result()


def _is_grey(images: UInt8[np.ndarray, 'N S S 3']) -> bool:
  """Tells whether all three channels are equal."""
  red, green, blue = (images[..., channel] for channel in range(3))
  return np.array_equal(red, green) and np.array_equal(red, blue)
