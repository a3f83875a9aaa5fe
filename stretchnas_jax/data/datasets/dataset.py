"""A data set in memory, and the checks that each one passes."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from numpy.typing import ArrayLike

from stretchnas_jax.data.datasets import fingerprints

_BLOCK = 1024  # images that are counted at once, so that integer copies stay small


class Dataset(NamedTuple):
  """A data set in memory, of N images of H x W pixels with C channels.

  Labels count from 0 to the number of classes - 1.
  """

  name: str
  train_images: UInt8[np.ndarray, 'N H W C']
  train_labels: Int32[np.ndarray, 'N']
  test_images: UInt8[np.ndarray, 'M H W C'] | None
  """None if the data set has no test images."""
  test_labels: Int32[np.ndarray, 'M'] | None
  class_names: tuple[str, ...]
  mean: Float32[np.ndarray, 'C']
  """Mean of each channel of the training images, scaled to 0..1."""
  std: Float32[np.ndarray, 'C']
  """Standard deviation of each channel of the training images, scaled to 0..1."""
  val_images: UInt8[np.ndarray, 'V H W C'] | None = None
  """None if the data set has no validation images of its own."""
  val_labels: Int32[np.ndarray, 'V'] | None = None
  notes: tuple[str, ...] = ()
  """Sentences for a person about what was passed over."""

  def part(self, name: str) -> tuple[UInt8[np.ndarray, 'K H W C'], Int32[np.ndarray, 'K']] | None:
    """Returns images and labels of 'train', 'val' or 'test', or None if there is no such part."""
    images, labels = {
      'train': (self.train_images, self.train_labels),
      'val': (self.val_images, self.val_labels),
      'test': (self.test_images, self.test_labels),
    }[name]
    return None if images is None or labels is None else (images, labels)

  def fingerprint(self) -> fingerprints.Fingerprint:
    """Returns the classes, and for each part facts that change whenever a batch would change."""
    found: fingerprints.Fingerprint = {'classes': list(self.class_names)}
    for name in 'train', 'val', 'test':
      if (part := self.part(name)) is not None:
        found[name] = fingerprints.of_arrays(*part)
    return found

  def with_validation_in_training(self) -> tuple['Dataset', int]:
    """Appends the validation images to the training images.

    Returns:
      The data set without a part 'val', and the number of images that were appended.
    """
    if self.val_images is None or self.val_labels is None:
      return self, 0
    joined = self._replace(
      train_images=np.concatenate([self.train_images, self.val_images]),
      train_labels=np.concatenate([self.train_labels, self.val_labels]),
      val_images=None,
      val_labels=None,
    )
    return joined, len(self.val_labels)


def make_dataset(
  name: str,
  arrays: Mapping[str, ArrayLike],
  class_names: Iterable[str],
  statistics: tuple[Float32[np.ndarray, 'C'], Float32[np.ndarray, 'C']] | None = None,
  *,
  notes: tuple[str, ...] = (),
) -> Dataset:
  """Builds a `Dataset` from the arrays of its parts and checks them.

  Args:
    name: of the data set.
    arrays: `train_images` and `train_labels`; also those of `val` and `test`, if there are any.
    class_names: in the order of the labels.
    statistics: mean and standard deviation of each channel; None computes them from the
      training images.
    notes: sentences for a person.

  Raises:
    ValueError: says which part is wrong, and why.
  """
  class_names = tuple(class_names)
  parts = {}
  for part in 'train', 'val', 'test':
    images, labels = arrays.get(f'{part}_images'), arrays.get(f'{part}_labels')
    if images is not None:
      images, labels = np.asarray(images), np.asarray(labels)
      _check_part(f'{name} ({part})', images, labels, len(class_names))
      labels = labels.astype(np.int32)  # only after the check, as it would turn 2**32 into 0
    parts |= {f'{part}_images': images, f'{part}_labels': labels}
  mean, std = statistics or channel_statistics(parts['train_images'])
  return Dataset(name=name, class_names=class_names, mean=mean, std=std, notes=notes, **parts)


def _check_part(where: str, images: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
  """Raises ValueError unless the images and labels of a part fit together."""
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
    raise ValueError(
      f'{where} has images of {images.dtype} {images.shape}, not bytes [N, H, W, 1 or 3]'
    )
  if not labels.size or labels.shape != images.shape[:1]:
    raise ValueError(f'{where} has {len(images)} images and {labels.size} labels')
  if labels.dtype.kind not in 'iu':
    raise ValueError(f'{where} has labels that are not whole numbers, or are too large')
  if labels.min() < 0 or labels.max() >= num_classes:
    raise ValueError(f'{where} has labels outside 0 .. {num_classes - 1}')


def channel_statistics(
  images: UInt8[np.ndarray, 'N H W C'],
) -> tuple[Float32[np.ndarray, 'C'], Float32[np.ndarray, 'C']]:
  """Returns mean and standard deviation of each channel, for images scaled to 0..1.

  A channel that never varies has the deviation 1, so that it can be divided by it.

  Args:
    images: N images.
  """
  num_channels = images.shape[-1]
  # Counts of the 256 levels are exact, for any number of images.
  counts = np.zeros((num_channels, 256))
  for start in range(0, len(images), _BLOCK):
    pixels = images[start : start + _BLOCK].reshape(-1, num_channels)
    counts += [np.bincount(channel, minlength=256) for channel in pixels.T]
  share = counts / counts.sum(axis=1, keepdims=True)
  levels = np.arange(256) / 255
  mean = share @ levels
  std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
  return mean.astype(np.float32), np.where(std > 1e-6, std, 1.0).astype(np.float32)
