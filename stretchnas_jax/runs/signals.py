"""A signal asks a run to stop; the run answers between two steps, never inside a handler."""

import contextlib
import os
import signal
import threading

HEARD = b'\nstopping after %s; Ctrl-C once more stops at once\n'


class Stopped(KeyboardInterrupt):
  """A run was asked to stop, and its state is saved.

  Attributes:
    exit_code: of the program, as shells have it: 128 and the number of the signal.
  """

  def __init__(self, text, number):
    super().__init__(text)
    self.exit_code = 128 + number


class Request:
  """Whether a run is to stop.

  Attributes:
    number: of the signal that asked for it, or None.
  """

  def __init__(self, when=b'the steps under way'):
    self.number, self._heard = None, HEARD % when

  def _handle(self, number, frame):
    if self.number is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.number = number
    # Not print: the signal may have come in the middle of one.
    with contextlib.suppress(OSError):
      os.write(2, self._heard)


@contextlib.contextmanager
def stop_requests(when=b'the steps under way'):
  """While this lasts, SIGINT and SIGTERM set the `Request` that it gives, and do no more.

  A second SIGINT interrupts at once. Outside the main thread, where Python handles no signals,
  nothing is set up. `when` is the word of the answer on when the run will stop.
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
