"""Decides which images form which batch, as indices."""

import numpy as np
from jaxtyping import Bool, Int, Int32

from stretchnas_jax.data.datasets import splits


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
    Numbers from 0 to N - 1 in `ceil(N / B)` batches, and False for the rows at the end that hold
    no example. Those rows have the number 0.
  """
  if batch_size < 1:
    raise ValueError(f'the batch size is {batch_size}; it must be at least 1')
  places = np.arange(-(-num_examples // batch_size) * batch_size).reshape(-1, batch_size)
  valid = places < num_examples
  return np.where(valid, places, 0).astype(np.int32), valid


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
