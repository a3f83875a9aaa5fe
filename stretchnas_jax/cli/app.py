"""Runs a program: its command line, its start, its errors in one line, its exit code.

A program is a function `prepare(args)` that checks everything and returns the function that does
the work. So an error of the user is found, and shown in one line, before anything long begins.
"""

import contextlib
import importlib
import sys
import types
from collections.abc import Callable, Container, Sequence

import stretchnas_jax
from stretchnas_jax.cli import command_line, console
from stretchnas_jax.cli.command_line import Option, Prepare
from stretchnas_jax.cli.errors import INTERRUPTED, fail, is_out_of_memory, memory_advice
from stretchnas_jax.config import names
from stretchnas_jax.machine import faults, output
from stretchnas_jax.machine.faults import one_line

COMMANDS = {
  'search': 'searches a cell',
  'train': 'trains a found or a published cell, and measures it',
  'export': 'writes a trained network as a file that runs without this package',
  'import-darts': "reads a network that DARTS' PyTorch code has trained",
  'benchmark': 'times a search or a training on this machine',
  'describe': 'shows the cost and the content of a cell',
  'draw': 'draws a cell as SVG or PNG',
  'report': 'writes a page about a run',
  'runs': 'lists all runs below a folder',
  'compare': 'compares runs: accuracies, cells and scores',
  'what-if': 'reads a search by other decodings',
  'explain': 'tells the history of one edge of a search',
  'check-data': 'looks at a folder of images before a run',
}

# Commands that are not in the file of their name.
_PLACES = {'runs': 'runs.__main__'}


def run(
  prepare: Prepare,
  *,
  config: bool = True,
  workdir: bool | None = None,
  options: Sequence[Option] = (),
  positional: Sequence[str] = (),
  kinds: Sequence[str] = (),
  argv: Sequence[str] | None = None,
  needs_devices: Callable[[types.SimpleNamespace], bool] = lambda args: True,
) -> None:
  """Runs a program from its command line.

  Args:
    prepare: checks the arguments and returns the work. Its ValueError is a fault of the user.
      `command_line.parse` describes its argument.
    config: True for a program that takes `--config=FILE[:argument]`, its overrides and
      `--distributed`.
    workdir: True for a program that needs `--workdir=DIR`; None for the same as `config`.
    options: the other flags of the program.
    positional: names of the words that must be given.
    kinds: of configs that the program takes, 'search' or 'train'; empty for any config.
    argv: the command line, with the program first; None for the command line of the process.
    needs_devices: says of the arguments whether this process must start its devices.

  Raises:
    SystemExit: 0 after `--help`, 2 for an error of the user, 130 for an interruption, 143 for a
      request to end (SIGTERM). In a job of several processes 3 where another one is lost.
  """
  argv = list(sys.argv if argv is None else argv)
  workdir = config if workdir is None else workdir
  options = (*command_line.start_options(config, workdir), *options)
  with console.of_a_program():
    try:
      # The stack is left last: the other processes of a job are told why this one ends.
      with contextlib.ExitStack() as job:
        args = None
        try:
          with faults.checking():
            if command_line.asks_for_help(argv):
              output.remark(command_line.usage(prepare, argv, config, options, positional, kinds))
              raise SystemExit(0)
            args = command_line.parse(argv, config, options, positional, kinds)
            if config and needs_devices(args):
              _start_devices(args.distributed, job)
            work = prepare(args)
          work()
        except Exception as error:
          _tell(error, getattr(args, 'config', ()))
    except KeyboardInterrupt as stop:
      output.say(str(stop) or 'interrupted')
      raise SystemExit(getattr(stop, 'exit_code', INTERRUPTED)) from None


def _tell(error: Exception, groups: Container[str]) -> None:
  """Ends the program with one line for a fault of the user or of the world around the program.

  Args:
    error: a `Fault`, a disk that fails, numbers that diverged, too little memory, devices that do
      not start; an error of another type is raised again.
    groups: of the config, for the advice on memory.
  """
  from stretchnas_jax.machine import devices  # here, so that --help is quick

  if isinstance(error, (OSError, FloatingPointError)):
    fail(one_line(error), agreed=hasattr(error, 'exit_code'))
  if is_out_of_memory(error):
    fail(memory_advice(error, groups))
  if fault := devices.start_fault(error):
    fail(fault)
  raise error


def _start_devices(distributed: str | None, job: contextlib.ExitStack) -> None:
  """Starts the devices of this process, together with the others of its job.

  Args:
    distributed: the value of `--distributed`; None for a process that works alone.
    job: gets the context in which the processes watch each other.
  """
  from stretchnas_jax.machine import devices, peers, program_cache, start  # so --help is quick

  start.set_up()
  if distributed is None:
    devices.start()
    return
  try:
    job.enter_context(peers.join(distributed))
    program_cache.agree()
  except (RuntimeError, ValueError, OSError) as error:
    raise ValueError(f'--distributed: {one_line(error)}') from error


def _show(text: str) -> None:
  with console.of_a_program():
    output.remark(text)


def main() -> None:
  """Runs `stretchnas COMMAND ...`, the same as `python -m stretchnas_jax.COMMAND ...`."""
  words = sys.argv[1:]
  if not words or words[0] in ('--help', '-h', 'help'):
    rows = '\n'.join(f'  {name:10} {text}' for name, text in COMMANDS.items())
    more = 'stretchnas COMMAND --help says more'
    _show(f'usage: stretchnas COMMAND [options]\n\n{rows}\n\n{more}')
  elif words[0] == '--version':
    _show(f'stretchnas {stretchnas_jax.__version__}')
  elif words[0] not in COMMANDS:
    hint = names.did_you_mean(words[0], COMMANDS) or f'there are {names.some(COMMANDS)}'
    fail(f'no command {words[0]!r}; {hint}')
  else:
    sys.argv = [f'stretchnas {words[0]}', *words[1:]]
    place = _PLACES.get(words[0], words[0].replace('-', '_'))
    importlib.import_module(f'stretchnas_jax.{place}').main()
