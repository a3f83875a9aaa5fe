"""The flag `--config=NAME[:argument]` and its overrides, `--config.search.epochs=2`.

A config file is a Python file with a function `get_config()`, or `get_config(argument)`, that
returns a ConfigDict. It is loaded here and not by ml_collections, which hides the line of an error
in texts of its own. ml_collections converts the overrides to the types of their fields.
"""

import inspect
import os
import re
import traceback
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from stretchnas_jax.cli import slips
from stretchnas_jax.config import files
from stretchnas_jax.machine import faults

_CONFIG = re.compile(r'--?config(?:=(.*))?', re.DOTALL)
_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]*)(?:=(.*))?', re.DOTALL)

REQUIRED = '--config=NAME is required, a config of the package or a file; --config=help lists them'


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
  if len(sources) > 1:
    raise ValueError('--config is given twice')
  if not sources or not sources[0]:
    known = [word for word in others[1:] if word.partition(':')[0] in files.named()]
    raise ValueError(REQUIRED + (f'; did you mean --config={known[0]}?' if known else ''))
  if early is not None:
    raise ValueError(f'{early} stands before --config; overrides stand after it')
  files.find(sources[0])
  return sources[0], others


def asks_for_configs(argv: Sequence[str]) -> bool:
  """Returns True for `--config=help`, which lists the configs of the package."""
  words = [*argv[1:], '']
  return any(
    word in ('--config=help', '-config=help') or (word, after) == ('--config', 'help')
    for word, after in zip(words, words[1:])
  )


def load_config(source: str) -> ConfigDict:
  """Returns the config that a config file makes.

  Args:
    source: a text that `config.files.find` knows.

  Raises:
    ValueError: names the file, the line and the error inside it.
  """
  path, arguments = files.find(source).path, files.find(source).arguments
  try:
    module = files.load_module(path)
    if not hasattr(module, 'get_config'):
      raise ValueError('it has no function get_config()')
    if arguments and not inspect.signature(module.get_config).parameters:
      raise ValueError(f'it takes no argument after a colon, and {arguments[0]!r} is one')
    config = module.get_config(*arguments)
  except Exception as error:  # a config file is a program, and can raise anything
    raise ValueError(f'--config={source}: {_error_in_file(error, str(path))}') from error
  if not isinstance(config, ConfigDict):
    kind = type(config).__name__
    raise ValueError(f'--config={source}: get_config() returns a {kind}, not a ConfigDict')
  return config


def _error_in_file(error: Exception, path: str) -> str:
  """Returns the line, type and text of an error that a config file has raised."""
  if isinstance(error, ValueError):  # a sentence of the config file, about its argument
    return faults.one_line(error)
  lines = [
    line
    for frame, line in traceback.walk_tb(error.__traceback__)
    if os.path.abspath(frame.f_code.co_filename) == os.path.abspath(path)
  ]
  where = f'line {lines[-1]}: ' if lines else ''
  return f'{where}{type(error).__name__}: {faults.one_line(error)}'


def joined_overrides(config: ConfigDict, words: Sequence[str]) -> list[str]:
  """Returns a command line in which each override is one word, `--config.a.b=value`.

  Args:
    config: the config of the file.
    words: the command line, with the program first and without `--config`.
  """
  found, rest = [], iter(words)
  for word in rest:
    match = _OVERRIDE.fullmatch(word)
    if match and match[2] is None and slips.type_of(config, match[1]) not in (None, bool):
      value = next(rest, None)
      word = word if value is None else f'{word}={value}'
    found.append(word)
  return found


def define_overrides(config: ConfigDict, words: Sequence[str], values: flags.FlagValues) -> None:
  """Defines a flag for the config and for each override among the words; locks the config.

  Args:
    config: the config of the file; parsing the flags changes it.
    words: the command line, with the program first and without `--config`.
    values: the flags of the program, to which these are added.

  Raises:
    ValueError: an override names a field that the config does not have, or has a wrong value.
  """
  for word in words[1:]:
    match = _OVERRIDE.fullmatch(word)
    if match:
      slips.check_override(config, match[1], match[2], word)
  config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=list(words))


def override_values(values: flags.FlagValues) -> dict[str, object]:
  """Returns the overrides by field, for example `{'search.epochs': 2}`, after parsing."""
  return config_flags.get_override_values(values['config'])
