"""Divides the images of a data set into parts, as indices."""

import zlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt64

SPLITS = ('three_way', 'two_way', 'one_way')


class Parts(NamedTuple):
  """Sorted indices of the images that weights, alpha and beta learn from.

  Attributes:
    train: for the weights; with the split 'one_way' for all three.
    val_alpha: for alpha; with the split 'one_way' the images that only measure.
    val_beta: for beta, or the same as `val_alpha`.
  """

  train: Int32[np.ndarray, '_']
  val_alpha: Int32[np.ndarray, '_']
  val_beta: Int32[np.ndarray, '_']

  def fields(self, split: str) -> dict[str, Int32[np.ndarray, '_']]:
    """Returns the different parts that a step learns from, by name.

    Args:
      split: the split that made them.
    """
    if split == 'one_way':
      return {'train': self.train}
    found = {'train': self.train, 'val_alpha': self.val_alpha}
    return found if self.val_beta is self.val_alpha else found | {'val_beta': self.val_beta}


def search_parts(
  labels: Int[np.ndarray, 'N'],
  *,
  split: str,
  fraction: float = 1.0,
  seed: int = 0,
  num_validation: int = 0,
) -> Parts:
  """Divides the training images of a search into parts with the same mix of classes.

  Where a data set has validation images of its own, alpha and beta learn from these alone, and the
  weights from all training images.

  Args:
    labels: of all images.
    split: 'three_way' for three disjoint parts, or 'two_way' for two. With two parts alpha and beta
      share the second one. 'one_way': weights, alpha and beta learn from all training images. The
      validation images are then those of the data set, and without these the training images.
    fraction: the part of each class that is used, above 0 and at most 1.
    seed: of the choice.
    num_validation: so many images at the end are the data set's own validation images.

  Returns:
    The parts. Without validation images of their own, their sizes differ by at most 1, over all
    classes and within each class.

  Raises:
    ValueError: names the field, its value and the allowed values.
  """
  if split not in SPLITS:
    raise ValueError(
      f'data.split is {split!r}; it must be {", ".join(SPLITS[:-1])} or {SPLITS[-1]}'
    )
  if not 0 < fraction <= 1:
    raise ValueError(f'data.fraction is {fraction!r}; it must be above 0 and at most 1')
  num_parts = _num_search_parts(split)
  num_training = len(labels) - num_validation
  if num_validation:
    train = deal(labels[:num_training], 1, fraction=fraction, seed=seed)
    own = deal(labels[num_training:], max(num_parts - 1, 1), fraction=fraction, seed=seed)
    parts = [*train, *((part + num_training).astype(np.int32) for part in own)]
  else:
    parts = deal(labels, num_parts, fraction=fraction, seed=seed)
  if not all(len(part) for part in parts):
    own = f', {num_validation} of them for validation,' if num_validation else ''
    raise ValueError(
      f'data.fraction {fraction!r} of {len(labels)} images{own} is too few for the {num_parts} '
      f'parts of data.split {split!r}; use more images'
    )
  if split == 'one_way':
    return Parts(parts[0], parts[-1], parts[-1])
  return Parts(parts[0], parts[1], parts[-1])


def _num_search_parts(split: str) -> int:
  """Returns the number of different parts of a search.

  Args:
    split: a member of `SPLITS`.
  """
  return {'three_way': 3, 'two_way': 2, 'one_way': 1}[split]


def deal(
  labels: Int[np.ndarray, 'N'], num_parts: int, *, fraction: float = 1.0, seed: int = 0
) -> list[Int32[np.ndarray, '_']]:
  """Deals the images of each class out to disjoint parts, like cards.

  Args:
    labels: of all images.
    num_parts: number of parts.
    fraction: the part of each class that is dealt.
    seed: of the order within a class.

  Returns:
    The sorted indices of each part.
  """
  order = permutation(len(labels), seed, 'parts')
  by_class = order[np.argsort(labels[order], kind='stable')]
  ends = np.searchsorted(labels[by_class], np.unique(labels), side='right')
  starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
  # Rounding the running sum over the classes keeps the total and each class within one image.
  counts = np.diff(np.floor(fraction * ends + 0.5).astype(np.int64), prepend=0)
  used = [by_class[start : start + count] for start, count in zip(starts, counts)]
  cards = np.concatenate(used) if used else by_class
  return [np.sort(cards[i::num_parts]).astype(np.int32) for i in range(num_parts)]


def hold_out(
  labels: Int[np.ndarray, 'N'], *, fraction: float = 1.0, holdout: float = 0.0
) -> tuple[Int32[np.ndarray, '_'], Int32[np.ndarray, '_']]:
  """Divides images into those for training and those for validation, with the same mix of classes.

  Args:
    labels: of all images.
    fraction: the part of each class that is used, above 0 and at most 1.
    holdout: the part of these that is for validation, at least 0 and below 1.

  Returns:
    The sorted indices for training and for validation; the latter may be empty. They are the same
    for every seed of a run.
  """
  (used,) = deal(labels, 1, fraction=fraction)
  (kept,) = deal(labels[used], 1, fraction=holdout)
  return np.delete(used, kept), used[kept]


def permutation(size: int, seed: int, stream: str, *numbers: int) -> Int64[np.ndarray, 'size']:
  """Returns a permutation of `range(size)` that depends on the arguments alone.

  Args:
    size: of the permutation.
    seed: of the run.
    stream: a name; streams of different names are independent of one another.
    *numbers: for example the epoch.
  """
  return np.argsort(random_bits(size, seed, stream, *numbers), kind='stable')


def random_bits(size: int, seed: int, stream: str, *numbers: int) -> UInt64[np.ndarray, 'size']:
  """Returns random 64-bit integers that depend on the arguments alone.

  Args:
    size: how many.
    seed: of the run.
    stream: a name; streams of different names are independent of one another.
    *numbers: for example the epoch.
  """
  entropy = [seed, zlib.crc32(stream.encode()), *numbers]
  # Raw bits stay the same in every version of NumPy; the methods of a Generator may change.
  return np.random.Philox(np.random.SeedSequence(entropy)).random_raw(size)
