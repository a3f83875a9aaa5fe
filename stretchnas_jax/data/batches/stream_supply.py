"""The feeds of a data set whose images stay on disk."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int, Int32

from stretchnas_jax.data.batches.stream_batches import Options
from stretchnas_jax.data.batches.streaming import StreamEvaluation, StreamFeed
from stretchnas_jax.data.datasets.encoded import EncodedDataset


class StreamSupply:
  """A `feeds.Supply` of a data set whose images stay on disk."""

  def __init__(
    self, dataset: EncodedDataset, batch_size: int, options: Options, *, seed: int
  ) -> None:
    """Takes the data set and reads no image yet.

    Args:
      dataset: its files and labels.
      batch_size: of the global batch.
      options: how the images are treated.
      seed: of the order and of the crops.
    """
    self.name = dataset.name
    self.image_shape = options.image_shape
    self.class_names = dataset.class_names
    self.mean, self.std = np.array(options.mean, np.float32), np.array(options.std, np.float32)
    self.train_labels = dataset.train_labels
    self.notes = dataset.notes
    self._dataset = dataset
    self._batch_size = batch_size
    self._options = options
    self._seed = seed

  def labels(self, part: str) -> Int32[np.ndarray, 'K'] | None:
    """Returns the labels of a part; see `feeds.Supply.labels`."""
    images = self._dataset.part(part)
    return None if images is None else images.labels

  def training(self, fields: Mapping[str, Int[np.ndarray, '_']]) -> StreamFeed:
    """Returns a feed of the training images; see `feeds.Supply.training`."""
    images = self._dataset.train
    return StreamFeed(images, fields, self._batch_size, self._options, seed=self._seed)

  def evaluation(
    self, part: str, indices: Int[np.ndarray, '_'] | None = None
  ) -> StreamEvaluation | None:
    """Returns a feed of images of a part; see `feeds.Supply.evaluation`.

    Args:
      part: name of the part.
      indices: the images that are used; None for all.
    """
    images = self._dataset.part(part)
    if images is None:
      return None
    if indices is None:
      indices = np.arange(len(images.labels))
    return StreamEvaluation(images, indices, self._batch_size, self._options)
