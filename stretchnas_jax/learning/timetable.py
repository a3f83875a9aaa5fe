"""Numbers that change with the epoch: temperatures, factors of penalties, and who rests.

All change after an epoch, as in the code of the papers. Epoch e of E counts from 0.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

ByEpoch = Callable[[Int[Array, '']], ScalarLike]
"""A number as a function of the epoch, which may be traced."""


def constant(first: float, last: float, epochs: int) -> ByEpoch:
  """Returns the first value at every epoch.

  Args:
    first: the value.
    last: unused.
    epochs: unused.
  """
  del last, epochs
  return lambda epoch: first


def linear(first: float, last: float, epochs: int) -> ByEpoch:
  """Returns a straight line, which has its last value in the last epoch, E - 1.

  Args:
    first: the value in epoch 0.
    last: the value in the last epoch.
    epochs: E.
  """
  return lambda epoch: first + (last - first) * epoch / max(epochs - 1, 1)


def linear_beyond(first: float, last: float, epochs: int) -> ByEpoch:
  """Returns a straight line, which would have its last value right after the last epoch.

  Args:
    first: the value in epoch 0.
    last: the value in epoch E, which never comes.
    epochs: E.
  """
  return lambda epoch: first + (last - first) * epoch / epochs


def exponential(first: float, last: float, epochs: int) -> ByEpoch:
  """Returns a curve that is multiplied by the same factor after each epoch.

  Args:
    first: the value in epoch 0, above 0.
    last: the value in the last epoch, E - 1, above 0.
    epochs: E.
  """
  return lambda epoch: first * (last / first) ** (epoch / max(epochs - 1, 1))


def skip_dropout(rate: float, warmup_epochs: int, epochs: int) -> ByEpoch:
  """Returns P-DARTS' rate of the dropout of skip connections (Chen et al. 2019, their code).

  While alpha rests it is `rate * (E - 1 - e) / E`. Then it is `rate` again, and falls by a factor
  of `exp(-0.2)` after each epoch.

  Args:
    rate: the highest rate.
    warmup_epochs: in which alpha rests.
    epochs: E.
  """

  def at(epoch: Int[Array, '']) -> ScalarLike:
    resting = (epochs - 1 - epoch) / epochs
    return rate * jnp.where(epoch < warmup_epochs, resting, jnp.exp(-0.2 * (epoch - warmup_epochs)))

  return at


ANNEALINGS = {
  'constant': constant,
  'linear': linear,
  'linear_beyond': linear_beyond,
  'exponential': exponential,
}
"""The ways from one value to another, by name."""


def moves_arch(
  step: Int[Array, ''], steps_per_epoch: int, warmup_epochs: int, every: int
) -> Float[Array, '']:
  """Returns 1 where alpha and beta move, else 0.

  They rest for some epochs. Then they move in every n-th step, counted from the first one.

  Args:
    step: the number of the step.
    steps_per_epoch: the steps of an epoch.
    warmup_epochs: how long they rest.
    every: n.
  """
  begun = step // steps_per_epoch >= warmup_epochs
  return (begun & ((step + 1) % every == 0)).astype(jnp.float32)


def knobs(
  by_epoch: Mapping[str, ByEpoch],
  steps_per_epoch: int,
  warmup_epochs: int = 0,
  every: int = 1,
) -> Callable[[Int[Array, '']], dict[str, ScalarLike]] | None:
  """Returns the knobs of a search, a function of the step.

  Args:
    by_epoch: numbers by name.
    steps_per_epoch: the steps of an epoch.
    warmup_epochs: the epochs in which alpha and beta rest.
    every: they move in every so many steps.

  Returns:
    The function; None where nothing changes.
  """
  rests = warmup_epochs > 0 or every > 1
  if not by_epoch and not rests:
    return None

  def at(step: Int[Array, '']) -> dict[str, ScalarLike]:
    found = {name: value(step // steps_per_epoch) for name, value in by_epoch.items()}
    if rests:
      found['moves_arch'] = moves_arch(step, steps_per_epoch, warmup_epochs, every)
    return found

  return at
