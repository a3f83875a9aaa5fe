"""Requests to stop, which signals make: Ctrl-C, a lost terminal, a cluster that needs the machine.

A run answers a request between two steps, when its state is saved. Until there is something to
save, a request ends the program at once, even inside a compilation.

In a program of this package a thread hears the signals, since the main thread may be inside the
compiler for a minute. In a program of somebody else the handlers note them, and only during a run.
"""

import contextlib
import contextvars
import os
import signal
import threading
import types
from collections.abc import Callable, Iterator

from stretchnas_jax.machine import output

_ALWAYS = ('SIGINT', 'SIGTERM')
_OTHERS = ('SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU')
EXIT_CODES = frozenset(
  128 + getattr(signal, name) for name in _ALWAYS + _OTHERS if hasattr(signal, name)
)
"""The exit codes of a program that was asked to stop, as shells have them."""


class Stopped(KeyboardInterrupt):
  """The end of a run that was asked to stop, after its state is saved.

  Attributes:
    exit_code: of the program, as shells expect it: 128 and the number of the signal.
  """

  def __init__(self, text: str, number: int) -> None:
    """Makes the exception.

    Args:
      text: the sentence for the user.
      number: of the signal.
    """
    super().__init__(text)
    self.exit_code = 128 + number


class Request:
  """A request to stop, made or not.

  Attributes:
    number: of the signal that asked, or None.
    unsaved: whether the run has made steps that a stop must save.
  """

  def __init__(self, shared: bool = False) -> None:
    """Starts without a request.

    Args:
      shared: whether the run is that of several processes, which must agree before they stop.
    """
    self.number: int | None = None
    self.unsaved = shared
    self._when = 'the next checkpoint' if shared else 'the steps under way'

  def make(self, number: int) -> None:
    """Notes the signal that asks, and says so."""
    self.number = number
    output.urgent(f'stopping after {self._when}; Ctrl-C once more stops at once')


_ears: list['_Ear'] = []  # of this process; empty in a program of somebody else


class _Ear:
  """The thread of a program that hears signals.

  Attributes:
    request: of the run under way, or None.
  """

  def __init__(self) -> None:
    """Takes the signals of this process; must be called in the main thread."""
    self.request: Request | None = None
    self._end: Callable[[int], object] = os._exit
    read, write = os.pipe()
    os.set_blocking(write, False)
    # Python writes the number of each signal there at once, whatever the main thread is doing.
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in _numbers(_ALWAYS + _OTHERS):
      signal.signal(number, _do_nothing)
    threading.Thread(target=self._hear, args=(read,), name='signals', daemon=True).start()

  def _hear(self, descriptor: int) -> None:
    while numbers := os.read(descriptor, 64):
      for number in numbers:
        if number in _numbers(_ALWAYS + _OTHERS):
          self.answer(number)

  def answer(self, number: int) -> None:
    """Answers a signal: ends this process, or notes the request."""
    request, name = self.request, signal.Signals(number).name
    if request is None or not request.unsaved:
      output.urgent(f'stopped by {name}; there was nothing to save')
      self._end(128 + number)
    elif request.number is not None and number == signal.SIGINT:
      output.urgent('interrupted')
      self._end(128 + number)
    elif request.number is None:
      request.make(number)


def _do_nothing(number: int, frame: types.FrameType | None) -> None:
  """Stands for the thread that hears; without a handler the signal would end the process."""


def _numbers(names: tuple[str, ...]) -> list[signal.Signals]:
  """Returns the signals of this system that this process does not ignore.

  A signal that the parent has set to be ignored stays so: `nohup` does this with SIGHUP.
  """
  known = [getattr(signal, name) for name in names if hasattr(signal, name)]
  return [number for number in known if signal.getsignal(number) != signal.SIG_IGN]


def hear_as_program() -> None:
  """Lets signals stop this process, which is a program of this package."""
  if not _ears and threading.current_thread() is threading.main_thread():
    _ears.append(_Ear())


# Of the threads of several runs, which stop together.
_common: contextvars.ContextVar[Request | None] = contextvars.ContextVar('common', default=None)


@contextlib.contextmanager
def common_requests() -> Iterator[Request]:
  """Yields a `Request` that `requests` gives to all runs in this context, in threads too.

  A thread must have a copy of this context.
  """
  with requests() as request:
    token = _common.set(request)
    try:
      yield request
    finally:
      _common.reset(token)


@contextlib.contextmanager
def requests(shared: bool = False) -> Iterator[Request]:
  """Yields the `Request` that signals make in this context; they do nothing else.

  A second SIGINT interrupts at once. Outside the main thread, where Python handles no signals,
  nothing is set up.

  Args:
    shared: see `Request`.
  """
  if (common := _common.get()) is not None:
    yield common
    return
  request = Request(shared)
  if _ears:
    before, _ears[0].request = _ears[0].request, request
    try:
      yield request
    finally:
      _ears[0].request = before
    return
  with contextlib.ExitStack() as handlers:
    if threading.current_thread() is threading.main_thread():
      _note_in(request, handlers)
    yield request


def _note_in(request: Request, handlers: contextlib.ExitStack) -> None:
  """Sets handlers that note a request.

  Args:
    request: is made by them.
    handlers: puts the handlers back at its end.
  """

  def note(number: int, frame: types.FrameType | None) -> None:
    if request.number is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    request.make(number)

  # A handler of the user for another signal stays: a cluster's launcher may need it.
  free = [n for n in _numbers(_OTHERS) if signal.getsignal(n) is signal.SIG_DFL]
  for number in (*_numbers(_ALWAYS), *free):
    before = signal.signal(number, note)
    handlers.callback(signal.signal, number, signal.SIG_DFL if before is None else before)
