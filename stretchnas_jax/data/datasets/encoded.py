"""Data sets that are too large for memory: ImageNet, a folder of images, or a set of TFDS.

Only names and labels are held; an image is read when it is needed.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from stretchnas_jax.data.datasets import fingerprints, folder, images, pixels, tfds, tfds_sets
from stretchnas_jax.data.datasets.encoded_images import EncodedImages, Files, Joined, Records

IMAGENET = 'imagenet2012'
_NAMES = (IMAGENET, 'folder', f'{tfds_sets.PREFIX}NAME')


class EncodedDataset(NamedTuple):
  """A data set whose images stay on disk."""

  name: str
  train: EncodedImages
  test: EncodedImages | None
  """None if the data set has no test images."""
  class_names: tuple[str, ...]
  val: EncodedImages | None = None
  """None if the data set has no validation images of its own."""
  notes: tuple[str, ...] = ()
  """Sentences for a person about what was passed over."""
  grey: bool | None = None
  """Whether all images have one channel; None where nobody has looked yet."""

  @property
  def train_labels(self) -> Int32[np.ndarray, 'N']:
    """The labels of the training images."""
    return self.train.labels

  def fingerprint(self) -> fingerprints.Fingerprint:
    """Returns the classes, and for each part facts that change whenever a batch would change."""
    parts = {name: self.part(name) for name in ('train', 'val', 'test')}
    found = {name: part.fingerprint() for name, part in parts.items() if part is not None}
    return {'classes': list(self.class_names), **found}

  def part(self, name: str) -> EncodedImages | None:
    """Returns the images of 'train', 'val' or 'test', or None if there is no such part."""
    return {'train': self.train, 'val': self.val, 'test': self.test}[name]

  def with_validation_in_training(self) -> tuple['EncodedDataset', int]:
    """Appends the validation images to the training images.

    Returns:
      The data set without a part 'val', and the number of images that were appended.
    """
    if self.val is None:
      return self, 0
    joined = Joined.of(self.train, self.val)
    return self._replace(train=joined, val=None), len(self.val.labels)


def load(
  name: str, *, path: str | None = None, cache: str | os.PathLike | None = None
) -> EncodedDataset:
  """Finds the images and the labels of a data set, and reads no image.

  Args:
    name: 'imagenet2012', 'folder', or 'tfds:' and the name of a data set in TFDS.
    path: a folder of images, see `folder.find`. For imagenet2012 this may also be the folder in
      which TFDS prepared it as array_record, as for data sets of TFDS; None is TFDS' default
      folder.
    cache: a folder for the labels of TFDS' records, which are slow to find. None is the user's
      cache folder.

  Returns:
    The data set. ImageNet's validation images are its part 'test', as in all papers, since the
    labels of its own test images are not public.

  Raises:
    ValueError, OSError: names the mistake in one sentence.
  """
  path = os.path.expanduser(path) if path else None
  if name.startswith(tfds_sets.PREFIX):
    return _load_records(name, path, cache)
  if name not in _NAMES:
    raise ValueError(f'data.name is {name!r}; streamed it can be one of {", ".join(_NAMES)}')
  if name == IMAGENET and (not path or os.path.isdir(os.path.join(path, name))):
    return _load_records(name, path, cache)
  if not path:
    raise ValueError("data.path is missing; data.name 'folder' needs a folder of class folders")
  found = folder.find(path)
  parts = {part: Files.of(found.root, files) for part, files in found.files.items()}
  return _dataset(name, parts, found.class_names, found.sentences())


def with_pixels(
  dataset: EncodedDataset,
  image_size: images.Size,
  value_range: images.Range | None = None,
  cache: str | os.PathLike | None = None,
) -> EncodedDataset:
  """Looks at pixels where nobody has looked: returns the data set with its field `grey`.

  Args:
    dataset: a data set.
    image_size: to which images are scaled.
    value_range: the values of black and white, see `images.to_rgb`.
    cache: a folder for the answer; None is the user's cache folder.

  Raises:
    ValueError: images of 16 bits use a small part of their range, and no range is stated.
  """
  if dataset.grey is not None:
    return dataset
  found = [part for part in (dataset.train, dataset.val, dataset.test) if part is not None]
  files = [part for part in found if isinstance(part, Files)]
  if len(files) < len(found):
    return dataset._replace(grey=False)
  pixels.check_levels(dataset.train, value_range)
  return dataset._replace(grey=folder.all_grey(files, image_size, value_range, cache))


def _dataset(
  name: str,
  parts: Mapping[str, EncodedImages],
  class_names: tuple[str, ...],
  notes: tuple[str, ...] = (),
) -> EncodedDataset:
  """Returns a data set of the parts that there are."""
  val, test = parts.get('val'), parts.get('test')
  if name == IMAGENET and test is None:
    val, test = None, val
  # ImageNet has colours, and too many images to look at.
  return EncodedDataset(
    name, parts['train'], test, class_names, val, notes, grey=False if name == IMAGENET else None
  )


def _load_records(
  name: str, data_dir: str | None, cache: str | os.PathLike | None
) -> EncodedDataset:
  """Loads the splits of a data set that TFDS prepared."""
  tfds_name, parts, notes = name.removeprefix(tfds_sets.PREFIX), {}, []
  splits = {'train': 'train', 'val': 'validation'}
  if name != IMAGENET:
    splits = tfds_sets.parts_of(tfds_name, data_dir=data_dir)
  for part, split in splits.items():
    source, labels, keys = tfds.open_records(tfds_name, split, data_dir=data_dir, cache=cache)
    if part != 'train' and (labels < 0).any():
      notes.append(f'the split {split!r} has images without a label and is not used')
    else:
      version = tfds_sets.version_of(tfds_name, data_dir)
      parts[part] = Records(source, labels, f'{tfds_name} ({split})', keys.image, version)
  names = tfds_sets.class_names(tfds_name, data_dir)
  grey = tfds_sets.are_grey(tfds_name, data_dir)
  return _dataset(name, parts, names, tuple(notes))._replace(grey=grey)
