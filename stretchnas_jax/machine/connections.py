"""Connections between the processes of one job: process 0 listens, each other process connects."""

import contextlib
import json
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from stretchnas_jax.machine.faults import one_line

_PATIENCE = 300  # seconds for all processes to connect
_LONGEST = 65536  # bytes of a message
_HELLO_SECONDS = 10.0  # for the first message of somebody who connects
_LONGEST_HELLO = 1024  # bytes of it
_LONGEST_NAME = 200
_MOST_GUESTS = 64  # of whom it is not yet known who they are
_MOMENT = 0.2  # seconds between two looks at the clock


class Connection:
  """A connection to another process, which carries one JSON object a line.

  Attributes:
    socket: the socket.
    name: of the other process, for sentences.
    silence: how many beats ago the other process was last heard.
    closed: whether the other process has said that its work is done.
  """

  def __init__(self, sock: socket.socket, name: str) -> None:
    """Binds a socket that is connected.

    Args:
      sock: the socket.
      name: of the other process.
    """
    self.socket = sock
    self.name = name
    self.silence = 0
    self.closed = False
    self._file = sock.makefile('rb')
    self._sending = threading.Lock()

  def send(self, message: dict[str, Any]) -> None:
    """Sends a message; a connection that is lost is noticed by the thread that reads."""
    try:
      with self._sending:
        self.socket.sendall(json.dumps(message).encode() + b'\n')
    except OSError:
      pass

  def receive(self) -> dict[str, Any] | None:
    """Returns the next message; None at the end of the connection, or for no message."""
    try:
      message = json.loads(self._file.readline(_LONGEST))
    except (OSError, ValueError):
      return None
    return message if isinstance(message, dict) else None


def connect_all(index: int, count: int, host: str, name: str) -> dict[int, Connection]:
  """Returns the connections of this process by the number of the other process.

  Process 0 is connected to all others, each other process to process 0. All processes must call
  this together.

  Args:
    index: of this process.
    count: how many processes there are.
    host: where process 0 is, as the others find it.
    name: of this process, told to those that it connects to.

  Raises:
    OSError: process 0 cannot be reached, or not all processes came in time.
  """
  server = _listen() if index == 0 else None
  # The token keeps out strangers who find the port.
  port, token = _share(server.getsockname()[1] if server else None)
  if server:
    connections = dict(_accept_all(server, count - 1, token))
  else:
    try:
      sock = socket.create_connection((host, port), timeout=_PATIENCE)
    except OSError as error:
      raise ConnectionError(
        f'process 0 cannot be reached at {host}, port {port} ({one_line(error)}): the processes of '
        'a job need all ports between their hosts'
      ) from error
    connection = Connection(sock, f'process 0 of {count} ({host})')
    connection.send({'token': token, 'number': index, 'name': name[:_LONGEST_NAME]})
    answer = connection.receive()
    if answer is None:
      raise ConnectionError(f'{connection.name} gives no answer')
    connection.name = str(answer['name'])
    connections = {0: connection}
  for connection in connections.values():
    connection.socket.settimeout(None)
    if server:
      connection.send({'name': name})
  return connections


def _share(port: int | None) -> tuple[int, list[int]]:
  """Returns port and token of process 0, in all processes, each of which must call this.

  Args:
    port: on which this process listens; None in all processes but process 0.
  """
  words = np.array([port or 0, secrets.randbits(31), secrets.randbits(31)], np.int32)
  shared = multihost_utils.broadcast_one_to_all(words, is_source=port is not None)
  port, *token = shared.tolist()
  return port, token


def _listen() -> socket.socket:
  """Returns a socket that listens on a free port, for all addresses of this machine."""
  if socket.has_dualstack_ipv6():
    return socket.create_server(('', 0), family=socket.AF_INET6, dualstack_ipv6=True)
  return socket.create_server(('', 0))


def _accept_all(
  server: socket.socket, missing: int, token: list[int]
) -> Iterator[tuple[int, Connection]]:
  """Yields `(number, connection)` of all other processes, as they come.

  Strangers find the port too. All who come are heard beside each other. Each has a few seconds for
  a short first message, and few are heard at once.

  Args:
    server: a socket that listens; it is closed at the end.
    missing: how many processes will come.
    token: the words by which they show that they belong to this job.

  Raises:
    TimeoutError: not all of them came in time.
  """
  end, known = time.monotonic() + _PATIENCE, set()
  with server, selectors.DefaultSelector() as selector, contextlib.ExitStack() as strangers:
    strangers.callback(_close_guests, selector)
    server.setblocking(False)
    selector.register(server, selectors.EVENT_READ)
    while len(known) < missing:
      if time.monotonic() > end:
        late, port = missing - len(known), server.getsockname()[1]
        raise TimeoutError(f'{late} of {missing} other processes did not come to port {port}')
      for guest in _heard(server, selector):
        hello = guest.hello()
        if hello.get('token') == token and hello['number'] not in known:
          guest.sock.setblocking(True)
          strangers.callback(_close_unless, guest.sock, lambda: len(known) == missing)
          known.add(hello['number'])
          yield int(hello['number']), Connection(guest.sock, str(hello['name']))
        else:
          guest.sock.close()


class _Guest:
  """Somebody who has connected, and has not said yet who he is.

  Attributes:
    sock: the socket.
    until: when the time for his first message ends.
    words: the beginning of the message.
  """

  def __init__(self, sock: socket.socket) -> None:
    self.sock = sock
    self.until = time.monotonic() + _HELLO_SECONDS
    self.words = b''

  def hear(self) -> bool:
    """Takes the bytes that have come; returns True where no more are needed."""
    try:
      more = self.sock.recv(_LONGEST_HELLO - len(self.words))
    except BlockingIOError:
      return False
    except OSError:
      more = b''
    self.words += more
    return not more or b'\n' in self.words or len(self.words) >= _LONGEST_HELLO

  def hello(self) -> dict[str, Any]:
    """Returns the message; {} for anything else."""
    try:
      message = json.loads(self.words)
    except (ValueError, RecursionError):
      return {}
    return message if isinstance(message, dict) and {'number', 'name'} <= message.keys() else {}


def _heard(server: socket.socket, selector: selectors.BaseSelector) -> list[_Guest]:
  """Waits a moment; returns the guests who have said something, and no longer waits for those.

  Args:
    server: takes new guests.
    selector: waits for the server and the guests.
  """
  done = []
  for key, _ in selector.select(_MOMENT):
    if key.data is None:
      with contextlib.suppress(OSError):  # he is gone already
        sock, _ = server.accept()
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, _Guest(sock))
    elif key.data.hear():
      selector.unregister(key.fileobj)
      done.append(key.data)
  guests = _guests(selector)
  late = [guest for guest in guests if time.monotonic() > guest.until]
  # The oldest has had most of its time. A process of the job speaks at once.
  for guest in late or guests[: max(len(guests) - _MOST_GUESTS, 0)]:
    selector.unregister(guest.sock)
    guest.sock.close()
  return done


def _guests(selector: selectors.BaseSelector) -> list[_Guest]:
  """Returns the guests who are waited for, the oldest first."""
  found = [key.data for key in selector.get_map().values() if key.data is not None]
  return sorted(found, key=lambda guest: guest.until)


def _close_unless(sock: socket.socket, complete: Callable[[], bool]) -> None:
  """Closes the socket of a process where another one has not come."""
  if not complete():
    sock.close()


def _close_guests(selector: selectors.BaseSelector) -> None:
  for guest in _guests(selector):
    guest.sock.close()
