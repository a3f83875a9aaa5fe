"""The labelled images that a step is given."""

from typing import NamedTuple

import jax


class Examples(NamedTuple):
  """Labelled images."""

  images: jax.Array  # [B, H, W, C], float, normalised
  labels: jax.Array  # [B], int


class Batch(NamedTuple):
  """The examples of one search step; equal sizes."""

  train: Examples
  val_alpha: Examples
  val_beta: Examples | None  # None: `val_alpha` serves both, in one pass
