"""The watch that the processes of a job keep over each other, without real processes."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import NamedTuple

import jax
import pytest
from jax._src import distributed

from stretchnas_jax.machine import connections, peers


class Pair(NamedTuple):
  """Both ends of a watch in one process.

  Attributes:
    ends: the two `Watch`es.
    said: `(index, text)` of each end that has stopped.
    stopped: set as soon as one has.
  """

  ends: list[peers.Watch]
  said: list[tuple[int, str]]
  stopped: threading.Event


@pytest.fixture
def pair(monkeypatch):
  """A `Pair` whose ends are connected."""
  ready, shared = threading.Event(), []

  def share(port):
    if port:
      shared.append((port, [1, 2]))
      ready.set()
    ready.wait()
    return shared[0]

  monkeypatch.setattr(connections, '_share', share)
  monkeypatch.setattr(peers, '_BEAT', 0.01)
  monkeypatch.setattr(peers, '_LAST_WORDS', 0.0)
  found = Pair([None, None], [], threading.Event())

  def stop(self, text):
    self.ended = True
    found.said.append((0 if self._is_first else 1, text))
    found.stopped.set()

  monkeypatch.setattr(peers.Watch, '_stop', stop)

  def make(index):
    found.ends[index] = peers.Watch(index, 2, 'localhost')

  threads = [threading.Thread(target=make, args=(index,)) for index in (0, 1)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  yield found
  for end in found.ends:
    end.ended = True
    for connection in end.connections.values():
      connection.socket.close()


def test_a_process_that_loses_its_connection_has_died(pair):
  first, second = pair.ends
  second.ended = True
  second.connections[0].socket.shutdown(socket.SHUT_RDWR)
  assert pair.stopped.wait(30)
  index, text = pair.said[0]
  assert index == 0 and text.startswith(f'{second.name} has died; all processes of this job stop')
  assert second.name.startswith('process 1 of 2 (') and f'pid {peers.os.getpid()}' in second.name


def test_a_silent_process_hangs(pair, monkeypatch):
  monkeypatch.setattr(peers, '_SILENCE', 3)
  second = pair.ends[1]
  second.ended = True  # its beats end; its connection stays
  assert pair.stopped.wait(30)
  index, text = pair.said[0]
  assert index == 0 and f'{second.name} has not been heard for 3 s' in text


def test_a_process_that_has_done_its_work_is_no_loss(pair):
  with pair.ends[1]:
    pass
  assert not pair.stopped.wait(0.5) and not pair.said


@pytest.mark.parametrize('index', [0, 1])
def test_the_error_of_one_process_is_told_to_the_other(pair, index, monkeypatch):
  left = []
  monkeypatch.setattr(peers.os, '_exit', left.append)
  error = SystemExit(2)
  error.text = 'no room left'
  pair.ends[index].__exit__(SystemExit, error, None)
  assert pair.stopped.wait(30) and left == [2]
  assert pair.said[0][0] == 1 - index
  expected = f'{pair.ends[index].name} has stopped (no room left); all processes'
  assert pair.said[0][1].startswith(expected)


@pytest.mark.parametrize(
  'text', ['', 'localhost', 'localhost:1', 'localhost:1,2', 'a:1,2,2', '1,2']
)
def test_a_wrong_place_in_a_job_is_named(text):
  with pytest.raises(ValueError, match='is not ADDRESS:PORT,COUNT,INDEX'):
    peers.parse(text)


def test_a_place_in_a_job_is_read():
  assert peers.parse('node1:98,4,3') == ('node1:98', 4, 3)
  assert peers.parse('[::1]:98,2,0') == ('[::1]:98', 2, 0)


def test_jax_still_keeps_the_address_of_process_0_where_we_look():
  """`jax._src.distributed` is private: a later JAX may keep the address elsewhere."""
  assert isinstance(distributed.global_state, distributed.State)
  state = distributed.State()
  state.client = object()  # so that it goes no further than the address
  with pytest.raises(RuntimeError, match='only be called once'):
    state.initialize('node1:98', num_processes=2, process_id=1)
  assert state.coordinator_address == 'node1:98'


def test_the_watch_has_the_numbers_by_which_jax_has_found_process_0(monkeypatch):
  """On a TPU `jax.process_index` may have others."""
  told = {}
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *words, **options: told.update(options))
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  state = SimpleNamespace(coordinator_address='[::1]:98', process_id=0, num_processes=1)
  monkeypatch.setattr(distributed, 'global_state', state)
  monkeypatch.setattr(peers, 'Watch', lambda *words: contextlib.nullcontext(words))
  before = jax.config.jax_enable_preemption_service
  try:
    assert peers.join('[::1]:98,2,0').enter_result == (0, 2, '::1')
  finally:
    jax.config.update('jax_enable_preemption_service', before)
  assert told['shutdown_timeout_seconds'] == told['heartbeat_timeout_seconds'] == 3600


def slurm(index, **more):
  return {'SLURM_LOCALID': str(index), 'SLURM_NODEID': '0', **more}


@pytest.mark.parametrize(
  'variables, expected',
  [
    ({}, None),
    # 4 processes on a host of 4 GPUs that all of them see
    (slurm(2, SLURM_STEP_TASKS_PER_NODE='4(x2)', CUDA_VISIBLE_DEVICES='0,1,2,3'), [2]),
    # of 8 GPUs each has two
    (slurm(1, SLURM_STEP_TASKS_PER_NODE='4', CUDA_VISIBLE_DEVICES='0,1,2,3,4,5,6,7'), [2, 3]),
    # each sees its own alone
    (slurm(2, SLURM_STEP_TASKS_PER_NODE='4', CUDA_VISIBLE_DEVICES='0'), []),
    (slurm(2, SLURM_STEP_TASKS_PER_NODE='4', CUDA_VISIBLE_DEVICES='0,1,2,3',
           SLURM_GPUS_PER_TASK='4'), []),
    (slurm(1, SLURM_STEP_TASKS_PER_NODE='2', CUDA_VISIBLE_DEVICES='0,1',
           SLURM_TRES_PER_TASK='cpu=4,gres/gpu=2'), []),
    (slurm(1, SLURM_STEP_TASKS_PER_NODE='2', CUDA_VISIBLE_DEVICES='0,1,2,3',
           SLURM_GPU_BIND='closest'), []),
    # each was given GPUs, and sees those of all
    (slurm(2, SLURM_STEP_TASKS_PER_NODE='4', CUDA_VISIBLE_DEVICES='0,1,2,3',
           SLURM_GPUS_PER_TASK='a100:1', SLURM_GPU_BIND='none'), [2]),
    ({'OMPI_COMM_WORLD_LOCAL_RANK': '3', 'OMPI_COMM_WORLD_LOCAL_SIZE': '4',
      'CUDA_VISIBLE_DEVICES': '0,1,2,3', 'SLURM_GPUS_PER_TASK': '4'}, [3]),
    # one process has all GPUs of its host
    (slurm(0, SLURM_STEP_TASKS_PER_NODE='1(x8)', CUDA_VISIBLE_DEVICES='0,1,2,3'), [0, 1, 2, 3]),
    (slurm(0, SLURM_STEP_TASKS_PER_NODE='1(x8)'), []),
    (slurm(1, SLURM_NODEID='1', SLURM_STEP_TASKS_PER_NODE='1,2', ROCR_VISIBLE_DEVICES='4,5'), [1]),
    # the place on the host is not known, or how many GPUs there are
    ({'SLURM_STEP_TASKS_PER_NODE': '2', 'CUDA_VISIBLE_DEVICES': '0,1'}, None),
    (slurm(2, SLURM_STEP_TASKS_PER_NODE='2', CUDA_VISIBLE_DEVICES='0,1'), None),
    ({**slurm(0, SLURM_STEP_TASKS_PER_NODE='2'), 'SLURM_NODEID': '1'}, None),
    (slurm(1, SLURM_STEP_TASKS_PER_NODE='2'), None),
    (slurm(1, SLURM_STEP_TASKS_PER_NODE='1', JAX_LOCAL_DEVICE_IDS='3'), None),
    ({'OMPI_COMM_WORLD_LOCAL_RANK': '1', 'OMPI_COMM_WORLD_LOCAL_SIZE': '2',
      'CUDA_VISIBLE_DEVICES': '4,5,6,7'}, [2, 3]),
  ],
)  # fmt: skip
def test_a_process_takes_its_own_gpus_of_those_that_it_sees(variables, expected):
  assert peers.own_gpus(variables) == expected


def test_jax_takes_all_gpus_for_an_empty_list_and_by_default_the_one_of_the_process(monkeypatch):
  """By this `own_gpus` is chosen; a later JAX may do otherwise."""
  for name in ('JOB_ID', 'STEP_NODELIST', 'NTASKS', 'PROCID', 'LOCALID', 'STEP_NUM_NODES'):
    monkeypatch.setenv(f'SLURM_{name}', '2')
  monkeypatch.setenv('SLURM_NTASKS', '4')
  names = 'jax_cuda_visible_devices', 'jax_rocm_visible_devices'
  before = {name: jax.config.values[name] for name in names}
  try:
    for given, expected in (([], 'all'), ([0, 1], '0,1'), (None, '2')):
      jax.config.update('jax_cuda_visible_devices', 'all')
      state = distributed.State()
      state.client = object()  # so that it goes no further
      with pytest.raises(RuntimeError, match='only be called once'):
        state.initialize(local_device_ids=given)
      assert jax.config.values[names[0]] == expected
  finally:
    for name, value in before.items():
      jax.config.update(name, value)


ABORTED = """
import ctypes, os, threading, time
from stretchnas_jax.machine import peers
peers._delay_aborts()
threading.Thread(target=ctypes.CDLL(None).abort, daemon=True).start()
time.sleep(0.5)
{}
"""


@pytest.mark.long
def test_an_abort_waits_for_the_last_words():
  """The abort comes as from JAX: from a thread that does not need Python, which is busy."""
  begin = time.monotonic()
  started = [
    subprocess.Popen([sys.executable, '-c', ABORTED.format(last)])
    for last in ('os._exit(3)', 'time.sleep(60)')
  ]
  assert [process.wait(60) for process in started] == [3, -signal.SIGABRT]
  assert time.monotonic() - begin < 55
