"""The console: log lines on stderr, short and without the noise of libraries."""

import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import tqdm

# Libraries that warn about things that need no action.
_NOISY = re.compile(r'[/\\](orbax|ml_collections|asyncio)[/\\]')


class _Console(logging.Handler):
  """A handler that writes short lines on stderr, above a progress bar if there is one."""

  def emit(self, record: logging.LogRecord) -> None:
    """Writes one record."""
    try:
      tqdm.tqdm.write(self.format(record), file=sys.stderr)
    except Exception:
      self.handleError(record)

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
    trace = f'\n{logging.Formatter().formatException(record.exc_info)}' if record.exc_info else ''
    return f'{clock} {level}{record.getMessage()}{trace}'


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
