"""A field of a config: its default, its meaning, and the check of its values."""

import math
from collections.abc import Callable, Collection
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
  """

  default: Any
  meaning: str
  check: Check | None = None
  kind: type | None = None


def one_of(names: Collection[str]) -> Check:
  """Returns the check for one of some names."""
  return Check(lambda value: value in names, f'one of {names_lib.some(names)}', tuple(names))


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
