"""Images by number that are read when they are needed: image files, or records of TFDS."""

import io
import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from stretchnas_jax.data.datasets import fingerprints, images, tfds


@runtime_checkable
class EncodedImages(Protocol):
  """N encoded images and their labels."""

  @property
  def labels(self) -> Int32[np.ndarray, 'N']:
    """The label of each image."""
    ...

  def open(self, i: int) -> images.File:
    """Returns image `i` as Pillow opens it: a path or a binary file."""
    ...

  def name(self, i: int) -> str:
    """Returns a name of image `i` for messages."""
    ...

  def fingerprint(self) -> fingerprints.Fingerprint:
    """Returns facts that change whenever an image, a label or their order changes."""
    ...


class Files(NamedTuple):
  """Image files; implements `EncodedImages`.

  Attributes:
    root: the folder of all files.
    names: of the files, relative to the root, with '/' between folders. They stay the same where
      the folder moves.
    labels: of the images.
  """

  root: str
  names: Sequence[str]
  labels: Int32[np.ndarray, 'N']

  @classmethod
  def of(cls, root: str, found: Sequence[tuple[str, int]]) -> 'Files':
    """Returns files from pairs of name and label.

    Args:
      root: the folder.
      found: names relative to it, and labels.
    """
    labels = np.array([label for _, label in found], np.int32)
    return cls(root, [name for name, _ in found], labels)

  @property
  def paths(self) -> list[str]:
    """The path of each image."""
    return [os.path.join(self.root, name) for name in self.names]

  def open(self, i: int) -> str:
    """Returns the path of image `i`."""
    return os.path.join(self.root, self.names[i])

  def name(self, i: int) -> str:
    """Returns the path of image `i`."""
    return os.path.join(self.root, self.names[i])

  def fingerprint(self) -> fingerprints.Fingerprint:
    """Returns names, sizes and times of the files; no file is read."""
    return fingerprints.of_files(self.paths, self.labels)


class Records(NamedTuple):
  """Records of a split that TFDS prepared; implements `EncodedImages`."""

  source: tfds.RecordSource
  """Examples, in which the image is the bytes of an image file."""
  labels: Int32[np.ndarray, 'N']
  split: str
  """Names the data set and the split in messages."""
  key: str = 'image'
  """Names the image in an example."""
  version: str = ''
  """Changes when the split is prepared in another way."""

  def open(self, i: int) -> io.BytesIO:
    """Returns the image file of record `i`.

    Raises:
      ValueError: the record cannot be read.
    """
    try:
      return io.BytesIO(self.source[i][self.key])
    except Exception as error:  # each library raises types of its own for a damaged file
      raise ValueError(f'{self.name(i)} cannot be read ({error})') from error

  def name(self, i: int) -> str:
    """Returns the number of the record and its split."""
    return f'record {i} of {self.split}'

  def fingerprint(self) -> fingerprints.Fingerprint:
    """Returns the version of the split and its labels; no record is read."""
    return fingerprints.of_records(self.version, self.labels)


class Joined(NamedTuple):
  """The images of two parts, one after the other; implements `EncodedImages`."""

  first: EncodedImages
  second: EncodedImages
  labels: Int32[np.ndarray, 'N']

  @classmethod
  def of(cls, first: EncodedImages, second: EncodedImages) -> 'Joined':
    """Joins the images of two parts.

    Args:
      first: its images keep their numbers.
      second: its images follow.
    """
    return cls(first, second, np.concatenate([first.labels, second.labels]))

  def _find(self, i: int) -> tuple[EncodedImages, int]:
    count = len(self.first.labels)
    return (self.first, i) if i < count else (self.second, i - count)

  def open(self, i: int) -> images.File:
    """Returns image `i` as its part does."""
    part, number = self._find(i)
    return part.open(number)

  def name(self, i: int) -> str:
    """Returns the name of image `i` in its part."""
    part, number = self._find(i)
    return part.name(number)

  def fingerprint(self) -> fingerprints.Fingerprint:
    """Returns the facts of both parts."""
    return {'first': self.first.fingerprint(), 'second': self.second.fingerprint()}
