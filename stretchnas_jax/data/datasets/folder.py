"""A data set that is a folder of images: in class folders, or with a table of labels."""

import contextlib
import logging
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from stretchnas_jax.data.datasets import (
  decoding,
  image_limits,
  images,
  label_table,
  listing,
  pixels,
)
from stretchnas_jax.data.datasets.dataset import Dataset, make_dataset
from stretchnas_jax.data.datasets.encoded_images import Files
from stretchnas_jax.machine import disk_cache
from stretchnas_jax.machine import facts as machine_facts

_FORMAT = 2  # version of the cached arrays


def load(
  path: str | os.PathLike,
  *,
  image_size: images.Size,
  value_range: images.Range | None = None,
  cache: str | os.PathLike | None = None,
  on_bad_image: str = 'error',
) -> Dataset:
  """Reads the images of a folder.

  They have one channel if all images are grey, else three.

  Args:
    path: the folder, see `find`.
    image_size: side of the resulting images, or height and width. Each image is scaled as a whole,
      and not cropped.
    value_range: the values of black and white in images of more than 8 bits, see `images.to_rgb`.
    cache: a folder for the decoded images; None is the user's cache folder.
    on_bad_image: 'error', or 'skip' to leave out unreadable images with a warning.

  Raises:
    FileNotFoundError, NotADirectoryError, ValueError: names the mistake in one sentence.
  """
  path, found = pathlib.Path(path), find(path)
  files = {part: Files.of(found.root, listed) for part, listed in found.files.items()}
  size = images.height_and_width(image_size)
  name = f'folder-{re.sub(r"[^A-Za-z0-9]+", "-", path.name)[:40]}-'
  name += disk_cache.digest(path.resolve(), size)

  def make() -> dict[str, np.ndarray]:
    """Decodes all images."""
    return _decode(files, found.class_names, size, value_range, on_bad_image)

  options = _FORMAT, found.class_names, tuple(files), size, value_range, on_bad_image
  key = disk_cache.digest(fingerprint(files.values()), *options, image_limits.most_pixels())
  arrays = disk_cache.cached(name, key, make, cache)
  skipped = [
    f'{len(bad)} of {len(own.names)} images of {part} cannot be read and do not count, for example '
    f'{own.names[bad[0]]!r}'
    for part, own in files.items()
    if len(bad := np.flatnonzero(~arrays[f'{part}_readable']))
  ]
  notes = (*found.sentences(), *skipped)
  return make_dataset('folder', arrays, found.class_names, notes=notes)


def find(path: str | os.PathLike) -> listing.Listing:
  """Lists the images of a folder, and reads none.

  Labels come from a table where there is one, see `label_table`. Else they come from class folders,
  see `listing.by_class_folders`. The path may also be a table, with the images beside it. Parts are
  `train` or `training`, `val`, `valid`, `validation` or `dev`, `test` or `testing`, in any
  case.

  Args:
    path: the folder, or a file that ends in .csv.

  Raises:
    FileNotFoundError, NotADirectoryError, ValueError: names the mistake in one sentence.
  """
  path = pathlib.Path(path)
  if path.suffix.lower() == '.csv' and path.is_file():
    return label_table.by_tables(path.parent, {'': path})
  root = listing.check_folder(path)
  tables = label_table.find(root)
  return label_table.by_tables(root, tables) if tables else listing.by_class_folders(root)


def fingerprint(files: Iterable[Files]) -> str:
  """Returns a text that changes when an image file is another one.

  Size and time alone would not tell: `cp -p` and `rsync -t` keep both. The inode tells a file that
  was moved here, and nobody can set the time of the last change of the inode.

  Args:
    files: of each part.
  """
  facts: list[object] = []
  for part in files:
    facts += ['part', *part.labels.tolist()]
    for name, path in zip(part.names, part.paths):
      facts.append(name)  # not the path, which may be spelt in several ways
      try:
        status = os.stat(path)
      except OSError:  # a dangling link, which the decoder reports better
        facts.append(None)
      else:
        facts += [
          status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev,
        ]  # fmt: skip
  return disk_cache.digest(*facts)


def _decode(
  files: Mapping[str, Files],
  class_names: Sequence[str],
  size: tuple[int, int],
  value_range: images.Range | None,
  on_bad_image: str,
) -> dict[str, np.ndarray]:
  """Returns images and labels of each part of a folder, and which of its files are readable."""
  arrays: dict[str, np.ndarray] = {}
  for part, own in files.items():
    logging.info('reading %d images of %s (%s)', len(own.names), own.root, part)
    pictures, readable = _read_all(own, size, value_range, on_bad_image)
    labels = own.labels
    if lost := sorted(set(labels.tolist()) - set(labels[readable].tolist())):
      raise ValueError(f'{part} has no readable image of the class {class_names[lost[0]]!r}')
    arrays |= {
      f'{part}_images': pictures[readable],
      f'{part}_labels': labels[readable],
      f'{part}_readable': readable,
    }
  names = [f'{part}_images' for part in files]
  if all(pixels.is_grey(arrays[name]) for name in names):
    arrays |= {name: np.ascontiguousarray(arrays[name][..., :1]) for name in names}
  return arrays


def all_grey(
  parts: Sequence[Files],
  image_size: images.Size,
  value_range: images.Range | None = None,
  cache: str | os.PathLike | None = None,
) -> bool:
  """Tells whether all images of a folder are grey, without keeping any of them.

  The answer is the one that `load` gives. Most often the first image tells. Where all are grey,
  each is read once, and the answer is kept.

  Args:
    parts: the files of each part.
    image_size: as for `load`.
    value_range: as for `load`.
    cache: a folder for the answer; None is the user's cache folder.
  """
  size = images.height_and_width(image_size)
  if not pixels.all_grey(parts[0], size, value_range, most=1):
    return False
  root = pathlib.Path(parts[0].root).resolve()

  def make() -> dict[str, np.ndarray]:
    """Reads the images up to the first coloured one."""
    return {'grey': np.array(all(pixels.all_grey(part, size, value_range) for part in parts))}

  key = disk_cache.digest(_FORMAT, fingerprint(parts), size, value_range)
  found = disk_cache.cached(f'folder-grey-{disk_cache.digest(root, size)}', key, make, cache)
  return bool(found['grey'])


def _read_all(
  files: Files,
  size: tuple[int, int],
  value_range: images.Range | None,
  on_bad_image: str,
) -> tuple[UInt8[np.ndarray, 'N H W 3'], np.ndarray]:
  """Reads and scales image files.

  Args:
    files: N files.
    size: H and W of the resulting images.
    value_range: see `load`.
    on_bad_image: 'error' or 'skip'.

  Returns:
    The images, and False for each one that is skipped.
  """
  levels = pixels.Levels(value_range)

  def read(place: int, file: images.File, name: str) -> UInt8[np.ndarray, 'H W 3']:
    """Reads an image as a whole.

    Args:
      place: of the image among all images; not used.
      file: its path.
      name: of the image.
    """
    with images.opened(file, name) as image:
      return levels.seen(name, image, lambda: images.whole(image, size, value_range))

  # Twice as many threads as cores, since some of them wait for the disk.
  workers = min(16, 2 * machine_facts.num_cores())
  decoder = decoding.Decoder(files, workers=workers, on_bad_image=on_bad_image)
  with contextlib.closing(decoder):
    result = decoder.start(np.arange(len(files.names)), read, size).result()
  levels.check()
  return result
