"""Requests to stop: handlers, the thread that hears, and programs that lose their readers."""

import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest
from helpers import ROOT

from stretchnas_jax.cli import app
from stretchnas_jax.machine import entry, stopping

NUMBERS = [
  signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU,
]  # fmt: skip


@pytest.fixture(autouse=True, scope='module')
def hang_up():
  """Hears SIGHUP even where these tests were started by nohup; their programs inherit that."""
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGHUP, before)


@pytest.fixture
def handlers():
  """Puts all handlers back after a test."""
  before = {number: signal.getsignal(number) for number in NUMBERS}
  yield before
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.parametrize('number', NUMBERS, ids=lambda number: number.name)
def test_a_signal_is_noted_and_handlers_are_put_back(number, handlers, capfd):
  with stopping.requests() as request:
    assert request.number is None
    os.kill(os.getpid(), number)
    assert request.number == number
  assert {n: signal.getsignal(n) for n in NUMBERS} == handlers
  assert 'stopping after the steps under way' in capfd.readouterr().err


@pytest.mark.parametrize('number', NUMBERS, ids=lambda number: number.name)
def test_a_signal_that_the_parent_ignores_stays_ignored(number, handlers):
  signal.signal(number, signal.SIG_IGN)
  with stopping.requests() as request:
    os.kill(os.getpid(), number)
    assert request.number is None and signal.getsignal(number) == signal.SIG_IGN


@pytest.mark.parametrize('number', NUMBERS[2:], ids=lambda number: number.name)
def test_the_handler_of_somebody_else_stays(number, handlers):
  heard = []
  signal.signal(number, lambda *_: heard.append(number))
  with stopping.requests() as request:
    os.kill(os.getpid(), number)
  assert heard == [number] and request.number is None


def test_a_second_interrupt_stops_at_once():
  with pytest.raises(KeyboardInterrupt) as stop, stopping.requests():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
  assert not isinstance(stop.value, stopping.Stopped)


def test_another_thread_sets_up_nothing():
  before, seen = signal.getsignal(signal.SIGINT), []

  def look():
    with stopping.requests() as request:
      seen.append((signal.getsignal(signal.SIGINT), request.number))

  thread = threading.Thread(target=look)
  thread.start()
  thread.join()
  assert seen == [(before, None)]


@pytest.mark.parametrize(
  'number, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_program_that_was_stopped_says_where_and_exits_as_shells_expect(number, code, capsys):
  def work():
    raise stopping.Stopped('stopped at step 4 of 6', number)

  with pytest.raises(SystemExit) as stop:
    app.run(lambda args: work, config=False, argv=['prog'])
  assert stop.value.code == code
  assert capsys.readouterr().err == 'stopped at step 4 of 6\n'


class Ear(stopping._Ear):
  """An ear that takes no signals; it keeps the exit codes with which it would have ended."""

  def __init__(self):
    self.request, self.codes = None, []
    self._end = self.codes.append


def test_a_program_ends_at_once_until_there_is_something_to_save(capfd):
  ear, request = Ear(), stopping.Request()
  ear.answer(signal.SIGHUP)
  ear.request = request
  ear.answer(signal.SIGTERM)
  assert ear.codes == [129, 143] and request.number is None
  request.unsaved = True
  ear.answer(signal.SIGUSR1)
  ear.answer(signal.SIGTERM)
  assert ear.codes == [129, 143] and request.number == signal.SIGUSR1
  ear.answer(signal.SIGINT)
  assert ear.codes == [129, 143, 130]
  lines = capfd.readouterr().err.splitlines()
  assert lines[0] == 'stopped by SIGHUP; there was nothing to save'
  assert lines[2:] == [
    'stopping after the steps under way; Ctrl-C once more stops at once', 'interrupted',
  ]  # fmt: skip


def test_the_processes_of_a_job_stop_together_from_their_first_step_on():
  assert stopping.Request(shared=True).unsaved and not stopping.Request().unsaved


@pytest.mark.parametrize(
  'words, expected',
  [
    ('python -m stretchnas_jax.search --config=x', True),
    ('python -X importtime -W error -u -Im stretchnas_jax.train', True),
    ('python /usr/bin/stretchnas search', True),
    ('python -m pytest stretchnas_jax', False),
    ('python -m experiments.table1_cifar10 run', False),
    ('python script.py -m stretchnas_jax.search', False),
    ('python -c pass', False),
    ('python', False),
  ],
)
def test_only_programs_of_this_package_take_the_signals_of_their_process(words, expected):
  assert entry.is_program(words.split()) == expected


# ---- real programs -------------------------------------------------------------------------------


ENV = {**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'PYTHONPATH': str(ROOT)}


def training(path, *words):
  """The command of a training of 10,000 epochs in the folder `path/run`."""
  (path / 'tiny.py').write_text(TINY)
  (path / 'cell.json').write_text(json.dumps(CELL))
  return [
    sys.executable, '-m', 'stretchnas_jax.train', f'--config={path / "tiny.py"}', *words,
    f'--workdir={path / "run"}', f'--genotype={path / "cell.json"}',
  ]  # fmt: skip


def newest(path):
  """The step of the newest checkpoint of a run."""
  return max(int(p.name) for p in (path / 'run' / 'checkpoints').iterdir() if p.name.isdigit())


def read_until(descriptor, text):
  """Reads the words of a program until one of them comes."""
  said = b''
  while text not in said:
    try:
      more = os.read(descriptor, 4096)
    except OSError:  # a terminal on which nobody writes any more
      more = b''
    assert more, said
    said += more


@pytest.mark.long
def test_a_run_whose_reader_dies_with_ctrl_c_is_saved(tmp_path):
  """`2>&1 | tee log`: Ctrl-C ends tee, and the run hears it too."""
  read, write = os.pipe()
  process = subprocess.Popen(
    training(tmp_path), stdout=write, stderr=write, env=ENV, start_new_session=True
  )
  os.close(write)
  read_until(read, b'compiled the step')
  os.close(read)
  time.sleep(0.1)
  process.send_signal(signal.SIGINT)
  assert process.wait(60) == 130 and newest(tmp_path) > 0


ON_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.long
def test_a_run_whose_terminal_is_gone_is_saved(tmp_path):
  terminal, its_end = pty.openpty()
  termios.tcsetwinsize(terminal, (24, 100))
  command = [sys.executable, '-c', ON_A_TERMINAL, *training(tmp_path)]
  process = subprocess.Popen(command, stdin=its_end, stdout=its_end, stderr=its_end, env=ENV)
  os.close(its_end)
  read_until(terminal, b'loss')
  os.close(terminal)
  assert process.wait(60) == 129 and newest(tmp_path) > 0


@pytest.mark.long
def test_a_run_without_output_and_terminal_comes_to_its_end(tmp_path):
  """As from `nohup`, with stdout and stderr closed; SIGHUP comes in the middle."""
  command = training(tmp_path, '--config.train.epochs=4')
  script = 'trap "" HUP; exec "$@" >&- 2>&- <&-'
  process = subprocess.Popen(['sh', '-c', script, 'sh', *command], env=ENV)
  while not (tmp_path / 'run' / 'run.json').exists():
    assert process.poll() is None
    time.sleep(0.02)
  process.send_signal(signal.SIGHUP)
  assert process.wait(60) == 0
  assert (tmp_path / 'run' / 'result.json').exists() and newest(tmp_path) == 4 * 44


def test_a_program_is_stopped_while_it_starts_and_a_reader_that_is_gone_is_no_error(tmp_path):
  early = subprocess.Popen(training(tmp_path), stderr=subprocess.PIPE, text=True, env=ENV)
  read, write = os.pipe()
  os.close(read)
  describe = [sys.executable, '-m', 'stretchnas_jax.describe', 'DARTS_V2']
  gone = subprocess.Popen(describe, stdout=write, stderr=subprocess.PIPE, text=True, env=ENV)
  os.close(write)
  maps = pathlib.Path(f'/proc/{early.pid}/maps')
  while 'numpy' not in maps.read_text():  # the first of the large imports
    time.sleep(0.01)
  early.send_signal(signal.SIGTERM)
  assert early.communicate(timeout=60)[1] == 'stopped by SIGTERM; there was nothing to save\n'
  assert early.returncode == 143 and not (tmp_path / 'run').exists()
  assert gone.communicate(timeout=60)[1] == '' and gone.returncode == 0


def test_a_run_saves_its_state_when_a_real_signal_stops_it(tmp_path):
  """The signal comes from outside, as soon as the program says that the step is compiled."""
  said = []
  with subprocess.Popen(training(tmp_path), stderr=subprocess.PIPE, text=True, env=ENV) as process:
    for line in process.stderr:
      said.append(line)
      if line.startswith('compiled the step'):
        process.send_signal(signal.SIGTERM)
  assert process.returncode == 143, said
  assert 'goes on from there' in said[-1]
  step = max(int(p.name) for p in (tmp_path / 'run' / 'checkpoints').iterdir())
  assert f'stopped at step {step} of' in said[-1]


TINY = """
from stretchnas_jax import config as config_lib

def get_config():
  config = config_lib.train_config()
  config.data.name, config.data.image_size, config.data.crop_padding = 'digits', 8, 1
  config.data.cutout = 2
  config.model.channels, config.model.num_layers, config.model.auxiliary = 2, 1, False
  config.train.epochs, config.train.batch_size = 10000, 32
  return config
"""
CELL = {
  'normal': [['skip_connect', 0, 2], ['skip_connect', 1, 2]],
  'normal_concat': [2],
  'reduce': [['skip_connect', 0, 2], ['skip_connect', 1, 2]],
  'reduce_concat': [2],
}
