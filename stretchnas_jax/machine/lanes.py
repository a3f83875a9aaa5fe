"""Pieces of work beside each other: each has a thread, and a device of its own.

The pieces share what the process has: compiled programs, the host's memory, one request to stop.
What a piece says begins with its name. A piece that fails leaves the others at work.
"""

import collections
import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax

from stretchnas_jax.machine import output, stopping

_Work = Callable[[int], Any]


class _Lanes:
  """The pieces that wait, and the ends of the others.

  Attributes:
    results: by the number of a piece, what it returned.
    errors: by the number of a piece, what it raised.
  """

  def __init__(self, names: Sequence[str], count: int, request: stopping.Request) -> None:
    """Lines up the pieces behind the first ones.

    Args:
      names: of the pieces.
      count: how many devices there are; each begins with the piece of its number.
      request: no piece begins once it is made.
    """
    self._names, self._request = names, request
    self._waiting = collections.deque(range(count, len(names)))
    self.results: dict[int, Any] = {}
    self.errors: dict[int, BaseException] = {}

  def work(self, number: int, device: jax.Device, work: _Work) -> None:
    """Does one piece after the other on a device, until none waits.

    Args:
      number: of the first piece.
      device: where arrays are made that have no other place.
      work: does the piece of a number.
    """
    while self._request.number is None:
      with output.labelled(self._names[number]), jax.default_device(device):
        self._do(number, work)
      try:
        number = self._waiting.popleft()
      except IndexError:
        return

  def _do(self, number: int, work: _Work) -> None:
    try:
      self.results[number] = work(number)
    except stopping.Stopped as stop:
      output.say(str(stop))
    except BaseException as error:  # raised again when the others have ended
      self.errors[number] = error
      text = ' '.join(str(error).split()) or type(error).__name__
      output.say(f'failed, and the others go on: {text}')


def run(
  names: Sequence[str],
  devices: Sequence[jax.Device],
  work: Callable[[int, jax.Device], Any],
) -> list[Any]:
  """Does pieces of work, as many at once as there are devices; returns their results in order.

  Args:
    names: of the pieces, with which the lines begin that they say.
    devices: of this process. A device takes the next piece when it has done one.
    work: `(number of the piece, device) -> result`, called in the thread of the device.

  Raises:
    stopping.Stopped: a signal asked for it; all pieces have stopped.
    BaseException: the error of the first piece that failed, after all others have ended.
  """
  with stopping.common_requests() as request:
    devices = devices[: len(names)]
    lanes, threads = _Lanes(names, len(devices), request), []
    for first, device in enumerate(devices):
      bound = lambda number, device=device: work(number, device)
      context = contextvars.copy_context()
      arguments = (lanes.work, first, device, bound)
      # A second Ctrl-C ends this process, which waits for no daemon.
      threads.append(threading.Thread(target=context.run, args=arguments, daemon=True))
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  done = len(lanes.results)
  if request.number is not None and done < len(names):
    text = f'stopped; {done} of {len(names)} are done, and the same command goes on from there'
    raise stopping.Stopped(text, request.number)
  if lanes.errors:
    raise lanes.errors[min(lanes.errors)]
  return [lanes.results[number] for number in range(len(names))]
