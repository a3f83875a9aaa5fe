"""Checks of config values: which are allowed, and one sentence for each that is not.

Names that become objects (topologies, rules, data sets, ...) are not listed here. Whoever turns a
name into an object hands the allowed names over as `choices`; see `runs/build.py`.
"""

import numbers
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from stretchnas_jax.config import names
from stretchnas_jax.config.defaults import FIELDS
from stretchnas_jax.config.field import Check, one_of

# The longest text of a value that a message shows.
_SHOWN_CHARACTERS = 200


_CHECKS = {name: field.check for fields in FIELDS.values() for name, field in fields.items()}


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

  Example:
    >>> from stretchnas_jax.config import search_config
    >>> config = search_config()
    >>> config.search.epochs = 0
    >>> validate(config, search_config())
    Traceback (most recent call last):
    ValueError: config.search.epochs is 0; it must be a whole number of at least 1
  """
  check_kind(config, like)
  values, known = flatten(config), flatten(like)
  for field in sorted(known.keys() - values.keys()):
    raise ValueError(f'config.{field} is missing; begin with all fields of a default config')
  for field in sorted(values.keys() - known.keys()):
    hint = names.did_you_mean(field, known, 'config.') or 'a default config has all fields'
    raise ValueError(f'config.{field} is unknown; {hint}')
  checks = _CHECKS | {field: one_of(allowed) for field, allowed in (choices or {}).items()}
  for field, value in values.items():
    may_be_absent = known[field] is None
    if not (value is None and may_be_absent):
      _check_value(field, value, _type_of(like, field), checks.get(field))


def check_kind(config: ConfigDict, like: ConfigDict) -> None:
  """Raises ValueError for the config of a training where one of a search belongs, or the reverse.

  Args:
    config: the config to check.
    like: a config of the right kind.

  Example:
    >>> from stretchnas_jax.config import search_config, train_config
    >>> check_kind(train_config(), search_config())
    Traceback (most recent call last):
    ValueError: this config is for `train`, since it has the group train; ...
  """
  for kind, others in (('search', 'train'), ('train', 'search')):
    if kind in like and kind not in config and others in config:
      example = {'search': 'digits', 'train': 'train_digits'}[kind]
      raise ValueError(
        f'this config is for `{others}`, since it has the group {others}; `{kind}` needs a config '
        f'with the group {kind}, such as {example}'
      )


def _check_value(field: str, value: Any, expected: type, check: Check | None) -> None:
  """Raises ValueError unless a value has the type of its field and passes its check."""
  if not _fits(value, expected):
    raise ValueError(
      f'config.{field} is {_shown(value)} of type {type(value).__name__}; '
      f'it must be {expected.__name__}'
    )
  if check is not None and not check.passes(value):
    hint = names.did_you_mean(value, check.names) if isinstance(value, str) else ''
    raise ValueError(
      f'config.{field} is {_shown(value)}; it must be {check.allowed}' + (hint and f'; {hint}')
    )


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

  Example:
    >>> from stretchnas_jax.config import search_config
    >>> updated(search_config(), {'search': {'epochs': 100}}).search.epochs
    100
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

  Example:
    >>> flatten(ConfigDict({'search': {'epochs': 50}}))
    {'search.epochs': 50}
  """
  flat = {}
  for name, value in config.items():
    nested = isinstance(value, ConfigDict)
    flat |= flatten(value, f'{prefix}{name}.') if nested else {prefix + name: value}
  return flat
