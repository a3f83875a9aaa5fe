"""Which images serve what: the parts of a search, and the batches of an epoch, as indices."""

import zlib
from typing import NamedTuple

import numpy as np

SPLITS = ('three_way', 'two_way')


class Parts(NamedTuple):
  """Indices of the images that train weights, alpha and beta; sorted, int32."""

  train: np.ndarray
  val_alpha: np.ndarray
  val_beta: np.ndarray


def search_parts(labels, *, split, fraction=1.0, seed=0):
  """Divides the training images of a search into parts that hold every class alike.

  Args:
    labels: integers `[N]`.
    split: 'three_way' for three disjoint parts, or 'two_way' for two, of which the second serves
      both alpha and beta.
    fraction: the part of each class that is used at all, above 0 and at most 1.
    seed: of the choice.

  Returns:
    `Parts` whose sizes, over all and within each class, differ by at most 1.

  Raises:
    ValueError: names the field, its value and what is allowed.
  """
  if split not in SPLITS:
    raise ValueError(f'data.split is {split!r}; it must be {" or ".join(SPLITS)}')
  if not 0 < fraction <= 1:
    raise ValueError(f'data.fraction is {fraction!r}; it must be above 0 and at most 1')
  num_parts = 3 if split == 'three_way' else 2
  parts = deal(labels, num_parts, fraction=fraction, seed=seed)
  if not all(len(part) for part in parts):
    raise ValueError(
      f'data.fraction {fraction!r} of {len(labels)} images is too few for the {num_parts} parts of '
      f'data.split {split!r}; use more images'
    )
  return Parts(parts[0], parts[1], parts[-1])


def deal(labels, num_parts, *, fraction=1.0, seed=0):
  """Deals the images of each class out to `num_parts` parts, like cards.

  Args:
    labels: integers `[N]`.
    num_parts: how many disjoint parts.
    fraction: the part of each class that is dealt.
    seed: of the order within a class.

  Returns:
    A list of sorted int32 index arrays.
  """
  labels = np.asarray(labels)
  order = shuffled(len(labels), seed, 'parts')
  by_class = order[np.argsort(labels[order], kind='stable')]
  # Rounding the running sum of the classes keeps both the total and each class within one image.
  bounds = np.searchsorted(labels[by_class], np.unique(labels), side='right')
  wanted = np.floor(fraction * bounds + 0.5).astype(np.int64)
  starts = np.concatenate([[0], bounds[:-1]]).astype(np.int64)
  counts = np.diff(wanted, prepend=0)
  used = [by_class[start : start + count] for start, count in zip(starts, counts)]
  cards = np.concatenate(used) if used else by_class
  return [np.sort(cards[i::num_parts]).astype(np.int32) for i in range(num_parts)]


def hold_out(labels, *, fraction=1.0, holdout=0.0):
  """The images that train and those that are kept apart for validation, every class alike.

  Args:
    labels: integers `[N]`.
    fraction: the part of each class that is used at all, above 0 and at most 1.
    holdout: the part of these that is kept apart, at least 0 and below 1.

  Returns:
    Two sorted int32 index arrays; the second may be empty. The same for every seed of a run.
  """
  (used,) = deal(labels, 1, fraction=fraction)
  (kept,) = deal(np.asarray(labels)[used], 1, fraction=holdout)
  return np.delete(used, kept), used[kept]


def epoch_indices(part, batch_size, num_batches, *, seed, epoch, stream):
  """The batches of one epoch; they depend on the arguments alone, so resuming needs no state.

  Args:
    part: indices `[N]` of the images to draw from.
    batch_size: B, at most N.
    num_batches: T; where `T * B` is more than N, further permutations follow the first.
    seed: of the run.
    epoch: from 0.
    stream: a name; streams of different names are independent of one another.

  Returns:
    int32 `[T, B]`, without replacement within a permutation of `part`.

  Raises:
    ValueError: a batch is larger than the part.
  """
  part = np.asarray(part, np.int32)
  if not 1 <= batch_size <= len(part):
    raise ValueError(
      f'search.batch_size is {batch_size}; it must be from 1 to {len(part)}, the number of images '
      f'in the part {stream!r}'
    )
  total = batch_size * num_batches
  rounds = -(-total // len(part))
  orders = [shuffled(len(part), seed, stream, epoch, i) for i in range(rounds)]
  order = np.concatenate(orders or [np.zeros(0, np.int64)])
  return part[order[:total]].reshape(num_batches, batch_size)


def eval_batches(num_examples, batch_size):
  """Every example once, in order, in batches of one size.

  Args:
    num_examples: N.
    batch_size: B.

  Returns:
    Indices int32 `[ceil(N / B), B]`, and a bool array of that shape that is False where the last
    batch is filled up (with index 0).
  """
  if batch_size < 1:
    raise ValueError(f'the batch size is {batch_size}; it must be at least 1')
  places = np.arange(-(-num_examples // batch_size) * batch_size).reshape(-1, batch_size)
  valid = places < num_examples
  return np.where(valid, places, 0).astype(np.int32), valid


def shuffled(size, seed, stream, *numbers):
  """A permutation of `range(size)` that is a function of the arguments alone."""
  return np.argsort(random_bits(size, seed, stream, *numbers), kind='stable')


def random_bits(size, seed, stream, *numbers):
  """uint64 `[size]`, a function of the arguments alone."""
  entropy = [seed, zlib.crc32(stream.encode()), *numbers]
  bits = np.random.Philox(np.random.SeedSequence(entropy))
  # Unlike the methods of a Generator, raw bits stay the same from one numpy version to the next.
  return bits.random_raw(size)
