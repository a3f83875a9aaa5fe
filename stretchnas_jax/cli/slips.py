"""Slips on a command line: what a wrong word was probably meant to be."""

import ast
import contextlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stretchnas_jax import config as config_lib
from stretchnas_jax.config import ConfigDict, names

# Short names of other programs -> the last part of the name of a field.
_USUAL_NAMES = {
  'lr': 'learning_rate', 'batch': 'batch_size', 'layers': 'num_layers', 'nodes': 'num_intermediate',
  'init_channels': 'channels', 'dataset': 'name', 'arch': 'genotype', 'save': 'workdir',
  'data': 'path', 'data_path': 'path', 'data_dir': 'path', 'num_epochs': 'epochs',
  'drop_path_prob': 'drop_path', 'cutout_length': 'cutout', 'out': 'workdir', 'logdir': 'workdir',
  'output_dir': 'workdir', 'log_dir': 'workdir',
}  # fmt: skip

_FROM_ABSL = ('flagfile', 'undefok')
_TRUTHS = ('true', 't', '1', 'false', 'f', '0')
_TYPE_WORDS: dict[type, str] = {bool: 'True or False', int: 'a whole number', float: 'a number'}


def check_words(
  words: Sequence[str],
  options: Mapping[str, Any],
  num_positional: int | float,
  config: ConfigDict | None,
) -> None:
  """Raises ValueError for the first word that a program does not take; it says what was meant.

  Args:
    words: the command line without the program, and without `--config`.
    options: the defaults of the options by name.
    num_positional: how many words may be given; infinity for any number.
    config: the config of the file, whose overrides are known; None for a program without one.
  """
  count, rest = 0, iter(words)
  for word in rest:
    if word == '--':
      return
    if not _is_flag(word):
      count += 1
      if count > num_positional:
        raise ValueError(_about_word(word, options, config))
      continue
    name, equals, _ = word.lstrip('-').partition('=')
    if name.startswith(('config.', 'noconfig.')) and config is not None:
      continue  # `check_override` looks at them
    if name in _FROM_ABSL:
      continue
    positive = name.removeprefix('no') if name not in options else name
    if positive not in options:
      raise ValueError(_about_flag(word, options, config))
    if not equals and not isinstance(options[positive], bool):
      next(rest, None)


def check_override(config: ConfigDict, field: str, value: str | None, word: str) -> None:
  """Raises ValueError unless a config has a field such as 'search.epochs', and can take a value.

  Args:
    config: the config of the file.
    field: the name of the field.
    value: the text after the equals sign, if there is one.
    word: the whole word, for the sentence.
  """
  flag, group, path = word.split('=', 1)[0], config, 'config'
  for part in field.split('.'):
    name, bracket, _ = part.partition('[')
    if not isinstance(group, ConfigDict):
      raise ValueError(f'{flag}: no such field; {path} is a value and has no fields')
    if name not in group:
      raise ValueError(f'{flag}: no such field; {_about_field(name, group, path, config)}')
    if bracket:  # ml_collections knows how to index tuples
      return
    group, path = group[name], f'{path}.{name}'
  expected = type_of(config, field)
  if value is not None and expected is not None and not _fits(value, expected):
    raise ValueError(f'{path}={value[:200]}: it must be {_allowed(field, expected)}')


def type_of(config: ConfigDict, field: str) -> type | None:
  """Returns the type of a field such as 'search.epochs'; None for a group or an unknown field.

  Args:
    config: the config.
    field: its full name.
  """
  *groups, last = field.split('.')
  group: Any = config
  for name in groups:
    group = group.get(name) if isinstance(group, ConfigDict) else None
  if not isinstance(group, ConfigDict) or last not in group:
    return None
  found = group.get_type(last)
  return None if issubclass(found, ConfigDict) else found


def check_value(name: str, value: str, default: Any) -> None:
  """Raises ValueError unless an option can take a value.

  Args:
    name: of the option.
    value: the text.
    default: of the option, whose type it must have.
  """
  if default is not None and not _fits(value, type(default)):
    raise ValueError(f'--{name}={value[:200]}: it must be {_TYPE_WORDS[type(default)]}')


def _is_flag(word: str) -> bool:
  return word.startswith('-') and len(word) > 1 and not word[1:2].isdigit()


def _fits(value: str, expected: type) -> bool:
  """Tells if a text is a value of a type; other types than numbers and bool take every text."""
  if expected is bool:
    return value.lower() in _TRUTHS
  if expected is object:  # one number or several, as Python writes them
    with contextlib.suppress(ValueError, SyntaxError):
      return ast.literal_eval(value) is not Ellipsis
    return False
  if expected not in (int, float):
    return True
  try:
    return expected(value) is not None and (expected is int or not math.isnan(expected(value)))
  except (ValueError, OverflowError):
    return False


def _allowed(field: str, expected: type) -> str:
  """Returns the words for the values of a field; those of a known field say more than its type."""
  tables = config_lib.FIELDS.values()
  checks = [fields[field].check for fields in tables if field in fields]
  return next((check.allowed for check in checks if check), _TYPE_WORDS.get(expected, ''))


def _about_field(name: str, group: ConfigDict, path: str, config: ConfigDict) -> str:
  """Returns the field that was probably meant, or else the fields of its group."""
  inside = names.similar(name, list(group.keys()))
  meant = [f'{path}.{known}' for known in inside] or _fields_like(name, config)
  return (
    names.question([f'--{field}' for field in meant])
    or f'the fields of {path} are {names.some(group.keys())}'
  )


def _fields_like(name: str, config: ConfigDict) -> list[str]:
  """Returns at most three fields, `config.search.epochs`, that a name without its group means.

  Args:
    name: `search.epochs`, `epochs` or `lr`.
    config: the config.
  """
  fields = list(config_lib.flatten(config))
  name = _USUAL_NAMES.get(name.replace('-', '_'), name)
  lasts = names.similar(name.rpartition('.')[2], {field.rpartition('.')[2] for field in fields})
  exact = [field for field in fields if field == name]
  by_last = [field for field in fields if field.rpartition('.')[2] in lasts[:1]]
  found = exact or names.similar(name, fields) or by_last
  return [f'config.{field}' for field in found[:3]]


def _meant(name: str, options: Collection[str], config: ConfigDict | None) -> list[str]:
  """Returns the flags that a name without its dashes, or without its group, probably means."""
  name = name.removeprefix('config.')
  positive = name.removeprefix('no').lstrip('-_')
  if name.startswith('no') and config is not None and (found := _fields_like(positive, config)):
    negated = [field for field in found if type_of(config, field[len('config.') :]) is bool]
    if negated and negated[0].endswith(positive.replace('-', '_')):
      return [f'no{negated[0]}']
  plain = name.replace('_', '-')
  if plain in options:
    return [plain]
  fields = [] if config is None else _fields_like(name, config)
  exact = [field for field in fields if field.rpartition('.')[2] == name or field.endswith(name)]
  return exact or names.similar(_USUAL_NAMES.get(name, name), options) or fields


def _about_flag(word: str, options: Mapping[str, Any], config: ConfigDict | None) -> str:
  """Returns the sentence for a word with dashes that no flag has."""
  name, equals, value = word.lstrip('-').partition('=')
  meant = [f'--{flag}{equals}{value[:100]}' for flag in _meant(name, options, config)]
  known = names.some(f'--{option}' for option in options)
  hint = names.question(meant) or (f'the options are {known}' if known else 'there are no options')
  return f"Unknown command line flag '{name[:100]}'; {hint}"


def _about_word(word: str, options: Mapping[str, Any], config: ConfigDict | None) -> str:
  """Returns the sentence for a word that stands alone and has no place."""
  name, equals, value = word.partition('=')
  meant = [f'--{flag}={value[:100]}' for flag in _meant(name, options, config) if equals]
  if not equals and 'genotype' in options:
    meant = [f'--genotype={word[:100]}']
  hint = names.question(meant)
  return f'unexpected argument {word[:100]!r}' + (f'; {hint}' if hint else '')
