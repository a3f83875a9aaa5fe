"""The loop on the host, with steps that only take time."""

import os
import signal
from typing import NamedTuple

import numpy as np
import pytest

from stretchnas_jax.learning.state import Arch
from stretchnas_jax.machine import parallel, stopping
from stretchnas_jax.runs import checkpoint, json_files, loop, steps, workdir


class State(NamedTuple):
  step: int


class Feed:
  """Chunks that say what was asked for."""

  def chunk(self, epoch, start, count, length):
    return epoch, start, count, length


class Saved(checkpoint.Checkpoints):
  """Remembers what is saved, and has nothing to restore."""

  def __init__(self):
    self.saved = {}

  def restore_latest(self, like, identity):
    return None

  def wait(self):
    pass

  def save(self, step, state, meta):
    self.saved[step] = meta

  def steps(self):
    return list(self.saved)


class Steps(steps.Work):
  """Steps whose program is a function of the test."""

  def advance(self, position, chunk, count, before=None):
    self.program.called = True
    return self.program(position, chunk, count)


def run(tmp_path, monkeypatch, *, seconds=0.001, every=0, kill_at=None, loss=1.0, spoil=None):
  """All chunks that were asked for, and what was saved: two epochs of 10 steps."""
  clock, chunks, saved = [0.0], [], Saved()
  monkeypatch.setattr(loop.time, 'perf_counter', lambda: clock[0])
  settings = loop.Settings(
    epochs=2, steps_per_epoch=10, batch_size=4, steps_per_call=6, every_steps=every,
    devices=parallel.Devices('single'), tensorboard=False,
  )  # fmt: skip
  start = steps.Position(State(0), {'train_loss': np.float32(0)})

  def train(position, chunk, count):
    if len(chunks) == kill_at:
      os.kill(os.getpid(), signal.SIGTERM)
    chunks.append(chunk)
    clock[0] += seconds * count
    if spoil is not None and len(chunks) == 4:
      return spoil
    return steps.Position(State(0), {'train_loss': position.sums['train_loss'] + loss * count})

  def evaluate(state, line):
    clock[0] += 0.5
    return {'val_loss': 2.0}, {}

  train.called = False
  subject = loop.Loop(workdir.Workdir(tmp_path), saved, settings, {'who': 'test'})
  subject.restore(start)
  try:
    subject.run(Steps(Feed(), train, (), None), evaluate)
  finally:
    subject.chunks, subject.saved = chunks, saved.saved
    run.last = subject
  return subject


def test_calls_end_with_the_epoch_and_every_step_is_made_once(tmp_path, monkeypatch):
  done = run(tmp_path, monkeypatch)
  # The first call compiles and the second is the first to be timed.
  assert done.chunks == [(0, 0, 1, 6), (0, 1, 1, 6), (0, 2, 6, 6), (0, 8, 2, 6), (1, 0, 6, 6),
                         (1, 6, 4, 6)]  # fmt: skip
  assert list(done.saved) == [10, 20] and done.saved[20]['identity'] == {'who': 'test'}
  lines = json_files.read_lines(tmp_path / 'metrics.jsonl')
  assert [(line['step'], line['epoch'], line['train_loss']) for line in lines] == [
    (10, 1, 1.0), (20, 2, 1.0),
  ]  # fmt: skip
  assert done.last == lines[-1]
  assert lines[1]['seconds'] == pytest.approx(0.01)
  assert lines[1]['images_per_second'] == pytest.approx(4000)
  assert lines[1]['evaluation_seconds'] == pytest.approx(0.5)
  assert done.seconds == pytest.approx(2 * (0.01 + 0.5))
  assert done.saved[20]['seconds'] == done.seconds


@pytest.mark.parametrize('seconds, most', [(2.0, 2), (0.9, 5), (60.0, 1)])
def test_a_call_of_slow_steps_is_cut_short(tmp_path, monkeypatch, seconds, most):
  done = run(tmp_path, monkeypatch, seconds=seconds)
  counts = [count for _, _, count, _ in done.chunks]
  assert sum(counts) == 20 and max(counts) == most


def test_checkpoints_come_every_so_many_steps_and_after_each_epoch(tmp_path, monkeypatch):
  assert list(run(tmp_path, monkeypatch, every=4).saved) == [4, 8, 10, 12, 16, 20]


def test_a_request_to_stop_saves_once_and_at_the_end_is_not_heard(tmp_path, monkeypatch):
  with pytest.raises(stopping.Stopped, match='stopped at step 8 of 20'):
    run(tmp_path, monkeypatch, kill_at=2)
  assert list(run.last.saved) == [8]
  with pytest.raises(stopping.Stopped, match='stopped at step 10 of 20'):
    run(tmp_path, monkeypatch, kill_at=3)
  assert list(run.last.saved) == [10]
  assert run(tmp_path, monkeypatch, kill_at=5).step == 20


def test_numbers_that_are_not_finite_are_never_saved(tmp_path, monkeypatch):
  """The loss is spoilt in step 5, and the weights, by a gradient, in step 4."""
  bad_loss = steps.Position(State(0), {'train_loss': np.float32(np.nan)})
  with pytest.raises(FloatingPointError, match='train_loss is nan after steps 5 to 8'):
    run(tmp_path, monkeypatch, every=4, spoil=bad_loss)
  assert list(run.last.saved) == [4]
  arch = Arch({'normal': np.float32([1, np.inf])}, {})
  bad_state = steps.Position(arch, {'train_loss': np.float32(8)})
  with pytest.raises(FloatingPointError, match='alpha.* after steps 8: .*config.alpha.learning'):
    run(tmp_path, monkeypatch, every=4, spoil=bad_state)
  assert list(run.last.saved) == [4]


def test_epochs_that_left_no_line_are_named(tmp_path, monkeypatch, caplog):
  done = run(tmp_path, monkeypatch)
  (tmp_path / 'metrics.jsonl').write_text('{"step": 20, "epoch": 2}\n')
  done.checkpoints.restore_latest = lambda like, identity: (20, like, {})
  done.restore(done.position)
  assert 'lacks epochs [1] of those that are done' in caplog.text
  (tmp_path / 'metrics.jsonl').unlink()
  with pytest.raises(OSError, match='lacks the last epoch of a run that is done'):
    done.restore(done.position)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
  message = 'train_loss is nan after steps 1 to 1: a lower config.weights.learning_rate'
  with pytest.raises(FloatingPointError, match=message):
    run(tmp_path, monkeypatch, loss=float('nan'))
  assert run.last.saved == {} and not (tmp_path / 'metrics.jsonl').exists()
