"""Images by number that are read when they are needed: image files, or records of TFDS."""

import io
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
  """Image files; implements `EncodedImages`."""

  paths: list[str]
  labels: Int32[np.ndarray, 'N']

  def open(self, i: int) -> str:
    """Returns the path of image `i`."""
    return self.paths[i]

  def name(self, i: int) -> str:
    """Returns the path of image `i`."""
    return self.paths[i]

  def fingerprint(self) -> fingerprints.Fingerprint:
    """Returns names, sizes and times of the files; no file is read."""
    return fingerprints.of_files(self.paths, self.labels)


class Records(NamedTuple):
  """Records of a split that TFDS prepared; implements `EncodedImages`."""

  source: tfds.RecordSource
  """Examples; 'image' holds the bytes of an image file."""
  labels: Int32[np.ndarray, 'N']
  split: str
  """Names the data set and the split in messages."""
  version: str = ''
  """Changes when the split is prepared in another way."""

  def open(self, i: int) -> io.BytesIO:
    """Returns the image file of record `i`.

    Raises:
      ValueError: the record cannot be read.
    """
    try:
      return io.BytesIO(self.source[i]['image'])
    except Exception as error:  # each library raises types of its own for a damaged file
      raise ValueError(f'{self.name(i)} cannot be read ({error})') from error

  def name(self, i: int) -> str:
    """Returns the number of the record and its split."""
    return f'record {i} of {self.split}'

  def fingerprint(self) -> fingerprints.Fingerprint:
    """Returns the version of the split and its labels; no record is read."""
    return fingerprints.of_records(self.version, self.labels)
