"""A researcher's own objects run everywhere: search, kill, resume, load, train, describe."""

import importlib.util
import json
import os
import pathlib
import py_compile
import shutil
import signal
import subprocess
import sys
import time

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from helpers import ROOT, TINY_CELL, tiny_search, tiny_training, without_clock

import stretchnas_jax
from stretchnas_jax.cells import genotype, graph, space, topology
from stretchnas_jax.networks import own_operations
from stretchnas_jax.runs import entry_points, find_cell, parts, workdir
from stretchnas_jax.runs.parts import Parts

pytestmark = pytest.mark.usefixtures('shared_programs')
CONFIG = ROOT / 'configs' / 'own_parts.py'
FIELDS = {
  'data.fraction': 0.2, 'model.channels': 2, 'model.num_layers': 1, 'model.form': 'merged',
  'search.epochs': 4, 'search.steps_per_call': 2, 'parallel.backend': 'single',
}  # fmt: skip


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
  """A user's cache folder, where this machine remembers which programs ran."""
  return tmp_path_factory.mktemp('cache')


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(cache))


@pytest.fixture(scope='module')
def config_file(tmp_path_factory):
  """The config file of the repository, with fewer nodes, so that it compiles fast."""
  path, text = tmp_path_factory.mktemp('config') / CONFIG.name, CONFIG.read_text('utf-8')
  assert 'CellGraph(3)' in text
  path.write_text(text.replace('CellGraph(3)', 'CellGraph(1)'), 'utf-8')
  return path


def command(config_file: pathlib.Path, workdir: pathlib.Path) -> list[str]:
  fields = [f'--config.{name}={value}' for name, value in FIELDS.items()]
  start = [sys.executable, '-m', 'stretchnas_jax.search', f'--config={config_file}']
  return [*start, f'--workdir={workdir}', *fields]


def environment(cache: pathlib.Path) -> dict[str, str]:
  return {**os.environ, 'XDG_CACHE_HOME': str(cache), 'PYTHONPATH': str(ROOT)}


@pytest.fixture(scope='module')
def finished(tmp_path_factory, config_file, cache):
  """A search by the command that was never stopped."""
  path = tmp_path_factory.mktemp('own') / 'run'
  subprocess.run(command(config_file, path), check=True, env=environment(cache), cwd=path.parent)
  return path


def test_a_config_file_with_own_parts_is_short():
  assert len(CONFIG.read_text('utf-8').splitlines()) <= 60


def test_a_killed_search_with_own_parts_ends_bit_for_bit_like_one_that_was_not(
  finished, config_file, tmp_path, cache
):
  path = tmp_path / 'run'
  words, env = command(config_file, path), environment(cache)
  process = subprocess.Popen(words, env=env, cwd=tmp_path, stderr=subprocess.DEVNULL)
  while not list(path.glob('checkpoints/[0-9]*/_CHECKPOINT_METADATA')):
    assert process.poll() is None and time.sleep(0.02) is None
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not (path / 'result.json').exists()
  subprocess.run(words, check=True, env=env, cwd=tmp_path)
  for name in ('metrics.jsonl', 'genotypes.jsonl'):
    assert without_clock(path / name) == without_clock(finished / name)
  variables = [stretchnas_jax.load_trained(each)[1] for each in (path, finished)]
  jax.tree.map(np.testing.assert_array_equal, *variables)


def test_the_found_cell_uses_the_own_space_and_table(finished):
  text = (finished / 'genotype.json').read_text('utf-8')
  found = genotype.from_json(text, operations=('gate',))
  for edges in (found.normal, found.reduce):
    assert {name for name, _, _ in edges} <= {'skip_connect', 'sep_conv_3x3', 'gate'}
    inputs = [sum(dst == node for _, _, dst in edges) for node in {dst for _, _, dst in edges}]
    assert set(inputs) <= {1, 2}


def test_a_search_with_own_parts_loads(finished):
  apply_fn, variables, info = stretchnas_jax.load_trained(finished)
  logits = apply_fn(variables, np.zeros((2, 8, 8, 1), np.uint8))
  assert logits.shape == (2, 10) and np.isfinite(logits).all()
  assert info['genotype'] == find_cell.genotype_from(finished)


def test_the_cell_of_a_search_with_own_parts_trains(finished, tmp_path):
  """The cell has the own operation on every edge, so that the training needs it."""
  cell = json.loads((finished / 'genotype.json').read_text('utf-8'))
  for name in ('normal', 'reduce'):
    cell[name] = [['gate', *edge[1:]] for edge in cell[name]]
  gates = genotype.Genotype.from_dict(cell, ('gate',))
  own = parts.of_run(finished)
  config = tiny_training(**{'train.epochs': 1})
  result = stretchnas_jax.run_train(config, tmp_path / 'gates', gates, parts=own)
  assert result['genotype'] == cell
  # The folder of the search is enough: it knows its own operations.
  stretchnas_jax.run_train(config, tmp_path / 'found', finished)
  for name in ('gates', 'found'):
    apply_fn, variables, _ = stretchnas_jax.load_trained(tmp_path / name)
    assert apply_fn(variables, np.zeros((1, 8, 8, 1), np.uint8)).shape == (1, 10)


def test_describe_takes_the_cell_of_a_search_with_own_parts(finished, cache):
  command = [sys.executable, '-m', 'stretchnas_jax.describe', str(finished), '--layers=2']
  done = subprocess.run(command, capture_output=True, text=True, env=environment(cache))
  assert done.returncode == 0, done.stderr
  assert 'params' in done.stdout


def test_a_folder_from_elsewhere_runs_no_program_without_a_word(finished, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  with pytest.raises(ValueError, match=r'space, operations, topology, relaxation.*trust=True'):
    stretchnas_jax.load_trained(finished)
  assert stretchnas_jax.load_trained(finished, trust=True)[2]['kind'] == 'search'


# ---- from Python ---------------------------------------------------------------------------------


class Double(nn.Module):
  """An operation of a test: twice its input."""

  channels: int
  stride: int

  @nn.compact
  def __call__(self, x, train=False):
    return 2 * x[:, :: self.stride, :: self.stride]


PYTHON = {
  'space': space.SearchSpace(graph.CellGraph(2), ('skip_connect', 'double')),
  'operations': {'double': Double},
  'topology': topology.input_pairs(graph.CellGraph(2)),
  'weights_tx': lambda num_steps: optax.sgd(optax.linear_schedule(0.05, 0.0, num_steps)),
  'alpha_tx': optax.adam(1e-2),
}


def images(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
  random = np.random.default_rng(0)
  labels = np.arange(count) % 3
  return random.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8), labels


def test_own_objects_and_images_run_from_python_and_resume(tmp_path):
  config = tiny_search(**{'search.batch_size': 16, 'data.fraction': 1.0})
  seen = []

  def stop_after_one(line, state):
    seen.append((line['epoch'], int(state.step)))
    return True

  whole = stretchnas_jax.run_search(config, tmp_path / 'whole', parts=PYTHON, data=images())
  stopped = stretchnas_jax.run_search(
    config, tmp_path / 'run', parts=PYTHON, data=images(), on_epoch=stop_after_one
  )
  assert stopped is None and [epoch for epoch, _ in seen] == [1]
  assert not (tmp_path / 'run' / 'result.json').exists()
  resumed = stretchnas_jax.run_search(config, tmp_path / 'run', parts=PYTHON, data=images())
  assert resumed['genotype'] == whole['genotype']
  assert without_clock(tmp_path / 'run' / 'metrics.jsonl') == without_clock(
    tmp_path / 'whole' / 'metrics.jsonl'
  )
  with pytest.raises(ValueError, match=r'own \(space, operations, .*load_trained\(workdir, parts'):
    stretchnas_jax.load_trained(tmp_path / 'run')
  info = stretchnas_jax.load_trained(tmp_path / 'run', parts=PYTHON)[2]
  assert info['class_names'] == ('0', '1', '2')


def test_other_own_parts_do_not_resume_a_run(tmp_path):
  own = {'space': PYTHON['space'], 'operations': PYTHON['operations']}
  stop = lambda line, state: True
  stretchnas_jax.run_search(tiny_search(), tmp_path / 'run', parts=own, on_epoch=stop)
  with pytest.raises(ValueError, match='parts.alpha_tx=absent, now'):
    stretchnas_jax.run_search(tiny_search(), tmp_path / 'run', parts=PYTHON)


def test_parts_of_unknown_names_are_refused(tmp_path):
  with pytest.raises(ValueError, match="parts has 'spaces'; did you mean space"):
    entry_points.prepare_search(tiny_search(), tmp_path / 'run', parts=Parts.of({'spaces': None}))
  assert not (tmp_path / 'run').exists()


def test_a_search_space_without_its_operation_is_refused_before_the_folder_is_made(tmp_path):
  with pytest.raises(ValueError, match="operations has no module for 'double'"):
    stretchnas_jax.run_search(tiny_search(), tmp_path / 'run', parts={'space': PYTHON['space']})
  assert not (tmp_path / 'run').exists()


def test_a_built_in_name_of_an_own_operation_is_refused_before_any_work(tmp_path):
  own = {'operations': {'skip_connect': Double}}
  with pytest.raises(ValueError, match="operations has 'skip_connect', the name of a built-in"):
    stretchnas_jax.run_search(tiny_search(), tmp_path / 'run', parts=own)
  with pytest.raises(ValueError, match="operations has 'skip_connect', the name of a built-in"):
    stretchnas_jax.run_train(tiny_training(), tmp_path / 'run', TINY_CELL, parts=own)
  assert not (tmp_path / 'run').exists()


def test_a_network_that_was_trained_with_a_built_in_name_loads(tmp_path, monkeypatch):
  with monkeypatch.context() as before:
    before.setattr(own_operations, 'check_names', lambda operations: None)
    own = {'operations': {'skip_connect': Double}}
    config = tiny_training(**{'train.epochs': 1})
    stretchnas_jax.run_train(config, tmp_path / 'run', TINY_CELL, parts=own)
  info = stretchnas_jax.load_trained(tmp_path / 'run', parts=own)[2]
  assert info['genotype'] == TINY_CELL


def test_a_cell_with_an_own_operation_of_a_phase_alone_trains_and_loads(tmp_path):
  last = {
    'space': space.SearchSpace(graph.CellGraph(1), ('none', 'double')),
    'operations': {'double': Double},
  }
  first = {'space': space.SearchSpace(graph.CellGraph(1), ('none', 'skip_connect'))}
  new = ('weights', 'alpha', 'beta')
  phases = {'epochs': 1, 'parts': first}, {'epochs': 1, 'parts': last, 'new': new}
  own = {'phases': phases}
  stretchnas_jax.run_search(tiny_search(), tmp_path / 'run', parts=own)
  kept = json.loads((tmp_path / 'run' / 'parts.json').read_text('utf-8'))['parts']
  assert kept['operations'] == ['double']
  assert 'double' in {op for op, _, _ in find_cell.genotype_from(tmp_path / 'run').reduce}
  stretchnas_jax.load_trained(tmp_path / 'run', parts=own)
  config = tiny_training(**{'train.epochs': 1})
  stretchnas_jax.run_train(config, tmp_path / 'trained', tmp_path / 'run', parts=own)
  stretchnas_jax.load_trained(tmp_path / 'trained', parts=own)


def test_a_program_gives_the_own_operations_of_its_phases(tmp_path):
  (tmp_path / 'run').mkdir()
  text = 'def get_parts(config):\n  own = {"operations": {"a": print}}\n'
  text += '  return {"phases": ({"epochs": 1}, {"epochs": 1, "parts": own})}\n'
  source = parts.Source(text, {})
  made = parts._made(source, tmp_path / 'parts.py')
  made.keep(workdir.Workdir(tmp_path / 'run'), 1)
  assert parts.operation_names(tmp_path / 'run') == ('a',)
  assert parts.of_run(tmp_path / 'run').operations == {'a': print}


def test_a_compiled_file_in_the_folder_never_stands_in_for_the_trusted_text(finished, tmp_path):
  """The text is trusted; beside it lies the compiled form of another program."""
  copied = tmp_path / 'run'
  shutil.copytree(finished, copied)
  other = tmp_path / 'other.py'
  other.write_text("raise RuntimeError('a stranger ran')")
  cached = pathlib.Path(importlib.util.cache_from_source(str(copied / 'parts.py')))
  py_compile.compile(
    str(other), str(cached), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
  )
  assert parts.of_run(copied).operations.keys() == {'gate'}


@pytest.mark.long
def test_a_run_whose_only_own_part_is_its_images_loads_and_its_cell_trains(tmp_path):
  config = tiny_search(**{'search.batch_size': 16, 'data.fraction': 1.0, 'search.epochs': 1})
  stretchnas_jax.run_search(config, tmp_path / 'run', data=images())
  info = stretchnas_jax.load_trained(tmp_path / 'run')[2]
  assert info['class_names'] == ('0', '1', '2')
  with pytest.raises(ValueError, match='parts.data="given", now absent'):
    stretchnas_jax.run_search(config, tmp_path / 'run')
  train = tiny_training(**{'train.epochs': 1, 'train.batch_size': 16, 'data.fraction': 1.0})
  result = stretchnas_jax.run_train(train, tmp_path / 'trained', tmp_path / 'run', data=images())
  assert result['epochs'] == 1


def test_own_optimizers_get_the_number_of_steps_again_when_a_run_is_loaded(tmp_path):
  seen = []

  def weights_tx(num_steps):
    seen.append(num_steps)
    return optax.sgd(optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, num_steps))

  own = PYTHON | {'weights_tx': weights_tx}
  stretchnas_jax.run_search(tiny_search(**{'search.epochs': 1}), tmp_path / 'run', parts=own)
  stretchnas_jax.load_trained(tmp_path / 'run', parts=own)
  assert len(set(seen)) == 1 and seen[0] > 2


def test_penalties_are_told_apart_by_name():
  def one(arch, op_weights, edge_scores, knobs):
    return 0.0

  def other(arch, op_weights, edge_scores, knobs):
    return 1.0

  first, second = Parts(penalties=(one,)).names(), Parts(penalties=(other,)).names()
  assert first != second and first['penalties'][0].endswith('one')
