"""A signal asks a run to stop; the run answers between two steps, never inside a handler."""

import contextlib
import os
import signal
import threading
import types
from collections.abc import Iterator

_HEARD = b'\nstopping after %s; Ctrl-C once more stops at once\n'


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
  """

  def __init__(self, when: bytes = b'the steps under way') -> None:
    """Starts without a request; `when` says after which event the run will stop."""
    self.number: int | None = None
    self._heard = _HEARD % when

  def _handle(self, number: int, frame: types.FrameType | None) -> None:
    if self.number is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.number = number
    # Not `print`, since the signal may have come in the middle of one.
    with contextlib.suppress(OSError):
      os.write(2, self._heard)


@contextlib.contextmanager
def stop_requests(when: bytes = b'the steps under way') -> Iterator[Request]:
  """Yields the `Request` that SIGINT and SIGTERM set in this context; they do nothing else.

  A second SIGINT interrupts at once. Outside the main thread, where Python handles no signals,
  nothing is set up.

  Args:
    when: the event after which the run will stop, for the answer on the console.
  """
  request = Request(when)
  if threading.current_thread() is not threading.main_thread():
    yield request
    return
  numbers = (signal.SIGINT, signal.SIGTERM)
  before = {number: signal.signal(number, request._handle) for number in numbers}
  try:
    yield request
  finally:
    for number, handler in before.items():
      signal.signal(number, signal.SIG_DFL if handler is None else handler)
