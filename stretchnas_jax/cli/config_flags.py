"""The flag `--config=FILE[:argument]` and its overrides, `--config.search.epochs=2`.

A config file is a Python file with a function `get_config()`, or `get_config(argument)`, that
returns a ConfigDict. It is loaded here and not by ml_collections, which hides the line of an error
in texts of its own. ml_collections converts the overrides to the types of their fields.
"""

import difflib
import importlib.machinery
import importlib.util
import os
import re
import sys
import traceback
import types
from collections.abc import Iterable, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from stretchnas_jax.cli import errors

_CONFIG = re.compile(r'--?config(?:=(.*))?', re.DOTALL)
_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]*)')


def split_config(argv: Sequence[str]) -> tuple[str, list[str]]:
  """Returns the value of `--config` and the other words of a command line.

  Args:
    argv: the command line, with the program first.

  Raises:
    ValueError: `--config` is missing or given twice, stands after an override, or names no file.
  """
  sources, others, early = [], [], None
  words = iter(argv)
  for word in words:
    match = _CONFIG.fullmatch(word)
    if match:
      sources.append(next(words, '') if match[1] is None else match[1])
      continue
    others.append(word)
    if not sources and early is None and _OVERRIDE.match(word):
      early = word
  if len(sources) != 1:
    raise ValueError('--config is given twice' if sources else '--config=FILE is required')
  if early is not None:
    raise ValueError(f'{early} stands before --config; overrides stand after it')
  path = _path_of(sources[0])
  if not os.path.isfile(path):
    raise ValueError(f'--config: no such file: {path!r}')
  return sources[0], others


def load_config(source: str) -> ConfigDict:
  """Returns the config that a config file makes.

  Args:
    source: the path of the file, and perhaps a colon and an argument of `get_config`.

  Raises:
    ValueError: names the file, the line and the error inside it.
  """
  arguments = source.split(':', 1)[1:]
  try:
    module = _load_module(_path_of(source))
    if not hasattr(module, 'get_config'):
      raise ValueError('it has no function get_config()')
    config = module.get_config(*arguments)
  except Exception as error:  # a config file is a program, and can raise anything
    raise ValueError(f'--config={source}: {_error_in_file(error, _path_of(source))}') from error
  if not isinstance(config, ConfigDict):
    kind = type(config).__name__
    raise ValueError(f'--config={source}: get_config() returns a {kind}, not a ConfigDict')
  return config


def _path_of(source: str) -> str:
  return source.split(':', 1)[0]


def _load_module(path: str) -> types.ModuleType:
  """Runs a Python file as a module; each file replaces the one before it."""
  name = 'stretchnas_config_file'
  loader = importlib.machinery.SourceFileLoader(name, path)
  spec = importlib.util.spec_from_loader(name, loader)
  assert spec is not None  # a loader was given
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # dataclasses of the file look for their module there
  loader.exec_module(module)
  return module


def _error_in_file(error: Exception, path: str) -> str:
  """Returns the line, type and text of an error that a config file has raised."""
  if isinstance(error, ValueError):  # a sentence of the config file, about its argument
    return errors.one_line(error)
  lines = [
    line
    for frame, line in traceback.walk_tb(error.__traceback__)
    if os.path.abspath(frame.f_code.co_filename) == os.path.abspath(path)
  ]
  where = f'line {lines[-1]}: ' if lines else ''
  return f'{where}{type(error).__name__}: {errors.one_line(error)}'


def define_overrides(config: ConfigDict, words: Sequence[str], values: flags.FlagValues) -> None:
  """Defines a flag for the config and for each override among the words; locks the config.

  Args:
    config: the config of the file; parsing the flags changes it.
    words: the command line, with the program first and without `--config`.
    values: the flags of the program, to which these are added.

  Raises:
    ValueError: an override names a field that the config does not have.
  """
  for word in words[1:]:
    match = _OVERRIDE.match(word)
    if match:
      _check_field(config, match[1], word.split('=', 1)[0])
  config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=list(words))


def _check_field(config: ConfigDict, field: str, flag: str) -> None:
  """Raises ValueError unless the config has a field such as 'search.epochs'."""
  value, path = config, 'config'
  for part in field.split('.'):
    name, bracket, _ = part.partition('[')
    if not isinstance(value, ConfigDict):
      raise ValueError(f'{flag}: no such field; {path} is a value and has no fields')
    if name not in value:
      raise ValueError(f'{flag}: no such field; {_hint(name, value.keys(), path)}')
    if bracket:  # ml_collections knows how to index tuples
      return
    value, path = value[name], f'{path}.{name}'


def _hint(name: str, fields: Iterable[str], path: str) -> str:
  """Returns the field that was probably meant, or else all fields of the group."""
  fields = list(fields)
  similar = difflib.get_close_matches(name, fields, n=1)
  if similar:
    return f'did you mean {path}.{similar[0]}?'
  return f'the fields of {path} are {", ".join(fields)}'


def override_values(values: flags.FlagValues) -> dict[str, object]:
  """Returns the overrides by field, for example `{'search.epochs': 2}`, after parsing."""
  return config_flags.get_override_values(values['config'])
