"""Decides which images form which batch, as indices."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int, Int32

from stretchnas_jax.data.datasets import splits


class EpochOrder:
  """The batches of all fields in all epochs.

  Attributes:
    steps_per_epoch: the number of batches of an epoch.
  """

  def __init__(
    self, fields: Mapping[str, Int[np.ndarray, '_']], batch_size: int, *, seed: int
  ) -> None:
    """Computes no order yet.

    Args:
      fields: for each field the sorted indices of its images. An epoch is one pass over 'train'. It
        leaves out the last batch if that is smaller.
      batch_size: B.
      seed: of the run.
    """
    self.steps_per_epoch = len(fields['train']) // batch_size
    self._fields = fields
    self._batch_size = batch_size
    self._seed = seed
    self._orders: dict[tuple[str, int], Int32[np.ndarray, 'T B']] = {}

  def batches(self, field: str, epoch: int) -> Int32[np.ndarray, 'T B']:
    """Returns the indices of all batches of a field in an epoch.

    Args:
      field: name of the field.
      epoch: counted from 0.
    """
    if (field, epoch) not in self._orders:
      # A feed may begin the next epoch ahead of time, so two epochs are in use at once.
      kept = {key: found for key, found in self._orders.items() if abs(key[1] - epoch) < 2}
      found = epoch_indices(
        self._fields[field],
        self._batch_size,
        self.steps_per_epoch,
        seed=self._seed,
        epoch=epoch,
        stream=field,
      )
      self._orders = kept | {(field, epoch): found}
    return self._orders[field, epoch]


def epoch_indices(
  part: Int[np.ndarray, 'N'],
  batch_size: int,
  num_batches: int,
  *,
  seed: int,
  epoch: int,
  stream: str,
) -> Int32[np.ndarray, 'T B']:
  """Returns the batches of one epoch.

  They depend on the arguments alone, so that a run resumes without any saved state.

  Args:
    part: the images to draw from.
    batch_size: B, at most N.
    num_batches: T. Where `T * B` is more than N, further permutations of `part` follow the first.
    seed: of the run.
    epoch: counted from 0.
    stream: a name; streams of different names are independent of one another.

  Returns:
    Elements of `part`, drawn without replacement within one permutation.

  Raises:
    ValueError: a batch is larger than the part.
  """
  part = np.asarray(part, np.int32)
  if not 1 <= batch_size <= len(part):
    raise ValueError(
      f'the batch size is {batch_size}; it must be from 1 to {len(part)}, the number of images in '
      f'the part {stream!r}'
    )
  total = batch_size * num_batches
  num_permutations = -(-total // len(part))
  permutations = [
    splits.permutation(len(part), seed, stream, epoch, i) for i in range(num_permutations)
  ]
  order = np.concatenate(permutations or [np.zeros(0, np.int64)])
  return part[order[:total]].reshape(num_batches, batch_size)


def evaluation_places(
  num_examples: int, batch_size: int
) -> tuple[Int32[np.ndarray, 'T B'], Bool[np.ndarray, 'T B']]:
  """Divides all examples into batches of one size, in their order.

  Args:
    num_examples: N.
    batch_size: B.

  Returns:
    The numbers 0 to N - 1 in `ceil(N / B)` batches, and True for each row that holds an example.
    Rows at the end may hold none; they have the number 0.
  """
  if batch_size < 1:
    raise ValueError(f'the batch size is {batch_size}; it must be at least 1')
  places = np.arange(-(-num_examples // batch_size) * batch_size).reshape(-1, batch_size)
  valid = places < num_examples
  return np.where(valid, places, 0).astype(np.int32), valid


def mixed_places(
  num_examples: int, batch_size: int, count: int | None = None
) -> tuple[Int32[np.ndarray, 'T B'], Bool[np.ndarray, 'T B']]:
  """Divides examples into full batches of one size, in a fixed shuffled order.

  A network that is normalised by the moments of its batch needs such batches: each one has all
  classes, and no row of it is blank.

  Args:
    num_examples: N.
    batch_size: B.
    count: how many of the examples count, drawn at random; None for all.

  Returns:
    Numbers from 0 to N - 1 in batches, and True for each row that counts. Rows at the end repeat
    the first numbers of the order, and do not count.
  """
  real = min(num_examples, num_examples if count is None else count)
  places, valid = evaluation_places(real, batch_size)
  order = splits.permutation(num_examples, 0, 'evaluation')[:real]
  return np.resize(order, places.shape).astype(np.int32), valid


def own_rows(batch_size: int, process: tuple[int, int]) -> slice:
  """Returns the rows of the global batch that a process has.

  Args:
    batch_size: of the global batch.
    process: number of the process, and how many there are.

  Raises:
    ValueError: the batch does not divide by the number of processes.
  """
  index, count = process
  own, rest = divmod(batch_size, count)
  if rest:
    raise ValueError(
      f'the batch size is {batch_size}; it must be a multiple of the {count} processes'
    )
  return slice(index * own, (index + 1) * own)


def even_chunks(total: int, most: int) -> list[tuple[int, int]]:
  """Covers some batches by the fewest chunks of one size.

  Args:
    total: number of batches.
    most: largest number of batches of a chunk.

  Returns:
    First batch and size of each chunk. The last chunk may reach beyond `total`.
  """
  number = max(-(-total // most), 1)
  size = -(-total // number)
  return [(i * size, size) for i in range(number)]
