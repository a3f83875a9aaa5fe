"""What a search carries from step to step, and what a step is given."""

from typing import Any, NamedTuple

import jax


class Arch(NamedTuple):
  """The architecture parameters, for each type of cell; no part of the linen parameters."""

  alpha: dict[str, jax.Array]  # {'normal', 'reduce'}: [E, O], operation logits
  beta: dict[str, jax.Array]  # {'normal', 'reduce'}: [R, K], topology logits


class SearchState(NamedTuple):
  """A search between two steps."""

  step: jax.Array  # [], int32
  params: Any
  batch_stats: Any
  arch: Arch
  weights_opt: Any
  alpha_opt: Any
  beta_opt: Any
