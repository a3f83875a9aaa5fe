"""The whole search program, on digits and at the smallest size."""

import json
import pathlib
import subprocess
import sys

import filelock
import jax
import numpy as np
import pytest
from helpers import tiny_search, without_clock

import stretchnas_jax
from stretchnas_jax.cells import genotype, topology
from stretchnas_jax.cells.graph import CellGraph
from stretchnas_jax.cells.space import CELL_TYPES, SearchSpace
from stretchnas_jax.machine import parallel
from stretchnas_jax.runs import (
  checkpoint,
  json_files,
  loop,
  search_task,
  trained,
)

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.usefixtures('shared_programs')


def last_state(path, config):
  programs = search_task.compile_programs(search_task.plan_search(config))
  like = jax.eval_shape(programs.init, jax.random.key(0))
  with checkpoint.Checkpoints(path / 'checkpoints') as saved:
    return saved.restore_latest(like)


def test_planes_are_refused_on_a_gpu_before_anything_begins(tmp_path, monkeypatch):
  monkeypatch.setattr(parallel.Devices, 'platform', 'gpu')
  with pytest.raises(ValueError, match="model.form is 'planes'.* use auto or merged"):
    stretchnas_jax.run_search(tiny_search(**{'model.form': 'planes'}), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
  for form in ('auto', 'merged'):
    search_task.plan_search(tiny_search(**{'model.form': form}))


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A search that was never stopped: its folder and its result."""
  path = tmp_path_factory.mktemp('search') / 'run'
  return path, stretchnas_jax.run_search(tiny_search(), path)


def test_a_search_leaves_what_it_promises(finished):
  path, result = finished
  names = {
    'config.json', 'run.json', 'metrics.jsonl', 'genotypes.jsonl', 'genotype.json', 'result.json',
    'cells.svg', 'checkpoints', 'scores.jsonl', 'space.json', 'report.html',
  }  # fmt: skip
  assert names <= {p.name for p in path.iterdir()}
  assert result == json.loads((path / 'result.json').read_text())
  fields = 'val_accuracy epochs seconds seed supernet_params penalty genotype'
  assert set(result) >= set(fields.split())
  found = genotype.from_json((path / 'genotype.json').read_text())
  assert found.to_dict() == result['genotype']
  lines = json_files.read_lines(path / 'metrics.jsonl')
  fields = (
    'step epoch train_loss train_accuracy val_loss val_accuracy penalty alpha_entropy beta_entropy '
    'seconds images_per_second'
  )
  assert [line['epoch'] for line in lines] == [1, 2]
  assert all(set(line) >= set(fields.split()) for line in lines)
  history = json_files.read_lines(path / 'genotypes.jsonl')
  assert [line['epoch'] for line in history] == [1, 2]
  assert history[-1]['genotype'] == result['genotype']


def test_the_history_of_a_search_leads_to_its_cell(finished):
  path, result = finished
  found = stretchnas_jax.load_history(path)
  assert found.epochs.tolist() == [1, 2] and found.genotypes[-1] == result['genotype']
  space = SearchSpace(
    CellGraph(max(dst for _, dst in found.facts.edges) - 1), found.facts.primitives
  )
  strength, beta = (
    {c: values[-1] for c, values in tree.items()} for tree in (found.strength, found.beta)
  )
  derived, _ = genotype.derive(space, found.facts.table, strength, beta)
  assert derived.to_dict() == result['genotype']
  for c in CELL_TYPES:
    weights = jax.nn.softmax(found.alpha[c], axis=-1)
    np.testing.assert_allclose(found.op_weights[c], weights, rtol=1e-5)
    scores = [topology.edge_scores(beta, found.facts.table) for beta in found.beta[c]]
    np.testing.assert_allclose(found.edge_scores[c], np.stack(scores), rtol=1e-5)


class Stopped(Exception):
  pass


@pytest.mark.parametrize('every', [0, 1], ids=['in an epoch', 'mid-epoch saves'])
def test_a_stopped_search_ends_bit_for_bit_as_one_that_was_not(
  finished, tmp_path, monkeypatch, every
):
  """An epoch has 3 steps, of 24 images: the fourth call ends in the second epoch."""
  fields = {'checkpoint.every_steps': every} if every else {}
  config = tiny_search(**fields)
  advance, seen = loop.Loop.advance, []

  def stop_later(self, *args):
    if len(seen) == 4:
      raise Stopped
    seen.append(1)
    return advance(self, *args)

  monkeypatch.setattr(loop.Loop, 'advance', stop_later)
  with pytest.raises(Stopped):
    stretchnas_jax.run_search(config, tmp_path / 'run')
  with open(tmp_path / 'run' / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 999, "epoch": 9}\n{"step": 1000, "tor')
  monkeypatch.setattr(loop.Loop, 'advance', advance)
  stretchnas_jax.run_search(config, tmp_path / 'run')
  for name in ('metrics.jsonl', 'genotypes.jsonl', 'scores.jsonl'):
    assert without_clock(tmp_path / 'run' / name) == without_clock(finished[0] / name)
  step, state, _ = last_state(tmp_path / 'run', config)
  expected_step, expected, _ = last_state(finished[0], tiny_search())
  assert step == expected_step
  jax.tree.map(np.testing.assert_array_equal, state, expected)


def test_a_search_in_bfloat16_stays_near_float32(finished, tmp_path):
  """Two epochs: losses, and alpha and beta, which stay float32 themselves."""
  half = tiny_search(**{'model.dtype': 'bfloat16'})
  stretchnas_jax.run_search(half, tmp_path / 'run')
  lines, expected = (
    json_files.read_lines(path / 'metrics.jsonl') for path in (tmp_path / 'run', finished[0])
  )
  for line, other in zip(lines, expected, strict=True):
    assert line['train_loss'] == pytest.approx(other['train_loss'], rel=1e-3)
    assert line['train_loss'] != other['train_loss']
    assert line['val_loss'] == pytest.approx(other['val_loss'], rel=1e-3)
  arch, other = (trained.read_run(path).state.arch for path in (tmp_path / 'run', finished[0]))
  assert {x.dtype for x in jax.tree.leaves(arch)} == {np.dtype('float32')}
  # In 6 steps Adam has moved each of them by up to 6 x 3e-4.
  apart = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), arch, other)
  assert 0 < max(jax.tree.leaves(apart)) <= 1e-3, apart


def test_a_finished_search_is_left_alone(finished, capsys):
  path, result = finished
  before = {
    p: p.stat().st_mtime_ns for p in path.rglob('*') if p.name not in ('run.json', 'config.json')
  }
  assert stretchnas_jax.run_search(tiny_search(), path) == result
  assert 'holds a finished search' in capsys.readouterr().out
  after = {p: p.stat().st_mtime_ns for p in before}
  assert before == after


def test_a_folder_of_another_config_is_refused(finished):
  with pytest.raises(ValueError, match='search.epochs=2, now 3'):
    stretchnas_jax.run_search(tiny_search(**{'search.epochs': 3}), finished[0])


def test_a_search_under_way_keeps_others_out(finished):
  path = finished[0]
  before = (path / 'run.json').read_bytes()
  with filelock.FileLock(path / '.lock'), pytest.raises(ValueError, match='in use by another proc'):
    stretchnas_jax.run_search(tiny_search(), path)
  assert (path / 'run.json').read_bytes() == before


@pytest.mark.parametrize(
  'fields, words',
  [
    (
      {'search.batch_size': 500},
      'config.search.batch_size is 500; the smallest part of the data has',
    ),
    ({'search.batch_size': 6, 'parallel.backend': 'pmap'}, 'a multiple of the 4 devices'),
    ({'topology.kind': 'k_subsets', 'topology.k': 5}, 'k is 5'),
    ({'model.channels': 3}, 'config.model.channels is 3; in a search it must be even'),
    ({'data.path': '/nowhere', 'data.name': 'folder'}, 'nowhere'),
  ],
)
def test_what_cannot_be_run_is_named_before_the_folder_is_made(tmp_path, fields, words):
  with pytest.raises((ValueError, OSError), match=words):
    stretchnas_jax.run_search(tiny_search(**fields), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_the_command_line_names_an_error_in_one_line(tmp_path):
  command = [
    sys.executable, '-m', 'stretchnas_jax.search', f'--config={ROOT / "configs" / "digits.py"}',
    f'--workdir={tmp_path / "run"}', '--config.search.batch_size=5000',
  ]  # fmt: skip
  done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
  assert 'config.search.batch_size is 5000' in done.stderr
  assert not (tmp_path / 'run').exists()


def test_several_seeds_are_the_searches_of_each(finished, tmp_path):
  path, result = finished
  summary = stretchnas_jax.run_search(tiny_search(), tmp_path / 'several', seeds=(1, 0))
  # The programs of the first seed served this one.
  assert without_clock(tmp_path / 'several' / 'seed_0' / 'metrics.jsonl') == without_clock(
    path / 'metrics.jsonl'
  )
  assert summary['n'] == 2 and summary['runs'][1]['genotype'] == result['genotype']
  values = [run['val_accuracy'] for run in summary['runs']]
  assert summary['val_accuracy'] == pytest.approx(sum(values) / 2)
  assert summary['runs'][0]['seed'] == 1 and 'genotype' not in summary


def test_the_weight_of_none_is_told_where_it_may_be_chosen():
  weights = {'normal': [[0.7, 0.3], [0.2, 0.8]], 'reduce': [[0.5, 0.5], [0.1, 0.9]]}
  op_weights = {cell: np.array(rows) for cell, rows in weights.items()}
  found = search_task.none_weights(op_weights, ('skip_connect', 'none'))
  assert found == {
    'none_weight_mean': pytest.approx(2.5 / 4, rel=1e-6),
    'none_weight_max': pytest.approx(0.9, rel=1e-6),
  }
  assert search_task.none_weights(op_weights, ('skip_connect', 'max_pool_3x3')) == {}
