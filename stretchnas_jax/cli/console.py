"""The console of a program: log lines, warnings and traces, without the noise of libraries."""

import contextlib
import logging
import re
import sys
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from stretchnas_jax.machine import output

# Libraries that warn about things that need no action.
_NOISY = re.compile(r'[/\\](orbax|ml_collections|asyncio)[/\\]')


class _Console(logging.Handler):
  """A handler that shows records on stderr."""

  def emit(self, record: logging.LogRecord) -> None:
    """Shows one record."""
    try:
      output.say(self.format(record))
    except Exception as error:  # the arguments of a message may not fit to it
      output.say(f'a message cannot be shown: {record.msg!r} ({type(error).__name__})')

  def filter(self, record: logging.LogRecord) -> bool:
    """Returns True for records to show.

    All records of this package pass; of other libraries, warnings pass; of noisy ones, errors.
    """
    if record.name in ('root', '__main__') or record.name.startswith('stretchnas_jax'):
      return True
    if not _NOISY.search(record.pathname):
      return record.levelno >= logging.WARNING
    # An error with a trace is raised as well, and then shown in one line by the program. asyncio
    # only repeats the errors of a failed save.
    return record.levelno >= (logging.CRITICAL if record.exc_info else logging.ERROR)

  def format(self, record: logging.LogRecord) -> str:
    """Returns the text of a record: the time, the level above INFO, the message, the trace."""
    level = '' if record.levelno <= logging.INFO else f'{record.levelname.lower()}: '
    clock = time.strftime('%H:%M:%S', time.localtime(record.created))
    # A line end in a name must not begin a line that looks like another record.
    message = ' '.join(record.getMessage().splitlines())
    return f'{clock} {level}{message}{_trace_of(record)}'


def _trace_of(record: logging.LogRecord) -> str:
  """Returns the trace of a record; of a device plugin of JAX that does not load, its last line.

  The packages for a GPU may be installed where there is no driver. JAX then runs on the CPU.
  """
  if not record.exc_info:
    return ''
  if record.getMessage().startswith('Jax plugin configuration error'):
    error = record.exc_info[1]
    return f': {" ".join(str(error).split()) or type(error).__name__}'
  return f'\n{logging.Formatter().formatException(record.exc_info)}'


class _QuietUnraisableHook:
  """A `sys.unraisablehook` that drops one harmless error, and passes the others on.

  After a failed save, threads of tensorstore report that their event loop is closed.
  """

  def __init__(self, before: Callable[[Any], Any]) -> None:
    self._before = before

  def __call__(self, unraisable: Any) -> None:
    error = unraisable.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == 'Event loop is closed'):
      self._before(unraisable)


def set_up_logging() -> None:
  """Shows log records of INFO and above on stderr; a second call changes nothing."""
  root = logging.getLogger()
  root.setLevel(logging.INFO)
  # Some libraries give the root logger a handler of their own when they are imported.
  for handler in list(root.handlers):
    if type(handler) is logging.StreamHandler:
      root.removeHandler(handler)
  if not any(isinstance(handler, _Console) for handler in root.handlers):
    root.addHandler(_Console())
  if not isinstance(sys.unraisablehook, _QuietUnraisableHook):
    sys.unraisablehook = _QuietUnraisableHook(sys.unraisablehook)
  sys.excepthook = _show_trace


@contextlib.contextmanager
def of_a_program() -> Iterator[None]:
  """Shows everything that the code in this context says; nothing of it can fail."""
  show = warnings.showwarning
  with output.streams_of_a_program():
    set_up_logging()
    warnings.showwarning = _show_warning
    try:
      yield
    finally:
      warnings.showwarning = show


def _show_warning(
  message: Warning | str,
  category: type[Warning],
  filename: str,
  lineno: int,
  file: Any = None,
  line: str | None = None,
) -> None:
  """Shows a warning of a library as one log line; takes the arguments of `showwarning`."""
  if not _NOISY.search(filename):
    logging.warning('%s', message)


def _show_trace(
  kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
  """Shows the trace of an error that ends this process; takes the arguments of `excepthook`."""
  output.say(''.join(traceback.format_exception(kind, error, trace)).rstrip())
