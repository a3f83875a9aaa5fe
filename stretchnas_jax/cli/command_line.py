"""The command line of a program: its flags, its words, its help. Uses absl's flags."""

import math
import pathlib
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from stretchnas_jax import config as config_lib
from stretchnas_jax.cli import config_flags, slips
from stretchnas_jax.config import ConfigDict, files
from stretchnas_jax.machine import faults

# Takes the parsed command line, checks everything, and returns the function that does the work.
Prepare = Callable[[types.SimpleNamespace], Callable[[], object]]

_SEVERAL = '...'
_HELP = {'--help', '-help', '-h'}
_DEFINE: dict[type, Callable[..., Any]] = {
  bool: flags.DEFINE_bool,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
}


class Option(NamedTuple):
  """A flag `--name`. Its type is the type of its default; None stands for text or nothing."""

  name: str
  default: bool | int | float | str | None
  help: str


TRUST = Option(
  'trust', False, "run the program of a run's own parts, parts.py, though it comes from elsewhere"
)
"""The option of programs that read a run."""


def start_options(config: bool, workdir: bool) -> tuple[Option, ...]:
  """Returns the options that a program has because it takes a config or a workdir.

  Args:
    config: True where it takes `--config`; then it may be a part of a job of several processes.
    workdir: True where it takes `--workdir`.
  """
  found = []
  if workdir:
    found.append(Option('workdir', None, 'folder of the run; the same command on it resumes'))
  if config:
    text = (
      'join the other processes of this job first; without a value where Slurm or a similar '
      'launcher started them, else =ADDRESS:PORT,COUNT,INDEX'
    )
    found.append(Option('distributed', None, text))
  return tuple(found)


def asks_for_help(argv: Sequence[str]) -> bool:
  """Returns True where a word of the command line asks for help, or for a list of configs."""
  return not _HELP.isdisjoint(argv[1:]) or config_flags.asks_for_configs(argv)


def parse(
  argv: Sequence[str],
  config: bool,
  options: Sequence[Option],
  positional: Sequence[str],
  kinds: Sequence[str] = (),
) -> types.SimpleNamespace:
  """Returns the values of a command line.

  Args:
    argv: the command line, with the program first.
    config: True for a program that takes `--config=NAME[:argument]` and overrides.
    options: the flags of the program.
    positional: names of the words that must be given; after the last one come more words where
      its name ends in three dots, and the namespace has a list of them without the dots.
    kinds: of configs that the program takes, 'search' or 'train'; empty for any config.

  Returns:
    A namespace with `argv`, a field for each option and each positional, and with `config` the
    fields `config` (locked), `overrides` and `config_file`. `workdir` is a Path.

  Raises:
    ValueError: one sentence that names the wrong word.
  """
  values = flags.FlagValues()  # not absl's global flags: each program, and each test, has its own
  values.set_gnu_getopt(True)
  for option in options:
    define = _DEFINE.get(type(option.default), flags.DEFINE_string)
    define(option.name, option.default, option.help, flag_values=values)
  words, source, loaded = list(argv), None, None
  if config:
    source, words = config_flags.split_config(words)
    words = ['--distributed=auto' if word == '--distributed' else word for word in words]
    loaded = config_flags.load_config(source)
    _check_kind(source, loaded, kinds)
    words = config_flags.joined_overrides(loaded, words)
  defaults = {option.name: option.default for option in options}
  most = math.inf if _takes_more(positional) else len(positional)
  slips.check_words(words[1:], defaults, most, loaded)
  rest = _parse_flags(values, words, loaded, defaults)
  found: dict[str, Any] = {option.name: values[option.name].value for option in options}
  if 'workdir' in found:
    if found['workdir']:
      found['workdir'] = pathlib.Path(found['workdir'])
    elif not found.get('dry-run'):
      raise ValueError('--workdir=DIR is required')
  for option in options:
    if found[option.name] == '':  # often a variable of the shell that is not set
      raise ValueError(f'--{option.name} is empty; give it a value, or leave it out')
  if config:
    found['config'] = values['config'].value
    found['overrides'] = config_flags.override_values(values)
    found['config_file'] = source
  return types.SimpleNamespace(argv=list(argv), **found, **_named(rest, positional))


def _check_kind(source: str, config: ConfigDict, kinds: Sequence[str]) -> None:
  """Raises ValueError for a config that belongs to another program."""
  if len(kinds) == 1:
    try:
      config_lib.check_kind(config, config_lib.default_config(kinds[0]))
    except ValueError as error:
      raise ValueError(f'--config={source}: {error}') from error


def _parse_flags(
  values: flags.FlagValues,
  words: Sequence[str],
  config: ConfigDict | None,
  defaults: Mapping[str, Any],
) -> list[str]:
  """Parses all flags, those of a config included; returns the words that are not flags."""
  for word in words[1:]:
    name, equals, value = word.lstrip('-').partition('=')
    if word.startswith('-') and equals and name in defaults:
      slips.check_value(name, value, defaults[name])
  try:
    if config is not None:
      config_flags.define_overrides(config, words, values)
    return values(words)[1:]
  except Exception as error:  # absl and ml_collections raise many types for a wrong word
    raise ValueError(faults.one_line(error)) from error


def _takes_more(names: Sequence[str]) -> bool:
  """Returns whether the last of the words may be several: its name ends in three dots."""
  return bool(names) and names[-1].endswith(_SEVERAL)


def _named(words: Sequence[str], names: Sequence[str]) -> dict[str, str | list[str]]:
  """Returns the words by their names; ValueError where there are too many or too few."""
  if len(words) > len(names) and not _takes_more(names):
    raise ValueError(f'unexpected argument {words[len(names)]!r}')
  if len(words) < len(names):
    raise ValueError(f'{names[len(words)].removesuffix(_SEVERAL).upper()} is missing')
  found: dict[str, str | list[str]] = dict(zip(names, words))
  if _takes_more(names):
    del found[names[-1]]
    found[names[-1].removesuffix(_SEVERAL)] = list(words[len(names) - 1 :])
  return found


def usage(
  prepare: Prepare,
  argv: Sequence[str],
  config: bool,
  options: Sequence[Option],
  positional: Sequence[str],
  kinds: Sequence[str] = (),
) -> str:
  """Returns the help text of a program, or the list of configs where that is asked for.

  Args:
    prepare: its function; the first line of its module describes the program.
    argv: the command line, with the program first.
    config: as in `parse`.
    options: as in `parse`.
    positional: as in `parse`.
    kinds: as in `parse`; the fields of their configs are listed.
  """
  if config and config_flags.asks_for_configs(argv) and _HELP.isdisjoint(argv[1:]):
    return _lines(files.summaries())
  rows = _config_rows() if config else []
  rows += [_option_row(option) for option in options]
  about = (sys.modules[prepare.__module__].__doc__ or '').strip().splitlines()
  words = [_shown_name(argv[0]), *(word.upper() for word in positional), '[options]']
  text = '\n'.join([f'usage: {" ".join(words)}', '', *about[:1], '', _lines(rows)])
  for kind in kinds:
    text += f'\n\nfields of a config for {kind}\n{_lines(_field_rows(kind))}'
  return text


def _lines(rows: Sequence[tuple[str, str]]) -> str:
  """Returns two columns."""
  width = max((len(left) for left, _ in rows), default=0)
  return '\n'.join(f'  {left:{width}}  {right}' for left, right in rows)


def _config_rows() -> list[tuple[str, str]]:
  return [
    ('--config=NAME[:arg]', 'a config of the package (=help lists them), or a Python file'),
    ('--config.a.b=value', 'another value for a field, after --config'),
  ]


def _field_rows(kind: str) -> list[tuple[str, str]]:
  """Returns the fields of a kind of config, with defaults, meanings and allowed values."""
  from stretchnas_jax.runs import build  # here: it imports all that a run can be made from

  return [
    (
      f'--config.{row.field}',
      f'{row.meaning} (default: {row.default}' + (f'; {row.allowed})' if row.allowed else ')'),
    )
    for row in config_lib.rows(kind, build.CHOICES)
  ]


def _option_row(option: Option) -> tuple[str, str]:
  value = '' if isinstance(option.default, bool) else f'={option.name.upper()}'
  default = '' if option.default in (None, False, '') else f' (default: {option.default})'
  return f'--{option.name}{value}', option.help + default


def _shown_name(program: str) -> str:
  """Returns the program as one types it: a module of a package is started by `python -m`."""
  script = pathlib.Path(program)
  folder = script.parent.name
  if script.stem == '__main__':
    return f'python -m {script.parent.parent.name}.{folder}'
  if script.suffix == '.py' and folder in ('stretchnas_jax', 'experiments'):
    return f'python -m {folder}.{script.stem}'
  return script.name
