"""The console and the writers of a run."""

import io
import math
import os
import pty
import sys
import termios
import time

import numpy as np
import pytest

from stretchnas_jax.runs import json_files, metrics, workdir
from stretchnas_jax.runs.settings import Epochs, Span


class Terminal(io.StringIO):
  """A stream that is a terminal."""

  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  """A clock that stands still; add to `clock[0]`."""
  now = [100.0]
  monkeypatch.setattr(time, 'monotonic', lambda: now[0])
  return now


def test_off_a_terminal_there_is_one_line_an_epoch(clock):
  out = io.StringIO()
  progress = metrics.Progress(30, Epochs([Span(3, 10)]), 8, stream=out)
  with progress.compiling('the search'):
    clock[0] += 60
  for step in (5, 10, 15, 20, 30):
    clock[0] += 2
    progress.update(step, loss=1 / step, accuracy=np.float32(0.25), note='x')
  progress.message('done')
  progress.close()
  lines = out.getvalue().splitlines()
  assert lines[0] == 'compiling the search ...'
  assert lines[1] == 'compiled the search in 60.0 s'
  assert lines[2] == 'epoch 1/3  loss 0.1  accuracy 0.25  note x  20 img/s  ETA 0:00:08'
  assert lines[3].startswith('epoch 2/3  loss 0.05')
  assert lines[4].startswith('epoch 3/3') and lines[4].endswith('40 img/s  ETA 0:00:00')
  assert lines[5:] == ['done']


def test_steps_during_compilation_do_not_count_for_the_rate(clock):
  out = io.StringIO()
  progress = metrics.Progress(100, Epochs([Span(10, 10)]), 1, stream=out)
  with progress.compiling():
    clock[0] += 500
    progress.update(10)
  clock[0] += 10
  progress.update(20)
  assert 'epoch 1/10\n' in out.getvalue()
  assert out.getvalue().endswith('epoch 2/10  1 img/s  ETA 0:01:20\n')


def test_a_resumed_run_counts_from_its_first_step(clock):
  out = io.StringIO()
  progress = metrics.Progress(100, Epochs([Span(10, 10)]), 1, start_step=55, stream=out)
  clock[0] += 5
  progress.update(60)
  assert out.getvalue() == 'epoch 6/10  1 img/s  ETA 0:00:40\n'


def test_on_a_terminal_there_is_a_bar(clock):
  out = Terminal()
  with metrics.Progress(30, Epochs([Span(3, 10)]), 8, stream=out) as progress:
    with progress.compiling('{the} step'):
      pass
    clock[0] += 2
    progress.update(12, loss=1.23)
    progress.message('a line of its own')
  text = out.getvalue()
  assert 'compiling {the} step ...' in text
  last = text[text.rindex('epoch') :]
  assert 'epoch 2/3 [' in last and '40%' in last and 'loss 1.23  48 img/s  ETA 0:00:03' in last
  assert 'a line of its own\n' in text


def test_on_a_terminal_without_columns_there_are_lines(clock):
  ours, theirs = pty.openpty()
  termios.tcsetwinsize(theirs, (0, 0))
  with os.fdopen(theirs, 'w') as terminal:
    with metrics.Progress(2, Epochs([Span(2, 1)]), 1, stream=terminal) as progress:
      progress.update(1, loss=1.0)
    assert os.read(ours, 1000).startswith(b'epoch 1/2  loss 1  ')
  os.close(ours)


@pytest.mark.parametrize('stream', [io.StringIO, Terminal])
def test_other_processes_are_silent(stream):
  out = stream()
  with (
    metrics.Progress(10, Epochs([Span(10, 1)]), 1, enabled=False, stream=out) as progress,
    progress.compiling(),
  ):
    progress.update(5)
    progress.message('x')
  assert out.getvalue() == ''


def test_a_bar_may_be_closed_twice_and_after_a_failed_compilation():
  progress = metrics.Progress(10, Epochs([Span(10, 1)]), 1, stream=Terminal())
  with pytest.raises(KeyError), progress.compiling():
    raise KeyError
  progress.close()
  progress.close()


def test_scalars_become_json_lines(tmp_path):
  lines = workdir.Workdir(tmp_path).lines('metrics.jsonl')
  writer = metrics.JsonLines(lines)
  writer.write_scalars(3, {'epoch': 1, 'loss': math.inf})
  writer.close()
  assert json_files.read_lines(lines.path) == [{'step': 3, 'epoch': 1, 'loss': None}]


def test_tensorboard_files_are_written(tmp_path):
  pytest.importorskip('tensorboardX')
  writer = metrics.TensorBoard(tmp_path / 'tb')
  writer.write_scalars(1, {'loss': np.float32(0.5), 'name': 'text is left out', 'nan': math.nan})
  writer.close()
  (file,) = (tmp_path / 'tb').iterdir()
  assert b'loss' in file.read_bytes() and b'name' not in file.read_bytes()


def test_without_tensorboardx_the_error_says_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorboardX', None)
  with pytest.raises(ValueError, match=r'pip install .*\[tensorboard\]'):
    metrics.TensorBoard(tmp_path)
