"""The port on which process 0 of a job waits for the others; strangers find it too."""

import contextlib
import json
import socket
import threading
import time

import pytest

from stretchnas_jax.machine import connections

TOKEN = [1, 2]


@pytest.fixture
def port(monkeypatch):
  """`(server, connect)`: a socket that listens, and a function that connects to it."""
  monkeypatch.setattr(connections, '_HELLO_SECONDS', 0.5)
  monkeypatch.setattr(connections, '_MOMENT', 0.02)
  with contextlib.ExitStack() as opened:
    server = opened.enter_context(socket.create_server(('localhost', 0)))

    def connect(words=b''):
      sock = opened.enter_context(socket.create_connection(server.getsockname(), timeout=30))
      sock.sendall(words)
      return sock

    yield server, connect


def hello(number, token=TOKEN):
  """The first message of a process."""
  return json.dumps({'token': token, 'number': number, 'name': f'p{number}'}).encode() + b'\n'


def accepted(server, count):
  """`{number: name}` of the processes that came, and the seconds that it took."""
  begin = time.monotonic()
  found = dict(connections._accept_all(server, count, TOKEN))
  names = {number: connection.name for number, connection in found.items()}
  for connection in found.values():
    connection.socket.close()
  return names, time.monotonic() - begin


def test_silent_strangers_hold_nothing_up(port):
  server, connect = port
  strangers = [connect(words) for words in (b'', b'', b'{"token"', b'GET / HTTP/1.1\r\n')]
  processes = [connect(hello(number)) for number in (2, 1)]
  names, seconds = accepted(server, 2)
  assert names == {1: 'p1', 2: 'p2'} and seconds < 0.4
  assert strangers and processes


def test_a_stranger_who_talks_on_is_heard_for_a_short_time(port, monkeypatch):
  """He sends a byte now and then, so that no wait for a byte is ever long."""
  monkeypatch.setattr(connections, '_PATIENCE', 20.0)
  server, connect = port
  slow, found = connect(), []
  thread = threading.Thread(target=lambda: found.append(accepted(server, 1)))
  thread.start()
  begin = time.monotonic()
  with pytest.raises(OSError):
    while time.monotonic() - begin < 15:
      slow.sendall(b'x')
      time.sleep(0.02)
  connect(hello(1))
  thread.join()
  assert found[0][0] == {1: 'p1'}


@pytest.mark.parametrize(
  'words',
  [
    b'x' * 100_000,
    b'\n',
    b'[]\n',
    b'{"token": [1, 2]}\n',
    b'[' * 1000 + b'\n',
    hello(1, token=[1, 3]),
    hello(1, token=None),
    b'\xff\n',
  ],
  ids=lambda words: words[:12].decode('latin-1'),
)
def test_wrong_words_are_no_process(port, words):
  server, connect = port
  with contextlib.suppress(OSError):  # he may be cut off in the middle
    connect(words)
  connect(hello(1))
  assert accepted(server, 1)[0] == {1: 'p1'}


def test_a_crowd_of_strangers_keeps_no_process_out(port, monkeypatch):
  monkeypatch.setattr(connections, '_HELLO_SECONDS', 60.0)
  monkeypatch.setattr(connections, '_MOST_GUESTS', 4)
  server, connect = port
  crowd = [connect() for _ in range(40)]
  connect(hello(1))
  names, seconds = accepted(server, 1)
  assert names == {1: 'p1'} and seconds < 5 and crowd


def test_a_process_that_does_not_come_is_an_error(port, monkeypatch):
  monkeypatch.setattr(connections, '_PATIENCE', 0.2)
  server, connect = port
  connect(hello(1))
  number = server.getsockname()[1]
  with pytest.raises(TimeoutError, match=f'1 of 2 other processes did not come to port {number}$'):
    accepted(server, 2)


def test_a_port_that_nobody_hears_is_named(monkeypatch):
  with socket.create_server(('localhost', 0)) as server:
    number = server.getsockname()[1]
  monkeypatch.setattr(connections, '_share', lambda port: (number, TOKEN))
  with pytest.raises(OSError, match=f'at localhost, port {number} .*refused.*need all ports'):
    connections.connect_all(1, 2, 'localhost', 'p1')
