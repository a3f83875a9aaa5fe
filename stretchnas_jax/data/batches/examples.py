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

  def part(self, name: str) -> Examples:
    """Returns the examples of a part.

    Args:
      name: a field.

    Raises:
      ValueError: the batches of this search do not have it.
    """
    there = [field for field in self._fields if getattr(self, field) is not None]
    if name not in there:
      raise ValueError(
        f'the rule takes {name} of the batch, which has {", ".join(there)} here; '
        'config.data.split decides it'
      )
    return getattr(self, name)
