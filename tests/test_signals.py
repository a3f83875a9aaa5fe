"""Requests to stop, which handlers only note."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from stretchnas_jax.cli import app
from stretchnas_jax.runs import signals


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_handlers_are_put_back(number, capfd):
  before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  with signals.stop_requests() as request:
    assert request.number is None
    os.kill(os.getpid(), number)
    assert request.number == number
  assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
  assert 'stopping after the steps under way' in capfd.readouterr().err


def test_a_second_interrupt_stops_at_once():
  with pytest.raises(KeyboardInterrupt) as stop, signals.stop_requests():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
  assert not isinstance(stop.value, signals.Stopped)


def test_another_thread_sets_up_nothing():
  before, seen = signal.getsignal(signal.SIGINT), []

  def look():
    with signals.stop_requests() as request:
      seen.append((signal.getsignal(signal.SIGINT), request.number))

  thread = threading.Thread(target=look)
  thread.start()
  thread.join()
  assert seen == [(before, None)]


@pytest.mark.parametrize('number, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_program_that_was_stopped_says_where_and_exits_as_shells_expect(number, code, capsys):
  def work():
    raise signals.Stopped('stopped at step 4 of 6', number)

  with pytest.raises(SystemExit) as stop:
    app.run(lambda args: work, config=False, argv=['prog'])
  assert stop.value.code == code
  assert capsys.readouterr().err == 'stopped at step 4 of 6\n'


def test_a_run_saves_its_state_when_a_real_signal_stops_it(tmp_path):
  """The signal comes from outside, as soon as the program says that the step is compiled."""
  (tmp_path / 'tiny.py').write_text(TINY)
  (tmp_path / 'cell.json').write_text(json.dumps(CELL))
  command = [
    sys.executable, '-m', 'stretchnas_jax.train', f'--config={tmp_path / "tiny.py"}',
    f'--workdir={tmp_path / "run"}', f'--genotype={tmp_path / "cell.json"}',
  ]  # fmt: skip
  env = {**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
  said = []
  with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
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
