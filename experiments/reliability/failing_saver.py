"""A process that saves checkpoints, and whose file operations can be failed."""

import errno
import logging
import multiprocessing
import os
import pathlib
import socket
import threading
from typing import NamedTuple

from experiments.reliability import damage, interception
from experiments.reliability.interception import Decide, Operation
from stretchnas_jax.runs import checkpoint

NEW = 30  # the step of the checkpoint that is saved
KEEP = 2  # checkpoints


class Kind(NamedTuple):
  """A kind of fault.

  Attributes:
    every: True where operations that change nothing fail too.
    later: True where all later operations fail too.
    number: the number of the error; negative for a signal that kills.
  """

  every: bool
  later: bool
  number: int


FAULTS = {
  'EIO': Kind(True, False, errno.EIO),
  'EIO from there on': Kind(True, True, errno.EIO),
  'ENOSPC': Kind(False, False, errno.ENOSPC),
  'ENOSPC from there on': Kind(False, True, errno.ENOSPC),
  'death': Kind(False, False, interception.DEATH),
}
_FREES = {'unlink', 'unlinkat', 'rmdir'}  # a full disk still allows these
_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['experiments.reliability.failing_saver'])


def silence() -> None:
  """Silences the log, and threads that fail."""
  logging.disable(logging.CRITICAL)
  threading.excepthook = lambda _: None


def _save_on_demand(channel: socket.socket) -> None:
  """Saves in each folder that comes through a socket, and answers with the outcome."""
  interception.hand_over(channel)
  silence()
  os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
  state = damage.make_state(NEW)
  while path := channel.recv(4096).decode():
    try:
      with checkpoint.Checkpoints(pathlib.Path(path), KEEP) as manager:
        channel.send(b'ready')
        manager.save(NEW, state, {'identity': damage.IDENTITY})
      answer = 'saved'
    except checkpoint.SaveFailed as error:
      answer = f'said: {error}'
    except Exception as error:
      answer = f'{type(error).__name__}: {error}'
    channel.send(answer.encode()[:4000])


class Saver:
  """A process that saves, and whose file operations can be failed."""

  def __init__(self) -> None:
    """Starts the process."""
    self._channel, other = socket.socketpair()
    self._process = _CONTEXT.Process(target=_save_on_demand, args=(other,), daemon=True)
    self._process.start()
    other.close()
    self._watch = interception.Watch(self._channel)

  def close(self) -> None:
    """Ends the process."""
    self._process.kill()
    self._process.join()
    self._watch.close()
    self._channel.close()

  def save(self, path: pathlib.Path, decide: Decide) -> str:
    """Saves once.

    Args:
      path: the folder of checkpoints.
      decide: the fate of each operation.

    Returns:
      `saved`, `said: ...` for a reported failure, `dead`, `stuck`, or an unexpected error.
    """
    self._channel.send(str(path).encode())
    if not self._watch.until(self._channel) or self._channel.recv(4096) != b'ready':
      raise RuntimeError(f'nothing can be saved in {path}')
    if not self._watch.until(self._channel, decide):
      return 'stuck'
    try:
      return self._channel.recv(4096).decode() or 'dead'
    except ConnectionError:
      return 'dead'


class Fault:
  """Fails the n-th operation in a folder.

  Attributes:
    seen: the operations there.
    hit: the operation that failed, or None.
  """

  def __init__(self, folder: pathlib.Path, kind: str, n: int) -> None:
    """Plans the fault.

    Args:
      folder: only operations in it count.
      kind: a key of `FAULTS`.
      n: counted from 1; 0 fails nothing.
    """
    self._folder, self._n = str(folder), n
    self._kind = FAULTS[kind]
    self.seen: list[Operation] = []
    self.hit: Operation | None = None

  def __call__(self, operation: Operation) -> int:
    """Decides on an operation; see `interception.Decide`."""
    kind = self._kind
    is_inside = any(path.startswith(self._folder) for path in operation.paths)
    is_spared = kind.number == errno.ENOSPC and operation.name in _FREES
    if not is_inside or is_spared or not (kind.every or operation.changes):
      return 0
    self.seen.append(operation)
    count = len(self.seen)
    if not self._n or count < self._n or (count > self._n and not kind.later):
      return 0
    self.hit = self.hit or operation
    return kind.number
