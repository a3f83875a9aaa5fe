"""The processes of one job watch each other, so that none waits for a process that is lost.

Every other process holds a connection to process 0. Over it both sides say once a second that they
live. A process that dies loses its connection, and one that hangs falls silent. Whoever notices
names the lost process, and the whole job ends. Silence is counted in a process's own beats, not by
the clock: a process that was asleep itself blames nobody.

JAX has a watch of its own, which goes by the clock and names nobody. It gets an hour of patience,
so that it only ends a job that this watch has failed to end.
"""

import contextlib
import ctypes
import logging
import os
import re
import signal
import socket
import threading
import time
import traceback
import types
from collections.abc import Mapping
from typing import Any

import jax
from jax._src import distributed  # the address that JAX has found has no public name

from stretchnas_jax.machine import devices, output
from stretchnas_jax.machine.connections import Connection, connect_all

_EXIT_CODE = 3  # of a process that stops because another one is lost
_BEAT = 1.0  # seconds
_SILENCE = 40  # beats without a word after which a process is taken to hang
_LAST_WORDS = 2.0  # seconds for the last messages of a process that ends
_JAX_PATIENCE = 3600  # seconds of JAX's own watch
_PLACE = ('coordinator_address', 'num_processes', 'process_id')
_MPI_SIZE = 'OMPI_COMM_WORLD_LOCAL_SIZE'
_ADVICE = 'all processes of this job stop, and the same command goes on from the last checkpoint'


class Watch:
  """This process's part of the watch; a context manager for the work that is watched.

  Attributes:
    name: of this process, with its machine and its number there.
    connections: to other processes, by their numbers.
    ended: True once the work is done, so that other processes may end.
  """

  def __init__(self, index: int, count: int, host: str) -> None:
    """Connects all processes and starts the threads that watch; each process must call this.

    Args:
      index: of this process.
      count: how many processes there are.
      host: where process 0 is, as the others find it.

    Raises:
      OSError: process 0 cannot be reached.
    """
    self.name = f'process {index} of {count} ({socket.gethostname()}, pid {os.getpid()})'
    self.ended = False
    self._is_first = index == 0
    self._speaking = threading.Lock()
    self.connections = connect_all(index, count, host, self.name)
    if not self._is_first:
      _delay_aborts()
    for connection in self.connections.values():
      threading.Thread(target=self._listen_to, args=(connection,), daemon=True).start()
    threading.Thread(target=self._beat, daemon=True).start()

  def _beat(self) -> None:
    """Says that this process lives, and ends the job when another one is silent too long."""
    while not self.ended:
      for connection in self.connections.values():
        connection.send({})
        if not connection.closed:
          connection.silence += 1
        if connection.silence > _SILENCE:
          self._stop(f'{connection.name} has not been heard for {_SILENCE} s: it hangs; {_ADVICE}')
      time.sleep(_BEAT)

  def _listen_to(self, connection: Connection) -> None:
    """Hears one process until it has done its work, or ends the job when it is lost."""
    while (message := connection.receive()) is not None:
      connection.silence = 0
      if 'stop' in message:
        self._stop(message['stop'])
      if 'failed' in message:
        self._stop(f'{connection.name} has stopped ({message["failed"]}); {_ADVICE}')
      if 'bye' in message:
        connection.closed = True
        return
    if not self.ended:
      self._stop(f'{connection.name} has died; {_ADVICE}')

  def _stop(self, text: str) -> None:
    """Ends this process with one sentence, and through process 0 all others."""
    with self._speaking:  # never released, since one sentence is enough
      if self._is_first:
        self._tell_all({'stop': text})
      output.urgent(f'error: {text}')
      if self._is_first:
        time.sleep(_LAST_WORDS)  # JAX aborts the others as soon as process 0 is gone
      os._exit(_EXIT_CODE)

  def _tell_all(self, message: dict[str, str | bool]) -> None:
    for connection in self.connections.values():
      if not connection.closed:
        connection.send(message)

  def __enter__(self) -> 'Watch':
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: types.TracebackType | None,
  ) -> None:
    """Tells the others that the work is done, or why this process fails."""
    stopped_on_request = hasattr(error, 'exit_code')  # all processes have agreed to stop
    if error is None or stopped_on_request:
      self.ended = True
      self._tell_all({'bye': True})
    elif isinstance(error, SystemExit):
      self._fail(getattr(error, 'text', f'exit code {error.code}'), error.code)
    else:
      # The loss of another process may be the cause. Then the watch ends this one meanwhile.
      time.sleep(_LAST_WORDS)
      output.say(''.join(traceback.format_exception(error)).rstrip())
      self._fail(f'{type(error).__name__}: {" ".join(str(error).split())[:200]}', 1)

  def _fail(self, text: str, code: int | str | None) -> None:
    """Tells the others why this process ends, and ends it with an exit code."""
    with self._speaking:
      self.ended = True
      if self._is_first:
        self._tell_all({'stop': f'{self.name} has stopped ({text}); {_ADVICE}'})
      else:
        self._tell_all({'failed': text})
      time.sleep(_LAST_WORDS)
      # The usual end of JAX would wait minutes for processes that are gone.
      os._exit(_number(code))


def _number(code: int | str | None) -> int:
  """Returns an exit code as Python makes it of the argument of SystemExit."""
  if code is None:
    return 0
  return code if isinstance(code, int) else 1


def _delay_aborts() -> None:
  """Lets an abort of this process wait six seconds.

  JAX aborts a process as soon as process 0 is gone, from a thread that does not need Python. The
  watch does need it, to name the lost process, and the main thread may be using it at that moment.
  So `sleep` of the C library handles the signal. Its argument, the seconds, is the number of the
  signal, which is 6.
  """
  libc = ctypes.CDLL(None)
  libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
  libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


def join(where: str) -> contextlib.AbstractContextManager:
  """Joins the other processes of the job; from now on they watch each other.

  Args:
    where: 'auto', where JAX finds the job by itself (Slurm, Open MPI, Kubernetes, TPU pods), or
      ADDRESS:PORT,COUNT,INDEX: where process 0 is, how many processes there are, and the number of
      this one.

  Returns:
    A `Watch`, or a context that does nothing where the job has one process.

  Raises:
    ValueError, RuntimeError, OSError: the job cannot be joined.
  """
  place: dict[str, Any] = {} if where == 'auto' else dict(zip(_PLACE, parse(where)))
  own = own_gpus(os.environ)
  # JAX's own answer to SIGTERM would keep the handler of this program from being called.
  jax.config.update('jax_enable_preemption_service', False)
  jax.distributed.initialize(
    **place,
    local_device_ids=own,
    heartbeat_timeout_seconds=_JAX_PATIENCE,
    shutdown_timeout_seconds=_JAX_PATIENCE,  # process 0 may still write the page of the run
  )
  _take_equal_shares(own or [])
  if jax.process_count() == 1:
    return contextlib.nullcontext()
  devices.check_equal()
  joined = distributed.global_state
  # pyrefly: ignore[missing-attribute]
  host = joined.coordinator_address.rsplit(':', 1)[0].strip('[]')
  # The address is that of process 0 in this numbering. On a TPU `jax.process_index` has another.
  return Watch(joined.process_id, jax.process_count(), host)


def _take_equal_shares(own: list[int]) -> None:
  """Leaves a process as many GPUs as the process with the fewest; each process must call this.

  Hosts may have different numbers of processes or GPUs, and JAX needs the same number in each.

  Args:
    own: the numbers of the GPUs of this process; [] where they are not known.
  """
  job = distributed.global_state
  if job.num_processes == 1:
    return
  client: Any = job.client
  client.key_value_set(f'gpus_taken/{job.process_id}', str(len(own)))
  keys = [f'gpus_taken/{index}' for index in range(job.num_processes)]
  shares = [int(client.blocking_key_value_get(key, 300_000)) for key in keys]  # milliseconds
  least = min((share for share in shares if share), default=0)
  if least < len(own):
    words = '%d of %d GPUs of this process are idle: each takes as many as the one with the fewest'
    logging.warning(words, len(own) - least, len(own))
    for kind in 'cuda', 'rocm':
      jax.config.update(f'jax_{kind}_visible_devices', ','.join(map(str, own[:least])))


def own_gpus(variables: Mapping[str, str]) -> list[int] | None:
  """Returns the numbers of the GPUs of this process, among those that it sees.

  JAX would give a process of Slurm or Open MPI one GPU, the one with the number of the process on
  its host. That GPU is missing where a process sees its own alone; others stay idle where there are
  more GPUs than processes.

  Args:
    variables: of the environment.

  Returns:
    The numbers; [] for all that it sees, None where JAX decides.
  """
  place = _place_on_host(variables)
  if place is None or 'JAX_LOCAL_DEVICE_IDS' in variables:
    return None
  index, count = place
  seen = variables.get('CUDA_VISIBLE_DEVICES') or variables.get('ROCR_VISIBLE_DEVICES')
  if not seen:
    return [] if count == 1 else None
  number = len(seen.split(','))
  if number < count or _sees_its_own(variables, number):
    return []
  share = number // count
  return list(range(index * share, (index + 1) * share))


def _sees_its_own(variables: Mapping[str, str], number: int) -> bool:
  """Returns whether Slurm has bound each process to GPUs of its own.

  Args:
    variables: of the environment.
    number: how many GPUs this process sees.
  """
  if _MPI_SIZE in variables:
    return False  # what Slurm says is of the job, and not of this process
  bind = variables.get('SLURM_GPU_BIND') or variables.get('SLURM_TRES_BIND')
  if bind:
    return 'none' not in bind
  entries = variables.get('SLURM_TRES_PER_TASK', '').split(',')
  asked = variables.get('SLURM_GPUS_PER_TASK') or next((e for e in entries if 'gpu' in e), '')
  found = re.search(r'\d+$', asked)  # such as 2, a100:2 or gres/gpu=2
  return found is not None and number <= int(found[0])


def _place_on_host(variables: Mapping[str, str]) -> tuple[int, int] | None:
  """Returns the number of this process on its host and how many are there; None if not known."""
  try:
    if _MPI_SIZE in variables:
      index, count = int(variables['OMPI_COMM_WORLD_LOCAL_RANK']), int(variables[_MPI_SIZE])
    else:
      tasks = variables['SLURM_STEP_TASKS_PER_NODE']  # such as 4(x2),3
      counts = [
        int(each)
        for each, times in re.findall(r'(\d+)(?:\(x(\d+)\))?', tasks)
        for _ in range(int(times or 1))
      ]
      index, count = int(variables['SLURM_LOCALID']), counts[int(variables['SLURM_NODEID'])]
  except (KeyError, ValueError, IndexError):
    return None
  return (index, count) if index < count else None


def parse(text: str) -> tuple[str, int, int]:
  """Returns address, number of processes and index from a text such as 'localhost:9876,2,0'.

  Raises:
    ValueError: the text has another form.
  """
  match = re.fullmatch(r'(\S+:\d+),(\d+),(\d+)', text)
  if not match or int(match[3]) >= int(match[2]):
    raise ValueError(
      f'{text!r} is not ADDRESS:PORT,COUNT,INDEX; the first of two is localhost:9876,2,0'
    )
  return match[1], int(match[2]), int(match[3])
