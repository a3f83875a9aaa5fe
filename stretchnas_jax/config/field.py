"""A field of a config: its default, its meaning, and the check of its values."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from stretchnas_jax.config import names as names_lib


class Check(NamedTuple):
  """A test of one value.

  Attributes:
    passes: tells if a value is allowed.
    allowed: the words for the allowed values.
    names: the allowed names, where the values are names.
  """

  passes: Callable[[Any], bool]
  allowed: str
  names: tuple[str, ...] = ()


class Field(NamedTuple):
  """A field of a config.

  Attributes:
    default: its value where nothing is said.
    meaning: words for a person, on one line.
    check: of its values; None where every value of its type is allowed.
    kind: type of a field whose default is None; None is then allowed beside that type.
    absent: its value in a run that was made before the field was there; None: the default.
  """

  default: Any
  meaning: str
  check: Check | None = None
  kind: type | None = None
  absent: Any = None


def one_of(names: Collection[str]) -> Check:
  """Returns the check for one of some names.

  Args:
    names: the names. 'tfds:NAME' stands for any text after the colon.
  """
  prefixes = tuple(name.removesuffix('NAME') for name in names if name.endswith(':NAME'))
  return Check(
    lambda value: value in names or (value.startswith(prefixes) and value not in prefixes),
    f'one of {names_lib.some(names)}',
    tuple(names),
  )


def whole(least: int, most: float | int = math.inf) -> Check:
  """Returns the check for a whole number.

  Args:
    least: the smallest one.
    most: the largest one.
  """
  words = f'of at least {least}' if most == math.inf else f'from {least} to {most}'
  return Check(
    lambda value: isinstance(value, int) and least <= value <= most, f'a whole number {words}'
  )


def seed() -> Check:
  """Returns the check for a seed; of a larger one JAX takes the last 32 bits alone."""
  return whole(0, 2**32 - 1)


def size(least: int) -> Check:
  """Returns the check for the side of a square in pixels, or for its height and width.

  Args:
    least: the smallest side.
  """
  is_side = lambda value: type(value) is int and value >= least
  return Check(
    lambda value: all(map(is_side, value)) if _is_pair(value) else is_side(value),
    f'a whole number of at least {least}, or two of them: height and width',
  )


def interval() -> Check:
  """Returns the check for two finite numbers, the smaller one first."""

  def passes(value: Any) -> bool:
    """Tells whether a value is such a pair."""
    if not _is_pair(value) or not all(type(number) in (int, float) for number in value):
      return False
    return all(map(math.isfinite, value)) and value[0] < value[1]

  return Check(passes, 'two numbers, the smaller one first')


def dicts() -> Check:
  """Returns the check for a list of dicts."""
  return Check(lambda value: all(isinstance(one, Mapping) for one in value), 'a list of dicts')


def _is_pair(value: Any) -> bool:
  return isinstance(value, tuple | list) and len(value) == 2


def below(most: float | int) -> Check:
  """Returns the check for a number from 0 up to, and without, a bound."""
  return Check(lambda value: 0 <= value < most, f'a number of at least 0 and below {most:g}')


def at_least(least: float | int, most: float | int = math.inf) -> Check:
  """Returns the check for a finite number from one bound to another.

  Args:
    least: the lower bound.
    most: the upper bound.
  """
  return Check(
    lambda value: math.isfinite(value) and least <= value <= most,
    f'a number of at least {least:g}' + _and_at_most(most),
  )


def above(least: float | int, most: float | int = math.inf) -> Check:
  """Returns the check for a finite number above one bound, and up to another.

  Args:
    least: the lower bound, itself excluded.
    most: the upper bound.
  """
  return Check(
    lambda value: math.isfinite(value) and least < value <= most,
    f'a number above {least:g}' + _and_at_most(most),
  )


def _and_at_most(most: float | int) -> str:
  return '' if most == math.inf else f' and at most {most:g}'
