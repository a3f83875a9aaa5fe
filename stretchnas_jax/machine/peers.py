"""The processes of one job watch each other: who dies or hangs is named, and nobody waits for it.

Every process holds a connection to process 0, over which both say once a second that they live. A
process that dies lets go of its connection, and one that hangs falls silent. Silence is counted in
beats of one's own and not by the clock: who was asleep itself blames nobody.

JAX's own watch goes by the clock and gives no name; it is set to an hour, and only ends what this
one did not.
"""

import contextlib
import ctypes
import json
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
import traceback

import jax
import numpy as np
from jax._src import distributed  # the address that JAX found has no public name
from jax.experimental import multihost_utils

EXIT_CODE = 3  # of a process that stops since another one is lost
BEAT = 1.0  # seconds
SILENCE = 40  # beats without a word after which a process is taken to hang
JAX_PATIENCE = 3600  # seconds of JAX's own watch
PATIENCE = 300  # seconds for all processes to connect
LAST_WORDS = 2.0  # seconds that are left for what is to be said at an end

AGAIN = 'all processes of this job stop, and the same command goes on from the last checkpoint'


class Watch:
  """This process's part of the watch; all of it happens in threads."""

  def __init__(self, index, count, host):
    """Connects all processes; each must call this.

    Args:
      index: of this process.
      count: how many there are.
      host: where process 0 is, as the others find it.

    Raises:
      OSError: process 0 cannot be reached.
    """
    self.index, self.count = index, count
    self.name = f'process {index} of {count} ({socket.gethostname()}, pid {os.getpid()})'
    self.lines, self.ended, self._lock = {}, False, threading.Lock()
    server = listen() if index == 0 else None
    # A token keeps strangers out who find the port.
    port, token = share(server.getsockname()[1] if server else 0)
    if server:
      self.lines = dict(accept_all(server, count - 1, token))
    else:
      sock = socket.create_connection((host, port), timeout=PATIENCE)
      line = Line(sock, f'process 0 of {count} ({host})')
      line.send({'token': token, 'number': index, 'name': self.name})
      line.name = line.receive()['name']
      self.lines = {0: line}
      delay_aborts()
    for line in self.lines.values():
      line.sock.settimeout(None)
      if server:
        line.send({'name': self.name})
      threading.Thread(target=self._read, args=(line,), daemon=True).start()
    threading.Thread(target=self._beat, daemon=True).start()

  def _beat(self):
    while not self.ended:
      for line in self.lines.values():
        line.send({})
        line.silence += not line.closed
        if line.silence > SILENCE:
          self.stop(f'{line.name} has not been heard of for {SILENCE} s: it hangs; {AGAIN}')
      time.sleep(BEAT)

  def _read(self, line):
    """Hears what one process says, to its end."""
    while (message := line.receive()) is not None:
      line.silence = 0
      if 'stop' in message:
        self.stop(message['stop'])
      if 'failed' in message:
        self.stop(f'{line.name} has stopped ({message["failed"]}); {AGAIN}')
      if 'bye' in message:
        line.closed = True
        return
    if not self.ended:
      self.stop(f'{line.name} has died; {AGAIN}')

  def stop(self, text):
    """Ends this process, and through process 0 all others, with one sentence."""
    with self._lock:  # never let go: one sentence is enough
      if self.index == 0:
        self._tell({'stop': text})
      end = '\n' if sys.stderr.isatty() else ''  # below a progress bar
      os.write(2, f'{end}error: {text}\n'.encode())
      if self.index == 0:
        time.sleep(LAST_WORDS)  # JAX aborts the others once process 0 is gone
      os._exit(EXIT_CODE)

  def _tell(self, message):
    for line in self.lines.values():
      if not line.closed:
        line.send(message)

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    """After the work the end of another process is no loss; an error is told to all."""
    if error is None or hasattr(error, 'exit_code'):  # done, or stopped as all have agreed
      self.ended = True
      self._tell({'bye': True})
    elif isinstance(error, SystemExit):
      self.fail(getattr(error, 'text', f'exit code {error.code}'), error.code)
    else:
      time.sleep(LAST_WORDS)  # if the loss of another one is the cause, this process ends here
      traceback.print_exception(error)
      self.fail(f'{kind.__name__}: {" ".join(str(error).split())[:200]}', 1)

  def fail(self, text, code):
    """Tells the others why this process ends, and ends it."""
    with self._lock:
      self.ended = True
      if self.index == 0:
        self._tell({'stop': f'{self.name} has stopped ({text}); {AGAIN}'})
      else:
        self._tell({'failed': text})
      time.sleep(LAST_WORDS)
      sys.stderr.flush()
      sys.stdout.flush()
      # Not by way of JAX's own end: it waits minutes for processes that are no more.
      os._exit(code)


def delay_aborts():
  """Lets an abort of this process wait for six seconds.

  JAX aborts a process as soon as process 0 is gone, from a thread that needs no interpreter. The
  watch needs one to say who it was, and the main thread may hold it just then. So the answer to the
  signal is libc's `sleep`, which gets the number of the signal, 6, for its argument.
  """
  libc = ctypes.CDLL(None)
  libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
  libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


class Line:
  """A connection to another process: one JSON object a line.

  Attributes:
    name: of the process.
    silence: beats since it was heard.
    closed: it has said that its work is done.
  """

  def __init__(self, sock, name):
    self.sock, self.name, self.silence, self.closed = sock, name, 0, False
    self._file, self._sending = sock.makefile('rb'), threading.Lock()

  def send(self, message):
    try:
      with self._sending:
        self.sock.sendall(json.dumps(message).encode() + b'\n')
    except OSError:
      pass  # whoever reads finds out

  def receive(self):
    """The next message; None at the end of the connection."""
    try:
      message = json.loads(self._file.readline(65536))
    except (OSError, ValueError):
      return None
    return message if isinstance(message, dict) else None


def listen():
  """A socket on a free port, for all addresses of this machine."""
  if socket.has_dualstack_ipv6():
    return socket.create_server(('', 0), family=socket.AF_INET6, dualstack_ipv6=True)
  return socket.create_server(('', 0))


def share(port):
  """(port, token) of process 0, known to all."""
  words = np.int32([port, secrets.randbits(31), secrets.randbits(31)])
  port, *token = multihost_utils.broadcast_one_to_all(words).tolist()
  return port, token


def accept_all(server, missing, token):
  """`(number, name, Line)` of the connections of all other processes, as they come."""
  server.settimeout(PATIENCE)
  with server:
    while missing:
      sock, _ = server.accept()
      sock.settimeout(PATIENCE)
      line = Line(sock, '')
      hello = line.receive()
      if hello is None or hello.get('token') != token:
        sock.close()
        continue
      missing -= 1
      line.name = str(hello['name'])
      yield int(hello['number']), line


def join(where):
  """Joins the other processes of the job; from now on they watch each other.

  Args:
    where: 'auto', where JAX finds out by itself (Slurm, Open MPI, Kubernetes, TPU pods), or
      ADDRESS:PORT,COUNT,INDEX: where process 0 is, how many there are, and which one this is.

  Returns:
    A `Watch`, or a null context where the job has one process.

  Raises:
    ValueError, RuntimeError, OSError: what is wrong.
  """
  given = None if where == 'auto' else parse(where)
  # Its own answer to SIGTERM would keep this program's from being heard.
  jax.config.update('jax_enable_preemption_service', False)
  if given is None:
    jax.distributed.initialize(heartbeat_timeout_seconds=JAX_PATIENCE)
  else:
    address, count, index = given
    jax.distributed.initialize(
      address, num_processes=count, process_id=index, heartbeat_timeout_seconds=JAX_PATIENCE
    )
  if jax.process_count() == 1:
    return contextlib.nullcontext()
  address = given[0] if given else distributed.global_state.coordinator_address
  return Watch(jax.process_index(), jax.process_count(), address.rsplit(':', 1)[0].strip('[]'))


def parse(text):
  """`'localhost:9876,2,0'` -> (address, count, index)"""
  match = re.fullmatch(r'(\S+:\d+),(\d+),(\d+)', text)
  if not match or int(match[3]) >= int(match[2]):
    raise ValueError(
      f'{text!r} is not ADDRESS:PORT,COUNT,INDEX; the first of two is localhost:9876,2,0'
    )
  return match[1], int(match[2]), int(match[3])
