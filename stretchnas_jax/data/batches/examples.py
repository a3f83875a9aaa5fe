"""The labelled images that a step receives."""

from typing import NamedTuple

from jaxtyping import Float, Int

from stretchnas_jax.cells.arrays import AnyArray


class Examples(NamedTuple):
  """Labelled images, normalised."""

  images: Float[AnyArray, 'B H W C']
  labels: Int[AnyArray, 'B']


class Batch(NamedTuple):
  """The examples of one search step; all have the same size."""

  train: Examples
  val_alpha: Examples | None
  """None if alpha and beta learn from the examples `train`."""
  val_beta: Examples | None
  """None if alpha and beta share the examples `val_alpha`; one backward pass then serves both."""
