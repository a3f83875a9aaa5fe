"""The whole training program, on digits and at the smallest size."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import load_config, tiny_training, without_clock

import stretchnas_jax
from stretchnas_jax import config as config_lib
from stretchnas_jax import sizes, train
from stretchnas_jax.cells import genotype
from stretchnas_jax.cli import app
from stretchnas_jax.learning import training
from stretchnas_jax.machine import devices, stopping
from stretchnas_jax.runs import (
  evaluation,
  json_files,
  loop,
  runner,
  train_plan,
  train_task,
  trained,
  workdir,
)

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.usefixtures('shared_programs')
EDGES = (('dil_conv_3x3', 0, 2), ('skip_connect', 1, 2), ('max_pool_3x3', 2, 3))
CELL = genotype.Genotype(EDGES, (2, 3), EDGES[:2], (2,))
OTHER = genotype.Genotype(EDGES, (2, 3), EDGES[1:2], (2,))


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A training that was never stopped: its folder and its result."""
  path = tmp_path_factory.mktemp('train') / 'run'
  return path, stretchnas_jax.run_train(tiny_training(), path, CELL)


def test_a_training_leaves_what_it_promises(finished):
  path, result = finished
  names = {
    'config.json', 'run.json', 'metrics.jsonl', 'genotype.json', 'result.json', 'cells.svg',
    'checkpoints',
  }  # fmt: skip
  assert names <= {p.name for p in path.iterdir()}
  assert result == json.loads((path / 'result.json').read_text())
  fields = (
    'test_accuracy test_error_percent epochs seconds seed params macs flops_ptflops channels '
    'num_layers'
  )
  assert set(result) >= set(fields.split())
  network = {'channels': 2, 'num_layers': 1, 'num_classes': 10, 'image_shape': (8, 8, 1)}
  assert result['params'] == sizes.count_params(CELL, **network)
  assert result['macs'] == sizes.count_macs(CELL, **network)
  assert result['flops_ptflops'] == sizes.count_flops_ptflops(CELL, **network)
  assert genotype.from_json((path / 'genotype.json').read_text()) == CELL


def test_the_test_images_are_looked_at_once_and_the_best_epoch_has_its_own_name(finished):
  path, result = finished
  lines = json_files.read_lines(path / 'metrics.jsonl')
  fields = 'step epoch train_loss train_accuracy val_accuracy test_accuracy seconds'
  assert [line['epoch'] for line in lines] == [1, 2] and [line['step'] for line in lines] == [3, 6]
  assert all(set(line) >= {*fields.split(), 'images_per_second'} for line in lines)
  assert [line['test_accuracy'] for line in lines] == [None, result['test_accuracy']]
  assert result['test_error_percent'] == pytest.approx(100 - 100 * result['test_accuracy'])
  val = [line['val_accuracy'] for line in lines]
  assert result['last_val_accuracy'] == val[-1] and result['best_val_accuracy'] == max(val)
  assert result['best_epoch'] == 1 + val.index(max(val))
  parts = train_plan.plan_train(tiny_training(), genotype=CELL).feeds.sizes
  assert parts == {'train': 201, 'val': 86, 'test': 360}


def test_the_best_epoch_is_the_first_of_equal_ones():
  line = lambda epoch, val: {'epoch': epoch, 'val_accuracy': val, 'test_accuracy': None}
  lines = [line(1, 0.5), line(2, 0.8), line(3, 0.8), line(4, 0.7)]
  best = train_task.Best({}, {}, np.float32(-1), np.int32(0))
  for i, each in enumerate(lines, 1):
    state = training.TrainState(np.int32(7 * i), {}, {}, ())
    best = train_task.better(best, state, each['val_accuracy'])
  found = train_task.accuracies(lines[-1], best, 7, lines)
  # A changed line changes no result.
  lines[0] = line(1, 8.1)
  assert found == train_task.accuracies(line(4, 0.7), best, 7, lines)
  assert found == {
    'test_accuracy': None, 'test_error_percent': None, 'last_val_accuracy': 0.7,
    'best_val_accuracy': 0.8, 'best_epoch': 2,
  }  # fmt: skip


@pytest.mark.parametrize('how', ['signal', 'crash'])
def test_a_stopped_training_ends_bit_for_bit_as_one_that_was_not(
  finished, tmp_path, monkeypatch, how
):
  """A signal saves where it comes, in mid-epoch; a crash goes back to the last checkpoint."""
  advance, seen = loop.Loop.advance, []

  def stop_in_second_epoch(self, *args):
    seen.append(1)
    if len(seen) == 4 and how == 'signal':
      os.kill(os.getpid(), signal.SIGTERM)
    if len(seen) == 6 and how == 'crash':
      raise RuntimeError('crash')
    return advance(self, *args)

  fields = {'checkpoint.every_steps': 2} if how == 'crash' else {}
  config = tiny_training(**{'train.steps_per_call': 1, **fields})
  monkeypatch.setattr(loop.Loop, 'advance', stop_in_second_epoch)
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(stopping.Stopped if how == 'signal' else RuntimeError) as stop:
    stretchnas_jax.run_train(config, tmp_path / 'run', CELL)
  assert signal.getsignal(signal.SIGTERM) is before
  if how == 'signal':
    assert stop.value.exit_code == 143 and 'stopped at step 4 of 6' in str(stop.value)
  saved = {int(p.name) for p in (tmp_path / 'run' / 'checkpoints').iterdir()}
  assert saved == ({3, 4} if how == 'signal' else {2, 3, 4})
  monkeypatch.setattr(loop.Loop, 'advance', advance)
  result = stretchnas_jax.run_train(config, tmp_path / 'run', CELL)
  name = 'metrics.jsonl'
  assert without_clock(tmp_path / 'run' / name) == without_clock(finished[0] / name)
  assert {**result, 'seconds': 0} == {**finished[1], 'seconds': 0}
  for best in False, True:
    states = [trained.read_run(path, best).state for path in (tmp_path / 'run', finished[0])]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_the_weights_of_the_best_epoch_are_kept(tmp_path, monkeypatch, capsys):
  """Of three epochs the second and the third are the best, equally; a crash comes between them."""
  measure, accuracies = runner.Run.measure, {3: 0.5, 6: 0.9, 9: 0.9}

  def measured(self, part, state):
    found = measure(self, part, state)
    return found | {'accuracy': accuracies[int(state.step)]} if part == 'val' else found

  monkeypatch.setattr(runner.Run, 'measure', measured)
  config, run = tiny_training(**{'train.epochs': 3, 'train.steps_per_call': 1}), tmp_path / 'run'
  advance, seen = loop.Loop.advance, []

  def crash_in_third_epoch(self, *args):
    seen.append(1)
    if len(seen) == 8:
      raise RuntimeError('crash')
    return advance(self, *args)

  monkeypatch.setattr(loop.Loop, 'advance', crash_in_third_epoch)
  with pytest.raises(RuntimeError):
    stretchnas_jax.run_train(config, run, CELL)
  shutil.copytree(run, tmp_path / 'second')
  monkeypatch.setattr(loop.Loop, 'advance', advance)
  result = stretchnas_jax.run_train(config, run, CELL)
  assert (result['best_epoch'], result['best_val_accuracy']) == (2, 0.9)
  _, second, _ = stretchnas_jax.load_trained(tmp_path / 'second')  # the newest ones there
  _, best, info = stretchnas_jax.load_trained(run, best=True)
  jax.tree.map(np.testing.assert_array_equal, best, second)
  assert info['step'] == 6 and info['metrics']['epoch'] == 2
  _, last, info = stretchnas_jax.load_trained(run)
  assert info['step'] == 9
  differs = jax.tree.map(lambda a, b: bool((a != b).any()), best, last)
  assert all(jax.tree.leaves(differs['params']))
  capsys.readouterr()
  evaluation.prepare_evaluation(run, best=True)()
  assert json.loads(capsys.readouterr().out)['step'] == 6


def test_a_finished_training_is_left_alone(finished, capsys):
  path, result = finished
  before = (path / 'result.json').stat().st_mtime_ns
  assert stretchnas_jax.run_train(tiny_training(), path, CELL) == result
  assert 'holds a finished training' in capsys.readouterr().out
  assert (path / 'result.json').stat().st_mtime_ns == before


def flat(config):
  return config_lib.flatten(config)


def test_eval_only_measures_the_newest_checkpoint(finished, capsys):
  path, result = finished
  evaluation.prepare_evaluation(path)()
  line = json.loads(capsys.readouterr().out)
  assert line['step'] == 6 and line['test_images'] == 360
  assert line['test_accuracy'] == result['test_accuracy']
  assert line['val_accuracy'] == result['last_val_accuracy']
  for backend, size in ('single', 40), ('pmap', 30), ('pmap', 3):  # on one device, and on four
    fields = {'train.batch_size': size, 'parallel.backend': backend}
    evaluation.prepare_evaluation(path, tiny_training(**fields))()
    assert json.loads(capsys.readouterr().out) == pytest.approx(line, rel=1e-5)
  evaluation.prepare_evaluation(path, tiny_training(**{'data.compare_times': False}))()
  assert json.loads(capsys.readouterr().out)['test_accuracy'] == result['test_accuracy']
  with pytest.raises(ValueError, match='data.holdout=0.3, now 0.0'):
    evaluation.prepare_evaluation(path, tiny_training(**{'data.holdout': 0.0}))


def test_eval_only_names_a_backend_of_one_device_in_a_job_of_two(finished, monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(ValueError, match='backend is single, .* choose pmap or shard_map'):
    evaluation.prepare_evaluation(finished[0])


def test_eval_only_prints_one_line_in_a_job_of_several_processes(finished, capsys, monkeypatch):
  work = evaluation.prepare_evaluation(finished[0])
  monkeypatch.setattr(devices, 'process', lambda: (1, 2))
  work()
  assert not capsys.readouterr().out


def test_eval_only_from_the_command_line_needs_no_config(finished, tmp_path):
  command = [sys.executable, '-m', 'stretchnas_jax.train', '--eval-only']
  done = subprocess.run(
    [*command, f'--workdir={finished[0]}'], capture_output=True, text=True, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout)['test_accuracy'] == finished[1]['test_accuracy']


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'train.batch_size': 500}, 'config.train.batch_size is 500; the smallest part of the data'),
    ({'train.batch_size': 30, 'parallel.backend': 'pmap'}, 'a multiple of the 4 devices'),
    ({'model.auxiliary': True}, 'config.model.auxiliary is True: images of 8x8 reach'),
    (
      {'model.channels': 3, 'model.stem': 'imagenet'},
      'config.model.channels is 3; with the stem imagenet it must be even',
    ),
    ({'weights.schedule': 'step'}, 'one of cosine, linear, linear_tail, exponential'),
    ({'weights.warmup_epochs': 3}, 'config.weights.warmup_epochs is 3; config.train.epochs is 2'),
    ({'train.drop_path': 1.0}, 'config.train.drop_path is 1.0; .*below 1'),
    ({'data.holdout': 0.001}, 'config.data.holdout is 0.001, which is not one whole image of'),
    ({'data.path': '/nowhere', 'data.name': 'folder'}, 'nowhere'),
  ],
)
def test_what_cannot_be_run_is_named_before_the_folder_is_made(tmp_path, fields, words):
  with pytest.raises((ValueError, OSError), match=words):
    stretchnas_jax.run_train(tiny_training(**fields), tmp_path / 'run', CELL)
  assert not (tmp_path / 'run').exists()


def test_operations_that_are_not_known_are_named(tmp_path):
  path = tmp_path / 'cell.json'
  path.write_text(genotype.to_json(CELL).replace('max_pool_3x3', 'max_pool_9x9'))
  with pytest.raises(ValueError, match='max_pool_9x9'):
    stretchnas_jax.run_train(tiny_training(), tmp_path / 'run', path)


def test_another_cell_is_refused_by_the_folder_and_by_its_checkpoints(finished, tmp_path):
  with pytest.raises(ValueError, match='trains another cell than this --genotype'):
    stretchnas_jax.run_train(tiny_training(), finished[0], OTHER)
  config = tiny_training(**{'train.epochs': 3})
  fields = {**config.to_dict(), 'genotype': OTHER.to_dict()}
  with workdir.Workdir.open(tmp_path / 'run', fields, argv=()) as folder:
    shutil.copytree(finished[0] / 'checkpoints', folder.path / 'checkpoints')
  with pytest.raises(ValueError, match='are of a run with another genotype: choose another work'):
    stretchnas_jax.run_train(config, tmp_path / 'run', OTHER)


def start(words, capsys):
  """Runs the program as from a command line; its last line of stderr, and the exit code."""
  with pytest.raises(SystemExit) as stop:
    app.run(train.prepare, workdir=True, options=train.OPTIONS, argv=['train', *words])
  error = capsys.readouterr().err
  assert 'Traceback' not in error
  return error.splitlines()[-1], stop.value.code


def words_of(config, path, cell):
  default = flat(load_config(ROOT / 'configs' / 'train_digits.py'))
  words = [f'--config={ROOT}/configs/train_digits.py']
  words += [f'--config.{f}={v}' for f, v in flat(config).items() if v != default[f]]
  return [*words, f'--workdir={path}', f'--genotype={cell}']


@pytest.mark.parametrize(
  'fields, cell, text',
  [
    ({}, 'unknown', "cell.json: .*'max_pool_9x9'"),
    ({}, 'other', 'trains another cell than this --genotype'),
    ({'model.channels': 0}, 'own', 'config.model.channels is 0; it must be a whole number'),
    ({'model.channels': 4}, 'own', 'model.channels'),
    ({'model.auxiliary': True}, 'own', 'images of 8x8 reach the auxiliary head'),
    ({'data.image_size': 12}, 'own', 'data.image_size'),
  ],
)
def test_errors_are_a_sentence_and_exit_code_2(finished, tmp_path, capsys, fields, cell, text):
  path = tmp_path / 'cell.json'
  text_of = {'own': genotype.to_json(CELL), 'other': genotype.to_json(OTHER)}
  text_of['unknown'] = text_of['own'].replace('max_pool_3x3', 'max_pool_9x9')
  path.write_text(text_of[cell])
  said, code = start(words_of(tiny_training(**fields), finished[0], path), capsys)
  assert code == 2 and re.match(f'error: .*{text}', said), said
