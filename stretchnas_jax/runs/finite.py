"""Stops a run whose numbers are not finite, before such a state is saved."""

import math

import numpy as np
from jaxtyping import PyTree

from stretchnas_jax.machine import leaves

_CONTROL = 'state.control'


def check_tree(tree: PyTree, at: str) -> None:
  """Raises FloatingPointError where a leaf holds NaN or an infinite number.

  A gradient spoils the weights one step before it spoils the loss. The control of monitors may hold
  infinite numbers, such as a best value so far that is still to come.

  Args:
    tree: a state.
    at: the steps after which it was seen, as text.
  """
  for path, leaf in leaves.flatten(tree).items():
    values = np.asarray(leaves.raw(leaf))
    if (np.isnan(values) if _CONTROL in path else ~np.isfinite(values)).any():
      check(path.lstrip('.'), math.nan, at)


def check(name: str, value: float, at: str) -> None:
  """Raises FloatingPointError where a number of a run is not finite; the last checkpoint stays.

  Args:
    name: of the number, for example `train_loss` or `state.arch.alpha`.
    value: the number.
    at: the steps after which it was seen, as text.
  """
  if not math.isfinite(value):
    if _CONTROL in name:
      raise FloatingPointError(
        f'{name} is {value} after steps {at}: the monitor of that entry must return a number; the '
        'last checkpoint is from before'
      )
    group = next((g for g in ('alpha', 'beta') if f'.{g}' in name), 'weights')
    raise FloatingPointError(
      f'{name} is {value} after steps {at}: a lower config.{group}.learning_rate is the likely '
      'remedy; the last checkpoint is from before'
    )
