"""Images by number that are read when they are needed: image files, or records of TFDS."""

import io
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from stretchnas_jax.data.datasets import images, tfds


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


class Records(NamedTuple):
  """Records of a split that TFDS prepared; implements `EncodedImages`."""

  source: tfds.RecordSource
  """Examples; 'image' holds the bytes of an image file."""
  labels: Int32[np.ndarray, 'N']
  split: str
  """Names the data set and the split in messages."""

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
