"""The control of a search on the host: the results of monitors, as arrays of a device's types."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from stretchnas_jax.cells.arrays import AnyArray

Control = dict[str, Any]
"""Arrays that monitors and the borders of phases have decided, by name."""


def name_of(end_epoch: Callable[..., Any]) -> str:
  """Returns the name of a monitor for a sentence, by its function."""
  return getattr(end_epoch, '__qualname__', 'end_epoch')


def first(name: str, control: Mapping[str, Any]) -> Control:
  """Returns the entries that a monitor adds to a new search, in the types that a device holds.

  Args:
    name: of the monitor.
    control: the result of its `init`.

  Raises:
    ValueError: an entry is not a number, or does not fit the type.

  Example:
    >>> first('patience', {'count': 0})['count'].dtype
    dtype('int32')
  """
  found = _as_arrays(name, control)
  for entry, value in found.items():
    if entry == 'allowed':
      continue
    kept = None
    if value.dtype.kind in 'biuf':
      kept = _cast(value, jax.dtypes.canonicalize_dtype(value.dtype))
    if kept is None:
      raise ValueError(f'the monitor {name} begins with {entry}={value}; it must be a number')
    found[entry] = kept
  return found


def next_one(name: str, before: Control, after: Mapping[str, Any]) -> Control:
  """Returns the control after a monitor: its numbers take the types that they had before.

  Args:
    name: of the monitor.
    before: the control so far.
    after: the result of its `end_epoch`.

  Raises:
    ValueError: an entry is new, or has another shape, or a type of another kind.

  Example:
    >>> next_one('patience', {'count': np.int32(1)}, {'count': 2})['count'].dtype
    dtype('int32')
  """
  found = {**before, **_as_arrays(name, after)}
  if extra := sorted(found.keys() - before.keys()):
    raise ValueError(f'the monitor {name} adds {extra[0]!r}; its init must return that entry too')
  for entry, value in before.items():
    for old, new in _pairs(value, found[entry]):
      kept = _cast(new, old.dtype) if old.shape == new.shape else None
      if kept is None:
        shown = entry if new.ndim else f'{entry}={new}'
        raise ValueError(
          f'the monitor {name} returns {shown} as {new.dtype}{list(new.shape)}; it must stay '
          f'{old.dtype}{list(old.shape)}'
        )
      if entry != 'allowed':
        found[entry] = kept
  return found


def _as_arrays(name: str, control: Mapping[str, Any]) -> Control:
  """Returns a control whose entries are arrays; a mask stays a dict by cell type."""
  if not isinstance(control, Mapping):
    raise ValueError(f'the monitor {name} returns a {type(control).__name__}; it must be a dict')
  return {
    entry: {c: np.asarray(mask, bool) for c, mask in value.items()}
    if entry == 'allowed'
    else np.asarray(value)
    for entry, value in control.items()
  }


def _cast(value: AnyArray, dtype: Any) -> AnyArray | None:
  """Returns a number in a type of its kind; None where it is of another kind, or too large."""
  if not np.can_cast(value.dtype, dtype, 'same_kind'):
    return None
  with np.errstate(over='ignore'):
    found = value.astype(dtype)
  whole = np.issubdtype(dtype, np.integer)
  return None if whole and not np.array_equal(found, value) else found


def _pairs(before: Any, after: Any) -> Iterator[tuple[AnyArray, AnyArray]]:
  """Yields the arrays of an entry before and after."""
  if isinstance(before, Mapping):
    yield from ((np.asarray(before[c]), np.asarray(after[c])) for c in before)
  else:
    yield np.asarray(before), np.asarray(after)
