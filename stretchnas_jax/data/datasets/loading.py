"""The door to all data sets that fit in memory: uint8 images and integer labels."""

import os
from typing import NamedTuple

import numpy as np

from stretchnas_jax.data.datasets import cifar, folder, images, splits, tfds

# Of CIFAR-10 as DARTS and its successors print them; they use them for CIFAR-100 too.
CIFAR_MEAN = (0.49139968, 0.48215827, 0.44653124)
CIFAR_STD = (0.24703233, 0.24348505, 0.26158768)

NAMES = ('digits', 'folder', *cifar.FILES)  # data sets that fit in memory
ON_BAD_IMAGE = ('error', 'skip')


class Dataset(NamedTuple):
  """A data set in memory. N images of H x W pixels and C channels; M classes."""

  name: str
  train_images: np.ndarray  # uint8 [N, H, W, C]
  train_labels: np.ndarray  # int32 [N], 0 .. M - 1
  test_images: np.ndarray | None  # None where no test images were given
  test_labels: np.ndarray | None
  class_names: tuple[str, ...]  # M
  mean: np.ndarray  # float32 [C], of training images scaled to 0..1
  std: np.ndarray  # float32 [C]


def load(name, *, path=None, image_size=None, cache=None, on_bad_image='error'):
  """Loads a data set.

  Args:
    name: 'digits', 'folder', 'cifar10' or 'cifar100'.
    path: for folder, class folders of images, or a folder with `train/` and `test/` (or `val/`) of
      class folders; without test images, those of the result are None. For CIFAR, the published
      files (see `cifar.load`) or a folder that TFDS prepared; None for TFDS' default folder.
    image_size: side to which all images are scaled; None for 16 (digits), 32 (folder) or as the
      data set has it.
    cache: a folder for decoded images; None for the user's cache folder.
    on_bad_image: 'error', or 'skip' to leave unreadable files of a folder out.

  Raises:
    ValueError, OSError: one sentence that names the field or the file, and what is allowed.
  """
  if on_bad_image not in ON_BAD_IMAGE:
    raise ValueError(
      f'data.on_bad_image is {on_bad_image!r}; it must be {" or ".join(ON_BAD_IMAGE)}'
    )
  if image_size is not None and image_size < 1:
    raise ValueError(f'data.image_size is {image_size!r}; it must be at least 1')
  path = os.path.expanduser(path) if path else None
  if name == 'digits':
    return load_digits(path, image_size or 16)
  if name == 'folder':
    return load_folder(path, image_size or 32, cache, on_bad_image)
  if name in cifar.FILES:
    return load_cifar(name, path, image_size or 32, cache)
  raise ValueError(f'data.name is {name!r}; in memory it can be one of {", ".join(NAMES)}')


def load_digits(path, image_size):
  """scikit-learn's 1797 handwritten digits of 8 x 8 pixels; the same fifth of them always tests."""
  from sklearn import datasets  # slow to import

  if path:
    raise ValueError(f'data.path is {path!r}; digits come with scikit-learn and have no path')
  digits = datasets.load_digits()
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


def load_folder(path, image_size, cache, on_bad_image):
  if not path:
    raise ValueError("data.path is missing; data.name 'folder' needs a folder of class folders")
  arrays = folder.load(path, image_size=image_size, cache=cache, on_bad_image=on_bad_image)
  return make_dataset('folder', arrays, map(str, arrays['class_names']))


def load_cifar(name, path, image_size, cache):
  """From the published files at `path`, or from what TFDS prepared there."""
  files = cifar.FILES[name]
  if path and not os.path.exists(path):
    raise FileNotFoundError(f'data.path is {path!r}; there is no such file or folder')
  arrays = cifar.load(name, path) if path else None
  if arrays is None:
    if path and not os.path.isdir(os.path.join(path, name)):
      raise FileNotFoundError(
        f'data.path is {path!r}; it has no {name}: it must be {" or ".join(files.folders)}, a tar '
        f"archive of either, or a folder prepared by TFDS (class folders are data.name 'folder')"
      )
    arrays = tfds.load(name, data_dir=path, cache=cache)
  for part in 'train_images', 'test_images':
    arrays[part] = images.resize(arrays[part], image_size)
  statistics = np.float32(CIFAR_MEAN), np.float32(CIFAR_STD)
  return make_dataset(name, arrays, files.class_names, statistics)


def make_dataset(name, arrays, class_names, statistics=None):
  """A checked `Dataset` from the arrays of its parts."""
  class_names = tuple(class_names)
  parts = {}
  for part in 'train', 'test':
    pictures, labels = arrays.get(f'{part}_images'), arrays.get(f'{part}_labels')
    if pictures is not None:
      labels = np.asarray(labels)
      check_part(f'{name} ({part})', pictures, labels, len(class_names))
      labels = labels.astype(np.int32)  # only now: it would turn 2**32 into 0
    parts |= {f'{part}_images': pictures, f'{part}_labels': labels}
  mean, std = statistics or channel_statistics(parts['train_images'])
  return Dataset(name, class_names=class_names, mean=mean, std=std, **parts)


def check_part(what, pictures, labels, num_classes):
  if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] not in (1, 3):
    raise ValueError(
      f'{what} has images of {pictures.dtype} {pictures.shape}, not bytes [N, H, W, C]'
    )
  if not len(labels) or labels.shape != pictures.shape[:1]:
    raise ValueError(f'{what} has {len(pictures)} images and {len(labels)} labels')
  if labels.dtype.kind not in 'iu':
    raise ValueError(f'{what} has labels that are not whole numbers, or too large ones')
  if labels.min() < 0 or labels.max() >= num_classes:
    raise ValueError(f'{what} has labels outside 0 .. {num_classes - 1}')


def channel_statistics(pictures):
  """Mean and standard deviation of each channel of uint8 `[N, H, W, C]`, scaled to 0..1."""
  counts = np.zeros((pictures.shape[-1], 256))
  # Counting the 256 levels is exact; in blocks, the integer copies stay small.
  for start in range(0, len(pictures), 1024):
    block = pictures[start : start + 1024].reshape(-1, len(counts))
    counts += [np.bincount(channel, minlength=256) for channel in block.T]
  share, levels = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
  mean = share @ levels
  std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
  # A channel of one level only would divide by zero.
  return np.float32(mean), np.float32(np.where(std > 1e-6, std, 1.0))
