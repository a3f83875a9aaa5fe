"""Random images in the shape of a data set, for those who ask what something costs."""

import io
import math
import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from stretchnas_jax.data.datasets import encoded, loading
from stretchnas_jax.data.datasets import folder as folder_lib


class Size(NamedTuple):
  """How large a data set is."""

  train: int  # training images
  test: int
  side: int  # of an image, in pixels
  channels: int
  classes: int


SIZES = {
  'digits': Size(1437, 360, 16, 1, 10),
  'cifar10': Size(50_000, 10_000, 32, 3, 10),
  'cifar100': Size(50_000, 10_000, 32, 3, 100),
  'imagenet2012': Size(1_281_167, 50_000, 224, 3, 1000),
}
# Of a folder that was not named; the program that uses it has to say so.
FOLDER = Size(10_000, 2_000, 32, 3, 10)
FILE = (500, 375)  # width and height of an image file: the most frequent ones of ImageNet


class SameImage(NamedTuple):
  """As `encoded.Files`, but every image is the same."""

  file: bytes
  labels: np.ndarray  # int32 [N]

  def open(self, i):
    return io.BytesIO(self.file)

  def name(self, i):
    return f'noise {i}'


def size_of(name, path=None):
  """The `Size` of a data set, without reading an image.

  Args:
    name: as for `sources.load`.
    path: of a folder of images, whose files are counted then; the channels are taken to be three.

  Raises:
    ValueError, OSError: one sentence that names the field or the file, and what is allowed.
  """
  if name == 'folder' and path:
    train, test = folder_lib.find_parts(folder_lib.check(os.path.expanduser(path)))
    classes = folder_lib.find_classes(train)
    count = len(folder_lib.list_files(train, classes))
    tests = len(folder_lib.list_files(test, classes, partly=True)) if test else 0
    return FOLDER._replace(train=count, test=tests, classes=len(classes))
  if name != 'folder' and name not in SIZES:
    raise ValueError(f'data.name is {name!r}; it must be one of {", ".join(SIZES)}, folder')
  return SIZES.get(name, FOLDER)


def dataset(name, *, path=None, image_size=None, seed=0):
  """A `Dataset` of noise as large as the one of that name; every class has as many images.

  Args:
    name, path: as for `size_of`.
    image_size: side of the images, in pixels; None as the data set has it.
    seed: of the noise.
  """
  size, noise = size_of(name, path), np.random.default_rng(seed)
  side = image_size or size.side
  arrays = {}
  for part, count in (('train', size.train), ('test', size.test)):
    if count:
      shape = (count, side, side, size.channels)
      arrays[f'{part}_images'] = uniform_bytes(noise, shape)
      arrays[f'{part}_labels'] = np.arange(count) % size.classes
  names = map(str, range(size.classes))
  # Those of uniform bytes, so that they need not be counted.
  statistics = np.full(size.channels, 0.5, np.float32), np.full(size.channels, 0.289, np.float32)
  return loading.make_dataset(name, arrays, names, statistics)


def encoded_dataset(name, *, path=None, seed=0):
  """An `encoded.EncodedDataset` as large as the one of that name; arguments as of `dataset`."""
  size, file = size_of(name, path), jpeg(np.random.default_rng(seed))
  parts = [
    SameImage(file, np.arange(count, dtype=np.int32) % size.classes) if count else None
    for count in (size.train, size.test)
  ]
  return encoded.EncodedDataset(name, *parts, tuple(map(str, range(size.classes))))


def uniform_bytes(noise, shape):
  """uint8 array of uniform noise; drawn as words, which takes a seventh of the time."""
  size = math.prod(shape)
  words = noise.integers(0, 2**64, -(-size // 8), np.uint64)
  return words.view(np.uint8)[:size].reshape(shape)


def jpeg(noise):
  """A JPEG file that takes about as long to decode as one of ImageNet, of about 110 kB."""
  width, height = FILE
  coarse = noise.integers(0, 256, (height // 3, width // 3, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(coarse).resize(FILE, Image.Resampling.BICUBIC).save(file, 'JPEG', quality=90)
  return file.getvalue()
