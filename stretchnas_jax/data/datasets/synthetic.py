"""Random images in the shape of a data set, to measure the cost of a run without its data."""

import io
import math
import os
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from stretchnas_jax.data.datasets import folder, images, tfds_sets
from stretchnas_jax.data.datasets.dataset import Dataset, make_dataset
from stretchnas_jax.data.datasets.encoded import EncodedDataset


class Size(NamedTuple):
  """The size of a data set."""

  train: int
  """Number of training images."""
  test: int
  """Number of test images."""
  side: int
  """Side of an image, in pixels."""
  channels: int
  classes: int


_SIZES = {
  'digits': Size(1437, 360, 16, 1, 10),
  'cifar10': Size(50_000, 10_000, 32, 3, 10),
  'cifar100': Size(50_000, 10_000, 32, 3, 100),
  'imagenet2012': Size(1_281_167, 50_000, 224, 3, 1000),
}
FOLDER = Size(10_000, 2_000, 32, 3, 10)
"""The assumed size of a folder without a path, and of a set of TFDS."""
FILE = (500, 375)
"""Width and height of the image files: the most frequent ones of ImageNet."""


class _SameImage(NamedTuple):
  """Images that are all the same; implements `encoded_images.EncodedImages`."""

  file: bytes
  labels: Int32[np.ndarray, 'N']

  def open(self, i: int) -> io.BytesIO:
    """Returns the image file."""
    del i
    return io.BytesIO(self.file)

  def name(self, i: int) -> str:
    """Returns a name of image `i` for messages."""
    return f'noise {i}'

  def fingerprint(self) -> dict[str, Any]:
    """Returns the number of images; no run is made with noise."""
    return {'images': len(self.labels)}


def is_published(name: str) -> bool:
  """Tells whether the size of a data set is known without its files.

  Args:
    name: as for `size_of`.
  """
  return name in _SIZES


def size_of(name: str, path: str | None = None) -> Size:
  """Returns the size of a data set without reading an image.

  Args:
    name: as for `loading.load`, or 'imagenet2012'.
    path: of a folder of images. Its files are counted, and assumed to have three channels.

  Raises:
    ValueError, OSError: names the field or the file, and the allowed values, in one sentence.
  """
  if name == 'folder' and path:
    found = folder.find(os.path.expanduser(path))
    return FOLDER._replace(
      train=len(found.files['train']),
      test=len(found.files.get('test', ())),
      classes=len(found.class_names),
    )
  if name.startswith(tfds_sets.PREFIX):
    return FOLDER
  if name != 'folder' and name not in _SIZES:
    raise ValueError(f'data.name is {name!r}; it must be one of {", ".join(_SIZES)}, folder')
  return _SIZES.get(name, FOLDER)


def dataset(
  name: str, *, path: str | None = None, image_size: images.Size | None = None, seed: int = 0
) -> Dataset:
  """Returns noise in the shape of a data set; every class has as many images.

  Args:
    name: as for `size_of`.
    path: as for `size_of`.
    image_size: of the images, in pixels; None is the size of the data set.
    seed: of the noise.
  """
  size, noise = size_of(name, path), np.random.default_rng(seed)
  height, width = images.height_and_width(image_size or size.side)
  arrays = {}
  for part, count in (('train', size.train), ('test', size.test)):
    if count:
      arrays[f'{part}_images'] = _uniform_bytes(noise, (count, height, width, size.channels))
      arrays[f'{part}_labels'] = np.arange(count) % size.classes
  # Uniform bytes have this mean and deviation, so they need not be computed.
  mean = np.full(size.channels, 0.5, np.float32)
  std = np.full(size.channels, 0.289, np.float32)
  return make_dataset(name, arrays, map(str, range(size.classes)), (mean, std))


def encoded_dataset(name: str, *, path: str | None = None, seed: int = 0) -> EncodedDataset:
  """Returns one image file of noise as often as a data set has images.

  Args:
    name: as for `size_of`.
    path: as for `size_of`.
    seed: of the noise.
  """
  size, file = size_of(name, path), _jpeg(np.random.default_rng(seed))
  train = _SameImage(file, np.arange(size.train, dtype=np.int32) % size.classes)
  test = _SameImage(file, np.arange(size.test, dtype=np.int32) % size.classes)
  class_names = tuple(map(str, range(size.classes)))
  return EncodedDataset(name, train, test if size.test else None, class_names)


def _uniform_bytes(
  noise: np.random.Generator, shape: tuple[int, int, int, int]
) -> UInt8[np.ndarray, 'N H W C']:
  """Returns uniform noise, drawn as 64-bit words since that is much faster."""
  size = math.prod(shape)
  words = noise.integers(0, 2**64, -(-size // 8), np.uint64)
  return words.view(np.uint8)[:size].reshape(shape)


def _jpeg(noise: np.random.Generator) -> bytes:
  """Returns a JPEG file that is about as large as ImageNet's, and as slow to decode."""
  width, height = FILE
  coarse = noise.integers(0, 256, (height // 3, width // 3, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(coarse).resize(FILE, Image.Resampling.BICUBIC).save(file, 'JPEG', quality=90)
  return file.getvalue()
