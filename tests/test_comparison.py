"""The comparison with PyTorch and the growth of cost: equal work, honest tables."""

import json
import math
import pathlib
import subprocess
import sys
import time
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
from helpers import FACTS, check_same_work, count_multiply_adds, figures
from reference import supernet as reference

from experiments.benchmarks import compare, processes, scaling, seeds, tables
from stretchnas_jax import Supernet, darts_space, sizes, zoo
from stretchnas_jax.networks import supernet
from stretchnas_jax.views import charts

ROUNDS = [
  {'ours': figures(1.0), 'plain': figures(2.0), 'tuned': figures(0.5)},
  {'ours': figures(2.0, 300.0), 'plain': figures(5.0), 'tuned': figures(3.0)},
  {'ours': figures(4.0), 'plain': figures(12.0), 'tuned': figures(4.0)},
]


def test_ratios_are_taken_within_a_round():
  row = tables.summary('all', ROUNDS)
  assert row['ratio']['plain'] == {'median': 2.5, 'min': 2.0, 'max': 3.0}
  assert row['ratio']['tuned'] == {'median': 1.0, 'min': 0.5, 'max': 1.5}
  assert row['step_seconds']['ours'] == {'median': 2.0, 'min': 1.0, 'max': 4.0}
  assert row['peak_memory_mb'] == {'ours': 300.0, 'plain': 100.0, 'tuned': 100.0}


def test_the_table_as_text():
  starts = tables.start_summary('start', [{'first': 60.0, 'second': 14.0}])
  text = tables.markdown({**FACTS, 'rows': {'a': tables.summary('all', ROUNDS), 'b': starts}})
  lines = text.splitlines()
  assert lines[0] == 'Abacus, 2 cores; jax 1.2; 2026-01-02, commit abc.'
  assert 'Each peer with `--dtype=bfloat16`.' in lines and 'Each ours' not in text
  row = next(line for line in lines if line.startswith('| all'))
  assert row == (
    '| all | 2 (1 - 4) | 5 (2 - 12) | 3 (0.5 - 4) | **2.50** (2.00 - 3.00) | '
    '**1.00** (0.50 - 1.50) | 4 + 20 | 300, 100, 100 |'
  )
  widths = {line.count('|') for line in lines if line.startswith('|')}
  assert len(widths) == 1
  assert lines[-1] == 'start: first 60 (60 - 60) s, second 14 (14 - 14) s.'


def test_the_sides_take_turns_in_separate_processes(monkeypatch):
  calls = []

  def fake(module, words, environment=None):
    tuned = '--layout=nhwc' in words
    side = 'ours' if module == 'stretchnas_jax.benchmark' else 'tuned' if tuned else 'plain'
    calls.append((side, words, environment))
    return figures(1.0) | {'first_step_at': 9.0, 'started_at': 2.0}

  monkeypatch.setattr(processes, 'run', fake)
  row = compare.measure(compare.ROWS['search_7ops'], 4, 2, ['--x=1'], ['--y=2'])
  sides = [side for side, *_ in calls]
  assert sides[:6] == ['ours', 'plain', 'tuned', 'plain', 'tuned', 'ours']
  assert len(calls) == 12 and len(row['rounds']) == 4
  for side, words, environment in calls:
    assert '--steps=2' in words
    assert ('--x=1' in words, '--y=2' in words) == (side == 'ours', side != 'ours')
    assert ('--lean' in words) == (side == 'tuned')
    assert (environment is not None) == (side == 'ours')
  caches = {environment['XDG_CACHE_HOME'] for side, _, environment in calls if side == 'ours'}
  assert len(caches) == 4
  calls.clear()
  found = compare.measure_starts(2, [])
  caches = [environment['XDG_CACHE_HOME'] for *_, environment in calls]
  assert caches[0] == caches[1] != caches[2] == caches[3]
  assert found['start_seconds']['first']['median'] == 7.0


def test_a_missing_package_is_named_before_any_measurement(monkeypatch, capsys):
  monkeypatch.setattr(compare, 'measure', lambda *_: pytest.fail())
  monkeypatch.setitem(sys.modules, 'torch', None)  # as if it were not there
  with pytest.raises(SystemExit) as stop:
    compare.main([])
  assert stop.value.code == 2
  assert capsys.readouterr().err == 'torch is not installed: pip install torch\n'


@pytest.mark.parametrize('words', [['--rows=digits,all'], ['--rounds=0'], ['--steps=0']])
def test_wrong_words_are_refused(words):
  with pytest.raises(SystemExit) as stop:
    compare.parse(words)
  assert stop.value.code == 2


@pytest.mark.parametrize('name', compare.ROWS)
def test_both_sides_do_the_same_work(name, monkeypatch):
  monkeypatch.chdir(processes.ROOT)
  check_same_work(compare.ROWS[name])


def test_a_process_that_fails_gives_its_reason():
  with pytest.raises(RuntimeError, match='(?s)no_such_module .*No module named'):
    processes.run('no_such_module', ['x'])


def test_a_limit_of_time_ends_the_processes_of_a_process_too(tmp_path, monkeypatch):
  text = """import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(60)
"""
  (tmp_path / 'starts_another.py').write_text(text)
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  with pytest.raises(subprocess.TimeoutExpired):
    processes.run('starts_another', [str(tmp_path / 'number')], timeout=3)
  stat = pathlib.Path('/proc', (tmp_path / 'number').read_text(), 'stat')
  # Its new parent may not have waited for it yet: then it is a zombie, Z.
  for _ in range(50):
    if not stat.exists() or stat.read_text().split(')')[1].split()[0] == 'Z':
      return
    time.sleep(0.1)
  raise AssertionError('the process of the process still runs')


def test_facts_are_plain():
  facts = processes.facts()
  assert json.loads(json.dumps(facts)) == facts
  assert facts['versions']['jax'] == jax.__version__ and facts['machine']['cores'] >= 1


# ---- growth --------------------------------------------------------------------------------------


def test_the_arithmetic_equals_the_definition():
  """Counted on the reference, one operation of one edge after another."""
  space = darts_space(2)
  net = Supernet(space, 4, 3, 10)
  images = jax.ShapeDtypeStruct((1, 16, 16, 1), np.float32)
  params = jax.eval_shape(net.init, jax.random.key(0), images)['params']
  edges, operations = len(space.graph.edges), len(space.primitives)
  weights = dict.fromkeys(supernet.CELL_TYPES, np.ones((edges, operations), np.float32))
  scores = dict.fromkeys(supernet.CELL_TYPES, np.ones(edges, np.float32))
  program = jax.make_jaxpr(lambda p, x: reference(net, p, x, weights, scores))(params, images)
  assert scaling.macs(2, 3, 4, 5, 16) == 5 * count_multiply_adds(program.jaxpr)


def test_each_point_changes_one_thing(monkeypatch, tmp_path):
  pytest.importorskip('matplotlib')
  seen = []

  def fake(words, cache=None, environment=None):
    seen.append((words, environment['JAX_NUM_CPU_DEVICES']))
    return figures(0.1 * len(seen)) | {'devices': int(environment['JAX_NUM_CPU_DEVICES'])}

  monkeypatch.setattr(processes, 'benchmark', fake)
  words = ['--axes=batch,nodes,devices', '--batch=16,32', '--nodes=3,2', f'--out={tmp_path}']
  scaling.main(words)
  assert len(seen) == 4  # the smallest point is that of all three axes
  assert '--config.search.batch_size=32' in seen[1][0] and seen[3][1] == '2'
  found = json.loads((tmp_path / 'scaling.json').read_text())
  assert [point['batch'] for point in found['axes']['batch']] == [16, 32]
  small, large = found['axes']['batch']
  assert large['macs'] == 2 * small['macs']
  ElementTree.fromstring((tmp_path / 'scaling.svg').read_text())


def test_panels_of_growth_show_all_points():
  pytest.importorskip('matplotlib')
  lines = {'arithmetic': [1.0, 2.0], 'step': [1.0, 3.0]}
  figure = charts.growth('Growth, n = 3', {'L & C': ([8, 16], lines), 'S': ([3, 4], lines)})
  assert len(figure.axes) == 2
  for axes, values in zip(figure.axes, ([8, 16], [3, 4])):
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]
    assert drawn == [(values, [1, 2]), (values, [1, 3])]
    assert axes.get_xlim()[0] == axes.get_ylim()[0] == 0
  root = ElementTree.fromstring(charts.svg_of(figure))
  texts = [''.join(e.itertext()) for e in root.iter() if e.tag.endswith('text')]
  assert {'L & C', 'S', 'arithmetic', 'step', '8', '16', '3', '4'} <= set(texts)


# ---- the yardstick -------------------------------------------------------------------------------


def test_the_yardstick_imports_no_jax():
  peers = 'darts', 'nas_bench', 'networks', 'operations', 'train', 'replay'
  for name in (*(f'torch_{peer}' for peer in peers), 'processes', 'tables', 'compare', 'forms'):
    text = (processes.ROOT / 'experiments' / 'benchmarks' / f'{name}.py').read_text()
    assert 'import jax' not in text and 'import stretchnas_jax' not in text
    assert 'from stretchnas_jax' not in text


def yardstick():
  pytest.importorskip('torch')
  from experiments.benchmarks import torch_darts

  return torch_darts


@pytest.mark.parametrize('words', [[], ['--lean', '--layout=nhwc', '--rule=mixed']])
def test_the_yardstick_searches(words, capsys):
  size = ['--channels=4', '--layers=3', '--nodes=2', '--batch=2', '--image-size=16', '--steps=1']
  size += ['--warmup=1', '--threads=1']  # two threads would wait for each other on a busy machine
  yardstick().main(['search', *size, *words])
  found = json.loads(capsys.readouterr().out)
  fields = {'channels': 4, 'num_layers': 3, 'num_classes': 10}
  assert found['params'] == sizes.count_supernet_params(darts_space(2), **fields)
  assert math.isfinite(found['loss']) and found['median_step_seconds'] > 0
  assert found['peak_memory_mb'] > 0 and len(found['step_seconds']) == 1


def test_the_yardstick_trains(capsys):
  size = ['--channels=4', '--layers=3', '--batch=2', '--steps=1', '--genotype=MiLeNAS_2.09M']
  size += ['--warmup=1', '--threads=1']
  yardstick().main(['train', *size, '--auxiliary', '--drop-path=0.2'])
  found = json.loads(capsys.readouterr().out)
  cell, fields = zoo.GENOTYPES['MiLeNAS_2.09M'], {'channels': 4, 'num_layers': 3}
  assert found['params'] == sizes.count_params(cell, **fields, num_classes=10, auxiliary=True)
  assert math.isfinite(found['loss'])


def test_both_sides_count_the_same_arithmetic():
  darts, shape = yardstick(), {'channels': 4, 'num_layers': 3, 'num_classes': 10}
  darts.torch.set_num_threads(1)  # two would wait for each other on a busy machine
  size = ['--channels=4', '--layers=3', '--batch=2', '--image-size=16', '--colours=1']

  def counted(cell, words):
    _, step = darts.make_step(darts.parse([*words, *size]))
    forward = sizes.count_macs(cell, **shape, image_shape=(16, 16, 1))
    return darts.count_flops(step) / 2 / 2, forward

  # Forward, to the inputs, which the stem has no need of, and to the weights.
  found, forward = counted(zoo.GENOTYPES['DARTS_V2'], ['train', '--genotype=DARTS_V2'])
  assert found == 3 * forward - 16 * 16 * 9 * 12
  # Once more forward and to the inputs, for alpha: down to the first operations.
  words = ['search', '--ops=7', '--nodes=2', '--lean']
  found, forward = counted(scaling.every_edge(darts_space(2)), words)
  assert 4 * forward < found < 5 * forward


def test_the_yardstick_has_the_weights_of_pc_darts():
  net, _ = yardstick().networks.supernet(16, 8, 4, partial=4)
  assert sum(p.numel() for p in net.parameters()) == 299_578


def test_the_yardstick_has_the_weights_of_nas_bench_201():
  net, (alpha,) = yardstick().torch_nas_bench.supernet(16, 5)
  assert sum(p.numel() for p in net.parameters()) == 1_692_826 and alpha.shape == (6, 5)


@pytest.mark.parametrize('words', [['--partial=1'], ['--partial=2'], ['--space=nas_bench_201']])
def test_lean_and_plain_are_the_same_function(words):
  """The same step from the same start: with `none` multiplied out, and without it."""
  darts = yardstick()
  losses = []
  for lean in ([], ['--lean']):
    size = ['--channels=4', '--layers=2', '--nodes=2', '--batch=4', '--image-size=8']
    args = darts.parse(['search', *size, *lean, *words])
    darts.torch.manual_seed(0)
    _, step = darts.make_step(args)
    losses.append([step().item() for _ in range(3)])
  np.testing.assert_allclose(*losses, rtol=1e-5)


def test_the_table_of_several_seeds_in_one_step():
  found = {
    'alone': [0.2, 0.3], 'together': [0.4, 0.2], 'kernels': 900, 'compile_seconds': 8.0,
    'same_bits': False,
  }  # fmt: skip
  one = {'kernels': 1000, 'compile_seconds': 5.0}
  rows = [{'size': 'tiny', 'form': 'planes', 'one': one, 'several': {2: found}}]
  line = seeds.markdown({**FACTS, 'rows': rows}).splitlines()[-1]
  assert '| planes | 2 | 250 | 300 | 1.00 (0.50 to 1.50) | 900 (1,000) | 8 (5) | no |' in line
