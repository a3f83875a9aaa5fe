"""How the processes of a job watch each other, without the processes."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from stretchnas_jax.machine import peers


@pytest.fixture
def pair(monkeypatch):
  """Two ends of a watch in one process, and what they have stopped for."""
  ready, shared, said = threading.Event(), [], []

  def share(port):
    if port:
      shared.append((port, [1, 2]))
      ready.set()
    ready.wait()
    return shared[0]

  monkeypatch.setattr(peers, 'share', share)
  monkeypatch.setattr(peers, 'BEAT', 0.01)
  monkeypatch.setattr(peers, 'LAST_WORDS', 0.0)
  stopped = threading.Event()

  def stop(self, text):
    self.ended = True
    said.append((self.index, text))
    stopped.set()

  monkeypatch.setattr(peers.Watch, 'stop', stop)
  ends = [None, None]

  def make(index):
    ends[index] = peers.Watch(index, 2, 'localhost')

  threads = [threading.Thread(target=make, args=(index,)) for index in (0, 1)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  yield ends, said, stopped
  for end in ends:
    end.ended = True
    for line in end.lines.values():
      line.sock.close()


def test_who_lets_go_of_the_connection_has_died(pair):
  (first, second), said, stopped = pair
  second.ended = True
  second.lines[0].sock.shutdown(peers.socket.SHUT_RDWR)
  assert stopped.wait(30)
  index, text = said[0]
  assert index == 0 and text.startswith(f'{second.name} has died; all processes of this job stop')
  assert second.name.startswith('process 1 of 2 (') and f'pid {peers.os.getpid()}' in second.name


def test_who_falls_silent_hangs(pair, monkeypatch):
  (first, second), said, stopped = pair
  monkeypatch.setattr(peers, 'SILENCE', 3)
  second.ended = True  # its beats end; its connection stays
  assert stopped.wait(30)
  assert said[0][0] == 0 and f'{second.name} has not been heard of for 3 s' in said[0][1]


def test_who_is_done_is_no_loss(pair):
  (first, second), said, stopped = pair
  with second:
    pass
  assert not stopped.wait(0.5) and not said


@pytest.mark.parametrize('index', [0, 1])
def test_an_error_of_one_is_told_to_the_other(pair, index, monkeypatch):
  ends, said, stopped = pair
  left = []
  monkeypatch.setattr(peers.os, '_exit', left.append)
  error = SystemExit(2)
  error.text = 'no room left'
  ends[index].__exit__(SystemExit, error, None)
  assert stopped.wait(30) and left == [2]
  assert said[0][0] == 1 - index
  assert said[0][1].startswith(f'{ends[index].name} has stopped (no room left); all processes')


@pytest.mark.parametrize(
  'text', ['', 'localhost', 'localhost:1', 'localhost:1,2', 'a:1,2,2', '1,2']
)
def test_a_wrong_place_in_a_job_is_named(text):
  with pytest.raises(ValueError, match='is not ADDRESS:PORT,COUNT,INDEX'):
    peers.parse(text)


def test_a_place_in_a_job():
  assert peers.parse('node1:98,4,3') == ('node1:98', 4, 3)
  assert peers.parse('[::1]:98,2,0') == ('[::1]:98', 2, 0)


@pytest.mark.parametrize('speaks, code', [(True, 3), (False, -signal.SIGABRT)])
def test_an_abort_waits_for_who_has_something_to_say(speaks, code):
  """As JAX aborts: from a thread that does not need the interpreter, which is busy."""
  program = f"""
import ctypes, os, threading, time
from stretchnas_jax.machine import peers
peers.delay_aborts()
threading.Thread(target=ctypes.CDLL(None).abort, daemon=True).start()
time.sleep(1)
{'os._exit(3)' if speaks else 'time.sleep(30)'}
"""
  begin = time.monotonic()
  done = subprocess.run([sys.executable, '-c', program], timeout=60)
  assert done.returncode == code
  assert time.monotonic() - begin < 30
