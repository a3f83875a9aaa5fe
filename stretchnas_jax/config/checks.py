"""Checks of config values: which are allowed, and one sentence for each that is not.

Names that become objects (topologies, rules, data sets, ...) are not listed here. Whoever turns a
name into an object hands the allowed names over as `choices`; see `runs/build.py`.
"""

import math
import numbers
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

# The longest text of a value that a message shows.
_SHOWN_CHARACTERS = 200


class _Check(NamedTuple):
  """A test of one value, and the words for values that pass it."""

  passes: Callable[[Any], bool]
  allowed: str


def _one_of(names: Collection[str]) -> _Check:
  return _Check(lambda value: value in names, f'one of {", ".join(names)}')


def _whole(least: int, most: float | int = math.inf) -> _Check:
  words = f'of at least {least}' if most == math.inf else f'from {least} to {most}'
  return _Check(
    lambda value: isinstance(value, int) and least <= value <= most, f'a whole number {words}'
  )


def _below(most: float | int) -> _Check:
  return _Check(lambda value: 0 <= value < most, f'a number of at least 0 and below {most:g}')


def _at_least(least: float | int, most: float | int = math.inf) -> _Check:
  return _Check(
    lambda value: math.isfinite(value) and least <= value <= most,
    f'a number of at least {least:g}' + _and_at_most(most),
  )


def _above(least: float | int, most: float | int = math.inf) -> _Check:
  return _Check(
    lambda value: math.isfinite(value) and least < value <= most,
    f'a number above {least:g}' + _and_at_most(most),
  )


def _and_at_most(most: float | int) -> str:
  return '' if most == math.inf else f' and at most {most:g}'


_RATE, _PART = _above(0), _at_least(0, 1)
_ADAM = {'learning_rate': _RATE, 'b1': _PART, 'b2': _PART, 'weight_decay': _at_least(0)}

_CHECKS = {
  'seed': _whole(0),
  'data.image_size': _whole(8),
  'data.fraction': _above(0, 1),
  'data.holdout': _below(1),
  'data.crop_padding': _whole(0),
  'data.cutout': _whole(0),
  'data.crop_scale': _above(0, 1),
  'data.jitter': _at_least(0, 2.5),
  'data.workers': _whole(0),
  'space.num_intermediate': _whole(1, 10),
  'model.channels': _whole(1),
  'model.num_layers': _whole(1),
  'topology.k': _whole(1),
  'topology.penalty_weight': _at_least(0),
  'relaxation.temperature': _RATE,
  'rule.val_weight': _at_least(0),
  'search.epochs': _whole(1),
  'search.batch_size': _whole(1),
  'search.steps_per_call': _whole(1),
  'train.epochs': _whole(1),
  'train.batch_size': _whole(1),
  'train.auxiliary_weight': _at_least(0),
  'train.drop_path': _below(1),
  'train.label_smoothing': _below(1),
  'train.steps_per_call': _whole(1),
  'weights.learning_rate': _RATE,
  'weights.final_learning_rate': _at_least(0),
  'weights.decay': _above(0, 1),
  'weights.warmup_epochs': _whole(0),
  'weights.momentum': _PART,
  'weights.weight_decay': _at_least(0),
  'weights.clip_norm': _RATE,
  **{f'{group}.{field}': check for group in ('alpha', 'beta') for field, check in _ADAM.items()},
  'checkpoint.every_steps': _whole(0),
  'checkpoint.keep': _whole(1),
}


def validate(
  config: ConfigDict, like: ConfigDict, choices: Mapping[str, Collection[str]] | None = None
) -> None:
  """Raises ValueError, in one sentence, for a field that is unknown, missing or out of range.

  Args:
    config: the config to check.
    like: a config with all fields and their types, for example `search_config()`.
    choices: `{'topology.kind': ('none', 'input_pairs', ...)}`, the allowed names of fields that
      hold a name; `runs.build.CHOICES` has them all. None leaves names unchecked.

  Raises:
    ValueError: names the field, its value and the allowed ones.
  """
  values, known = flatten(config), flatten(like)
  for field in known.keys() - values.keys():
    raise ValueError(f'config.{field} is missing; begin with all fields of a default config')
  for field in values.keys() - known.keys():
    raise ValueError(f'config.{field} is unknown; the fields are {", ".join(sorted(known))}')
  checks = _CHECKS | {field: _one_of(names) for field, names in (choices or {}).items()}
  for field, value in values.items():
    may_be_absent = known[field] is None
    if not (value is None and may_be_absent):
      _check_value(field, value, _type_of(like, field), checks.get(field))


def _check_value(field: str, value: Any, expected: type, check: _Check | None) -> None:
  """Raises ValueError unless a value has the type of its field and passes its check."""
  if not _fits(value, expected):
    raise ValueError(
      f'config.{field} is {_shown(value)} of type {type(value).__name__}; '
      f'it must be {expected.__name__}'
    )
  if check is not None and not check.passes(value):
    raise ValueError(f'config.{field} is {_shown(value)}; it must be {check.allowed}')


def _fits(value: Any, expected: type) -> bool:
  """Returns True for a value of the type; a bool is not a number, a whole number is a float."""
  if isinstance(value, bool) or expected is bool:
    return isinstance(value, bool) and expected is bool
  return isinstance(value, numbers.Real if expected is float else expected)


def _type_of(like: ConfigDict, field: str) -> type:
  """Returns the type of a field such as 'search.epochs'."""
  *groups, name = field.split('.')
  for group in groups:
    like = like[group]
  return like.get_type(name)


def _shown(value: Any) -> str:
  """Returns a value as messages show it: as Python code, cut where it is long."""
  text = repr(value)
  return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + '...'


def updated(
  config: ConfigDict,
  values: Mapping[str, Any],
  choices: Mapping[str, Collection[str]] | None = None,
) -> ConfigDict:
  """Returns a config with the values of a nested dict in place of its own.

  Args:
    config: a config with all fields, for example `search_config()`; it stays as it is.
    values: new values by group and field, for example the content of a run's `config.json`.
    choices: allowed names, as in `validate`.

  Raises:
    ValueError: names the field that does not fit.
  """
  found = config.copy_and_resolve_references()
  try:
    found.update(values)
  except (TypeError, AttributeError, KeyError) as error:  # for example a number for a whole group
    raise ValueError(f'a field of the config does not fit: {_shown(str(error))}') from error
  validate(found, config, choices)
  return found


def flatten(config: ConfigDict, prefix: str = '') -> dict[str, Any]:
  """Returns `{'search.epochs': 50, ...}`, every field of a config by its full name.

  Args:
    config: a config with groups.
    prefix: the group's name with a dot, in calls for a group.
  """
  flat = {}
  for name, value in config.items():
    nested = isinstance(value, ConfigDict)
    flat |= flatten(value, f'{prefix}{name}.') if nested else {prefix + name: value}
  return flat
