"""What every program shares: flags, logging, errors, start-up. The only file with absl flags.

A program is a function `prepare(args)` that checks everything and returns the function that does
the work: an error of the user is found, and said in one line, before anything long begins.
"""

import contextlib
import importlib
import logging
import os
import pathlib
import re
import sys
import time
import types
import warnings
from typing import Any, NamedTuple

import tqdm
from absl import flags
from ml_collections import ConfigDict, config_flags

import stretchnas_jax

COMMANDS = (
  ('search', 'searches a cell'),
  ('train', 'trains a found or a published cell, and measures it'),
  ('export', 'writes a trained network as a file that runs without this package'),
  ('benchmark', 'times a search or a training on this machine'),
  ('describe', 'says what a cell costs and what is in it'),
  ('draw', 'draws a cell as SVG or PNG'),
)

DEFINE = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float}


class Option(NamedTuple):
  """A flag `--name`; its type is that of `default`, None stands for a str that may be absent."""

  name: str
  default: Any
  help: str


def run(prepare, *, config=True, workdir=None, options=(), positional=(), argv=None):
  """Runs a program from its command line.

  Args:
    prepare: `args -> (() -> None)`. Its ValueError or OSError is shown in one line, with exit
      code 2. `args` has a field for each option and positional, `argv`, and with a config
      `config` (a locked ConfigDict), `overrides` (`{'search.epochs': 2}`), `config_file`, and
      `workdir` (a Path).
    config: whether the program takes `--config=FILE[:arg]`, its overrides and `--distributed`.
    workdir: whether it needs `--workdir=DIR`; by default as `config`.
    options: `Option`s.
    positional: names of the words that must be given.
    argv: the command line, with the program first; by default that of the process.

  Raises:
    SystemExit: 0 after `--help`, 2 for an error of the user, 130 for an interruption, 143 for a
      request to end (SIGTERM). In a job of several processes 3 where another one is lost.
  """
  argv = list(sys.argv if argv is None else argv)
  workdir = config if workdir is None else workdir
  options = start_options(config, workdir) + tuple(options)
  if {'--help', '-help', '-h'} & set(argv[1:]):
    print(usage(prepare, argv[0], config, options, positional))
    raise SystemExit(0)
  set_up_logging()
  try:
    # Whatever this process ends with, the others of its job are told.
    with contextlib.ExitStack() as job:
      try:
        args = parse(argv, config, options, positional)
        if config:
          job.enter_context(start_devices(args.distributed))
        work = prepare(args)
      except (ValueError, OSError) as error:
        fail(one_line(error))
      try:
        work()
      except (OSError, FloatingPointError) as error:  # a disk, an image; numbers that diverged
        fail(one_line(error))
      except Exception as error:
        if not is_out_of_memory(error):
          raise
        fail(memory_advice(error, getattr(args, 'config', None)))
  except KeyboardInterrupt as stop:
    print(str(stop) or 'interrupted', file=sys.stderr)
    raise SystemExit(getattr(stop, 'exit_code', 130)) from None


def start_options(config, workdir):
  folder = Option('workdir', None, 'folder of the run; the same command on it again resumes')
  several = Option(
    'distributed', None, 'join the other processes of this job first; alone, as Slurm or the like '
    'has started them, or =ADDRESS:PORT,COUNT,INDEX'
  )  # fmt: skip
  return (folder,) * workdir + (several,) * config


def fail(text):
  print(f'error: {text}', file=sys.stderr)
  stop = SystemExit(2)
  stop.text = text
  raise stop from None


def is_out_of_memory(error):
  """Whether a device, or the host, had too little memory; JAX has one type for all its errors."""
  return isinstance(error, MemoryError) or (
    type(error).__name__ in ('XlaRuntimeError', 'JaxRuntimeError')
    and 'RESOURCE_EXHAUSTED' in str(error)
  )


def memory_advice(error, config):
  """The sentence for too little memory: the fields that lower what is needed."""
  fields = ['model.channels', 'model.num_layers']
  fields[:0] = [f'{group}.batch_size' for group in ('search', 'train') if group in (config or ())]
  names = ', '.join(f'config.{name}' for name in fields)
  return (
    f'out of memory: lower {names}, or set config.model.dtype to bfloat16 ({one_line(error)[:200]})'
  )


# ---- the command line ----------------------------------------------------------------------------


def parse(argv, config, options, positional):
  """The command line as a namespace. ValueError, in one sentence, for all that is wrong with it."""
  values = flags.FlagValues()
  # Not the process's global flags: a second program, or a test, starts from nothing.
  values.set_gnu_getopt(True)
  for name, default, text in options:
    DEFINE.get(type(default), flags.DEFINE_string)(name, default, text, flag_values=values)
  source = find_config(argv) if config else None
  if config:
    config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
  words = ['--distributed=auto' if word == '--distributed' else word for word in argv]
  try:
    # Else an earlier config file of this process would lend its names to the next one.
    sys.modules.pop('config_config', None)
    with warnings.catch_warnings():
      # ml_collections loads config files in a way that Python wants to drop.
      warnings.filterwarnings('ignore', r'.*load_module\(\)', DeprecationWarning)
      words = values(words)[1:]
    found = read_config(values, source) if config else {}
  except Exception as error:  # a config file is a program: anything may come out of it
    text = source and config_error(error, source) or override_error(error, argv)
    raise ValueError(text or one_line(error)) from error
  args = {option.name: values[option.name].value for option in options}
  if 'workdir' in args:
    if not args['workdir']:
      raise ValueError('--workdir=DIR is required')
    args['workdir'] = pathlib.Path(args['workdir'])
  return types.SimpleNamespace(argv=argv, **args, **found, **named_words(words, positional))


def find_config(argv):
  """The value of `--config`, whose file must exist: ml_collections would find out much later."""
  found = []
  for i, arg in enumerate(argv[1:], 1):
    if match := re.fullmatch(r'--?config(=(.*))?', arg, re.DOTALL):
      found.append(match[2] if match[1] else ''.join(argv[i + 1 : i + 2]))
  if len(found) != 1:
    raise ValueError('--config is given twice' if found else '--config=FILE is required')
  if not os.path.isfile(path := found[0].split(':', 1)[0]):
    raise ValueError(f'--config: no such file: {path!r}')
  return found[0]


def read_config(values, source):
  config = values['config'].value
  getattr(config, 'keys', None)  # where an OSError of the config file waits until someone looks
  if not isinstance(config, ConfigDict):
    kind = type(config).__name__
    raise ValueError(f'--config={source}: get_config() returns a {kind}, not a ConfigDict')
  overrides = config_flags.get_override_values(values['config'])
  return {'config': config, 'overrides': overrides, 'config_file': source}


def named_words(words, names):
  if len(words) > len(names):
    raise ValueError(f'unexpected argument {words[len(names)]!r}')
  if len(words) < len(names):
    raise ValueError(f'{names[len(words)].upper()} is missing')
  return dict(zip(names, words))


def config_error(error, source):
  """What went wrong inside the config file, or None if that is not where it happened."""
  wrapped = False
  while re.search('whilst parsing config file|Configuration is not available', str(error)):
    error, wrapped = error.__cause__ or error.__context__, True
  path, line, trace = os.path.abspath(source.split(':', 1)[0]), '', error.__traceback__
  while trace:
    if os.path.abspath(trace.tb_frame.f_code.co_filename) == path:
      line = f'line {trace.tb_lineno}: '
    trace = trace.tb_next
  if not (wrapped or line or isinstance(error, SyntaxError)):
    return None
  # A ValueError is a sentence that the config file says on purpose, about its argument.
  what = '' if isinstance(error, ValueError) else f'{line}{type(error).__name__}: '
  return f'--config={source}: {what}{one_line(error)}'


def override_error(error, argv):
  """The sentence for an override of a field that is not there, or None for another error."""
  if isinstance(error, TypeError):
    return f'an override of a --config field does not fit: {one_line(error)}'
  if not isinstance(error, (KeyError, AttributeError)):
    return None
  for arg in argv:
    name = arg.split('=', 1)[0].lstrip('-')
    if re.match(r'--?(no)?config\.', arg) and re.search(
      '|'.join(f'[\'"]{re.escape(part)}[\'"]' for part in name.split('.')[1:]), str(error)
    ):
      return f'--{name}: no such field: {one_line(error)}'
  return None


def one_line(error):
  """The text of an exception without line ends; that of a KeyError comes as a repr."""
  text = str(error).strip()
  if isinstance(error, OSError) and error.strerror and error.filename:
    text = f'{error.filename}: {error.strerror}'
  elif isinstance(error, KeyError) and error.args:
    text = str(error.args[0])
  if text[:1] in ('"', "'") and text[-1:] == text[:1]:
    text = text[1:-1].replace('\\n', '\n').replace("\\'", "'")
  return ' '.join(text.split()) or type(error).__name__


def usage(prepare, program, config, options, positional):
  """The help text of one program."""
  script = pathlib.Path(program)
  folder = script.parent.name
  package = script.suffix == '.py' and folder in ('stretchnas_jax', 'experiments')
  name = f'python -m {folder}.{script.stem}' if package else script.name
  words = [word.upper() for word in positional]
  rows = [('--config=FILE[:arg]', 'Python file with get_config()')] if config else []
  rows += [('--config.a.b=value', 'another value for a field, after --config')] if config else []
  for option in options:
    value = '' if isinstance(option.default, bool) else f'={option.name.upper()}'
    default = '' if option.default in (None, False, '') else f' (default: {option.default})'
    rows.append((f'--{option.name}{value}', option.help + default))
  width = max((len(left) for left, _ in rows), default=0)
  about = (sys.modules[prepare.__module__].__doc__ or '').strip().splitlines()
  lines = [f'usage: {" ".join([name, *words, "[options]"])}', '', *about[:1], '']
  return '\n'.join(lines + [f'  {left:{width}}  {right}' for left, right in rows])


# ---- start-up ------------------------------------------------------------------------------------


class Console(logging.Handler):
  """Short lines on stderr, above a progress bar if there is one."""

  def emit(self, record):
    try:
      tqdm.tqdm.write(self.format(record), file=sys.stderr)
    except Exception:
      self.handleError(record)

  def filter(self, record):
    """What happens here is said; from libraries warnings, from loud ones errors."""
    ours = record.name in ('root', '__main__') or record.name.startswith('stretchnas_jax')
    loud = re.search(r'[/\\](orbax|ml_collections|asyncio)[/\\]', record.pathname)
    # With a trace it is an error that is raised as well, and then said in a line; asyncio tells of
    # those of a save that has failed already.
    least = logging.CRITICAL if loud and record.exc_info else logging.ERROR
    return ours or record.levelno >= (least if loud else logging.WARNING)

  def format(self, record):
    level = '' if record.levelno <= logging.INFO else f'{record.levelname.lower()}: '
    clock = time.strftime('%H:%M:%S', time.localtime(record.created))
    trace = f'\n{logging.Formatter().formatException(record.exc_info)}' if record.exc_info else ''
    return f'{clock} {level}{record.getMessage()}{trace}'


def set_up_logging():
  root = logging.getLogger()
  root.setLevel(logging.INFO)
  # Some libraries give the root logger a handler of their own when they are imported.
  for handler in [h for h in root.handlers if type(h) is logging.StreamHandler]:
    root.removeHandler(handler)
  if not any(isinstance(handler, Console) for handler in root.handlers):
    root.addHandler(Console())
  if sys.unraisablehook is not show_unraisable:
    show_unraisable.before, sys.unraisablehook = sys.unraisablehook, show_unraisable


def show_unraisable(what):
  """As ever, but for what tensorstore's threads say, once a save has failed, of the loop it had."""
  if not (what.exc_type is RuntimeError and str(what.exc_value) == 'Event loop is closed'):
    show_unraisable.before(what)


def start_devices(distributed):
  """A context in which this process works, with the others of its job if `distributed` says so."""
  # Here, so that --help is quick.
  from stretchnas_jax.machine import peers, start

  start.set_up()
  try:
    return peers.join(distributed) if distributed else contextlib.nullcontext()
  except (RuntimeError, ValueError, OSError) as error:
    raise ValueError(f'--distributed: {one_line(error)}') from error


def main():
  """`stretchnas COMMAND ...`, the same as `python -m stretchnas_jax.COMMAND ...`."""
  words = sys.argv[1:]
  names = [name for name, _ in COMMANDS]
  if not words or words[0] in ('--help', '-h', 'help'):
    rows = '\n'.join(f'  {name:10} {text}' for name, text in COMMANDS)
    print(f'usage: stretchnas COMMAND [options]\n\n{rows}\n\nstretchnas COMMAND --help says more')
  elif words[0] == '--version':
    print(f'stretchnas {stretchnas_jax.__version__}')
  elif words[0] not in names:
    fail(f'no command {words[0]!r}; there are {", ".join(names)}')
  else:
    sys.argv = [f'stretchnas {words[0]}', *words[1:]]
    importlib.import_module(f'stretchnas_jax.{words[0]}').main()
