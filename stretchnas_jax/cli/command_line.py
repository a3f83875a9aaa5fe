"""The command line of a program: its flags, its words, its help. Uses absl's flags."""

import pathlib
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import flags

from stretchnas_jax.cli import config_flags, errors

# Takes the parsed command line, checks everything, and returns the function that does the work.
Prepare = Callable[[types.SimpleNamespace], Callable[[], object]]

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
  """Returns True where a word of the command line asks for help."""
  return not _HELP.isdisjoint(argv[1:])


def parse(
  argv: Sequence[str], config: bool, options: Sequence[Option], positional: Sequence[str]
) -> types.SimpleNamespace:
  """Returns the values of a command line.

  Args:
    argv: the command line, with the program first.
    config: True for a program that takes `--config=FILE[:argument]` and overrides.
    options: the flags of the program.
    positional: names of the words that must be given.

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
  words, source = list(argv), None
  if config:
    source, words = config_flags.split_config(words)
    words = ['--distributed=auto' if word == '--distributed' else word for word in words]
  rest = _parse_flags(values, words, source)
  found: dict[str, Any] = {option.name: values[option.name].value for option in options}
  if 'workdir' in found:
    if not found['workdir']:
      raise ValueError('--workdir=DIR is required')
    found['workdir'] = pathlib.Path(found['workdir'])
  if config:
    found['config'] = values['config'].value
    found['overrides'] = config_flags.override_values(values)
    found['config_file'] = source
  return types.SimpleNamespace(argv=list(argv), **found, **_named(rest, positional))


def _parse_flags(values: flags.FlagValues, words: Sequence[str], source: str | None) -> list[str]:
  """Parses all flags, those of a config file included; returns the words that are not flags."""
  config = None if source is None else config_flags.load_config(source)
  try:
    if config is not None:
      config_flags.define_overrides(config, words, values)
    return values(words)[1:]
  except Exception as error:  # absl and ml_collections raise many types for a wrong word
    raise ValueError(errors.one_line(error)) from error


def _named(words: Sequence[str], names: Sequence[str]) -> dict[str, str]:
  """Returns the words by their names; ValueError where there are too many or too few."""
  if len(words) > len(names):
    raise ValueError(f'unexpected argument {words[len(names)]!r}')
  if len(words) < len(names):
    raise ValueError(f'{names[len(words)].upper()} is missing')
  return dict(zip(names, words))


def usage(
  prepare: Prepare,
  program: str,
  config: bool,
  options: Sequence[Option],
  positional: Sequence[str],
) -> str:
  """Returns the help text of a program.

  Args:
    prepare: its function; the first line of its module describes the program.
    program: the first word of the command line.
    config: as in `parse`.
    options: as in `parse`.
    positional: as in `parse`.
  """
  rows = _config_rows() if config else []
  rows += [_option_row(option) for option in options]
  width = max((len(left) for left, _ in rows), default=0)
  about = (sys.modules[prepare.__module__].__doc__ or '').strip().splitlines()
  words = [_shown_name(program), *(word.upper() for word in positional), '[options]']
  lines = [f'usage: {" ".join(words)}', '', *about[:1], '']
  return '\n'.join(lines + [f'  {left:{width}}  {right}' for left, right in rows])


def _config_rows() -> list[tuple[str, str]]:
  return [
    ('--config=FILE[:arg]', 'Python file with get_config()'),
    ('--config.a.b=value', 'another value for a field, after --config'),
  ]


def _option_row(option: Option) -> tuple[str, str]:
  value = '' if isinstance(option.default, bool) else f'={option.name.upper()}'
  default = '' if option.default in (None, False, '') else f' (default: {option.default})'
  return f'--{option.name}{value}', option.help + default


def _shown_name(program: str) -> str:
  """Returns the program as one types it: a module of a package is started by `python -m`."""
  script = pathlib.Path(program)
  folder = script.parent.name
  if script.suffix == '.py' and folder in ('stretchnas_jax', 'experiments'):
    return f'python -m {folder}.{script.stem}'
  return script.name
