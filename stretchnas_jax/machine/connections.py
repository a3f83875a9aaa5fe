"""Connections between the processes of one job: process 0 listens, each other process connects."""

import json
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

_PATIENCE = 300  # seconds for all processes to connect
_LONGEST = 65536  # bytes of a message


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
  port, token = _share(server.getsockname()[1] if server else 0)
  if server:
    connections = dict(_accept_all(server, count - 1, token))
  else:
    sock = socket.create_connection((host, port), timeout=_PATIENCE)
    connection = Connection(sock, f'process 0 of {count} ({host})')
    connection.send({'token': token, 'number': index, 'name': name})
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


def _share(port: int) -> tuple[int, list[int]]:
  """Returns port and token of process 0, in all processes, each of which must call this.

  Args:
    port: on which this process listens; only that of process 0 counts.
  """
  words = np.array([port, secrets.randbits(31), secrets.randbits(31)], np.int32)
  port, *token = multihost_utils.broadcast_one_to_all(words).tolist()
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

  Args:
    server: a socket that listens; it is closed at the end.
    missing: how many processes will come.
    token: the words by which they show that they belong to this job.
  """
  server.settimeout(_PATIENCE)
  with server:
    while missing:
      sock, _ = server.accept()
      sock.settimeout(_PATIENCE)
      connection = Connection(sock, '')
      hello = connection.receive()
      if hello is None or hello.get('token') != token:
        sock.close()
        continue
      missing -= 1
      connection.name = str(hello['name'])
      yield int(hello['number']), connection
