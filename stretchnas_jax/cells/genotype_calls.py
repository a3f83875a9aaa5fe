"""The values of a text that are neither text nor number: words, and calls with known meanings."""

import dataclasses
from collections.abc import Sequence
from typing import Any

_MAX_RANGE = 1000


@dataclasses.dataclass(frozen=True)
class Name:
  """A word without quotation marks."""

  text: str

  def __repr__(self) -> str:
    return repr(self.text)[1:-1]


@dataclasses.dataclass(frozen=True)
class Call:
  """A call such as `Genotype(normal=[...], ...)`; it is not carried out.

  Attributes:
    name: with its dots.
    values: those without a keyword.
    fields: those with one.
  """

  name: str
  values: list[Any]
  fields: dict[str, Any]


def dict_of(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
  """Returns the dict of some pairs; ValueError where a key is repeated, or cannot be a key."""
  found: dict[Any, Any] = {}
  for key, value in pairs:
    key = key.text if isinstance(key, Name) else key
    if not isinstance(key, str | int):
      raise ValueError(f'{ascii(key)[:60]} is the key of a dict; keys are texts or whole numbers')
    if key in found:
      raise ValueError(f'the key {ascii(key)[:60]} is repeated')
    found[key] = value
  return found


# Calls that hand their first argument on.
_SAME = {
  'list', 'tuple', 'set', 'frozenset', 'sorted', 'array', 'asarray', 'tensor', 'Tensor', 'int',
  'int8', 'int16', 'int32', 'int64', 'uint8', 'float', 'float16', 'float32', 'float64', 'str',
  'str_', 'round',
}  # fmt: skip
_DICTS = {'dict', 'Dict', 'OrderedDict', 'Namespace', 'SimpleNamespace', 'EasyDict', 'ConfigDict'}


def called(call: Call) -> Any:
  """Returns what a known call stands for: a range, a list, a dict; another call as it is."""
  last = call.name.rpartition('.')[2]
  if last in ('range', 'arange'):
    return _range(call.values)
  if last in _SAME and len(call.values) >= 1:
    return call.values[0]
  if last in _DICTS and not call.values:
    return call.fields
  if last in _DICTS and len(call.values) == 1:
    inner = call.values[0]
    if isinstance(inner, list | tuple) and all(_is_pair(item) for item in inner):
      inner = dict_of([tuple(item) for item in inner])
    if isinstance(inner, dict):
      return {**inner, **call.fields}
  return call


def _is_pair(item: Any) -> bool:
  return isinstance(item, list | tuple) and len(item) == 2


def _range(values: Sequence[Any]) -> list[int]:
  """Returns the numbers of a range; ValueError for more than a cell can have."""
  if not 1 <= len(values) <= 3 or not all(type(value) is int for value in values):
    raise ValueError(f'range has {ascii(list(values))[:60]}; it must have one to three numbers')
  if len(values) == 3 and not values[2]:
    raise ValueError('the step of a range is 0')
  found = range(*values)
  if len(found) > _MAX_RANGE:
    raise ValueError(f'{found} is longer than a cell')
  return list(found)
