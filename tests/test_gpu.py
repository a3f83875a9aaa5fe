"""The benchmark on a GPU: rows, arithmetic and tables; a second call goes on."""

import json
import threading
import time

import pytest
from helpers import FACTS, check_same_work, figures

from experiments.benchmarks import gpu, gpu_runs, gpu_tables, processes
from experiments.benchmarks import gpu_stages as stages


def parse(tmp_path, *words):
  (tmp_path / 'data' / 'train').mkdir(parents=True, exist_ok=True)
  return gpu.parse([f'--data-path={tmp_path / "data"}', f'--out={tmp_path / "out"}', *words])


@pytest.mark.parametrize('name', stages.ROWS)
def test_both_sides_are_told_the_same_work(name, monkeypatch):
  monkeypatch.chdir(processes.ROOT)
  check_same_work(stages.ROWS[name])


@pytest.mark.parametrize(
  'device, arithmetic, peak',
  [
    ('NVIDIA H200', 'bfloat16', 989e12),
    ('NVIDIA H100 80GB HBM3', 'tf32', 495e12),
    ('NVIDIA H200', 'float32', 67e12),
    ('NVIDIA H100 PCIe', 'float32', None),
    ('NVIDIA H200 NVL', 'float32', None),
    ('cpu', 'bfloat16', None),
    (None, 'bfloat16', None),
  ],
)
def test_the_peak_is_that_of_the_chip(device, arithmetic, peak):
  assert gpu_tables.peak_of(device, arithmetic) == peak


def test_utilisation_is_arithmetic_by_time_by_peak():
  assert gpu_tables.utilisation(989e11, 0.5, 989e12) == pytest.approx(0.2)
  assert gpu_tables.utilisation(None, 0.5, 989e12) is None
  assert gpu_tables.utilisation(1e12, 0.5, None) is None


@pytest.mark.parametrize(
  'text, found',
  [
    ('1 failed, 20 passed, 2 deselected in 9.1s', (20, 1, 0)),
    ('3 passed, 1 warning, 1 error in 2s', (3, 0, 1)),
    ('', (0, 0, 0)),
  ],
)
def test_the_last_line_of_pytest_is_read(text, found):
  counts = gpu_tables.test_counts(text)
  assert (counts['passed'], counts['failed'], counts['errors']) == found


# ---- going on ------------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(tmp_path):
  args = parse(tmp_path)
  args.out.mkdir()
  calls, fate = [], {'a': {'passed': 1, 'failed': 0, 'errors': 0}, 'b': None}

  def work(name):
    calls.append(name)
    if fate[name] is None:
      raise RuntimeError('it went\naway')
    return fate[name]

  units = lambda: [(name, lambda name=name: work(name)) for name in fate]
  assert gpu.go_on('tests', units(), args, gpu.Clock())
  assert calls == ['a', 'b']
  saved = json.loads((args.out / 'tests.json').read_text())
  assert saved['entries']['b']['error'].endswith('away') and len(saved['calls']) == 1
  assert gpu.go_on('tests', units(), args, gpu.Clock())
  assert calls == ['a', 'b']
  args.again = True
  fate['b'] = {'epochs': 3, 'seconds': 1.0, 'done': False}
  gpu.go_on('tests', units(), args, gpu.Clock())
  args.again = False
  gpu.go_on('tests', units(), args, gpu.Clock())  # it was broken off
  assert calls == ['a', 'b', 'b', 'b']
  assert json.loads((args.out / 'tests.json').read_text())['entries']['b']['call'] == 2


def test_nothing_begins_when_the_time_is_up(tmp_path):
  args = parse(tmp_path)
  units = [('a', pytest.fail)]
  assert not gpu.go_on('tests', units, args, gpu.Clock(0))
  args.only = ['b']
  assert gpu.go_on('tests', units, args, gpu.Clock(0))


def test_a_folder_is_of_one_kind(tmp_path):
  args = parse(tmp_path, '--rehearse')
  args.out.mkdir()
  gpu.check_kind(args)
  (args.out / 'steps.json').write_text('{}')
  gpu.check_kind(args)
  args.rehearse = False
  with pytest.raises(SystemExit, match='of a rehearsal'):
    gpu.check_kind(args)


@pytest.mark.parametrize('word', ['--stages=all', '--rounds=0', '--data-path=/nowhere'])
def test_wrong_words_are_refused(word, tmp_path):
  with pytest.raises(SystemExit) as stop:
    parse(tmp_path, word)
  assert stop.value.code == 2


# ---- processes -----------------------------------------------------------------------------------


def test_tests_of_which_none_ran_have_failed(tmp_path):
  entry = gpu.attempt(lambda: stages.run_tests('of_nothing', parse(tmp_path, '--rehearse')))
  assert entry['error'].startswith('RuntimeError: no test ran: ')
  assert 'test_of_nothing.py' in gpu_tables.one_line(entry)


def test_each_side_is_a_process_with_its_own_words(tmp_path, monkeypatch):
  args, seen = parse(tmp_path), []

  def fake(module, words, environment=None, timeout=None):
    seen.append((module, words, environment))
    return figures(1.0)

  monkeypatch.setattr(processes, 'run', fake)
  units = dict(stages.step_units(args))
  for name in ('search/ours_tf32/0', 'search/ours_tf32/1', 'train/ours_bf16/0'):
    units[name]()
  caches = [environment['XDG_CACHE_HOME'] for *_, environment in seen]
  assert caches[0] == caches[1] != caches[2]
  assert seen[0][2]['JAX_DEFAULT_MATMUL_PRECISION'] == 'tensorfloat32'
  assert '--config.model.dtype=bfloat16' in seen[2][1] and seen[2][2]['JAX_PLATFORMS'] == 'cuda'
  units['stretchable/tuned_bf16_compiled/1']()
  _, words, _ = seen[-1]
  assert {'--device=cuda', '--lean', '--layout=nhwc', '--dtype=bfloat16', '--compile'} < {*words}
  units['train/flops']()
  assert '--flops' in seen[-1][1] and '--lean' not in seen[-1][1]
  assert 'train/ours_bf16_unrolled/0' not in units and 'search/ours_bf16_unrolled/0' in units
  # Every side once before any a second time, and the rounds begin differently.
  order = [name.split('/')[1] for name in units if name.startswith('search/')][1:]
  assert order[0] != order[6] and set(order[:6]) == set(order[6:12])


def test_compilers_work_beside_each_other_for_the_rounds_to_come(tmp_path, monkeypatch):
  args, seen, together = parse(tmp_path, '--only=search/'), [], threading.Barrier(5, timeout=20)
  args.out.mkdir()

  def fake(module, words, environment=None, timeout=None):
    seen.append(environment)
    together.wait()
    if '--config.search.unroll=True' in words:
      raise RuntimeError('it went\naway')
    return figures(1.0)

  monkeypatch.setattr(processes, 'run', fake)
  monkeypatch.setattr(stages.os, 'cpu_count', lambda: 16)
  assert gpu.go_on('compile', stages.compile_units(args), args, gpu.Clock())
  caches = {environment['XDG_CACHE_HOME'] for environment in seen}
  assert len(caches) == 5 and str(args.out / 'cache' / 'search_ours_tf32') in caches
  assert {environment['XLA_PYTHON_CLIENT_PREALLOCATE'] for environment in seen} == {'false'}
  entry = gpu.Record(args.out / 'compile.json').content['entries']['compile']
  assert [name for name, side in entry['compiled'].items() if 'error' in side] == [
    'search/ours_bf16_unrolled'
  ]
  line = gpu_tables.one_line(entry)
  assert 'search/ours_tf32 4 + 20 s' in line and 'unrolled failed, away' in line


class Program:
  """Stands for `subprocess.Popen` of a run; `code` None is one that takes too long."""

  def __init__(self, monkeypatch, folder, code):
    self.folder, self.returncode, self.code, self.asked = folder, None, code, []
    monkeypatch.setattr(gpu_runs.subprocess, 'Popen', self.start)

  def start(self, command, **_):
    self.command = command
    (self.folder).mkdir(parents=True, exist_ok=True)
    (self.folder / 'metrics.jsonl').write_text('{"epoch": 1, "val_accuracy": 0.5}\n')
    if self.code == 0:
      (self.folder / 'result.json').write_text('{"val_accuracy": 0.75}')
      (self.folder / 'genotype.json').write_text('{}')
    return self

  def wait(self, timeout=None):
    if self.code is None and not self.asked:
      raise gpu_runs.subprocess.TimeoutExpired('x', timeout)
    self.returncode = 143 if self.code is None else self.code

  def terminate(self):
    self.asked.append('stop')

  def kill(self):
    self.asked.append('kill')


def test_a_search_that_is_stopped_goes_on(tmp_path, monkeypatch):
  args = parse(tmp_path, '--ours=--config.model.dtype=bfloat16')
  args.out.mkdir()
  run = lambda: dict(gpu_runs.search_units(args, gpu.Clock(0)))['darts_wo_sc']()
  folder = args.out / 'runs' / 'darts_wo_sc'
  Program(monkeypatch, folder, None)
  found = run()
  assert not found['done'] and 'error' not in found and found['epochs'] == 1
  assert 'stopped after 1 epochs' in gpu_tables.one_line(found)
  assert [name for name, _ in gpu_runs.retrain_units(args, None)] == ['train_DARTS_V2']
  program = Program(monkeypatch, folder, 0)
  found = run()
  assert found['done'] and len(found['parts']) == 2 and found['result']['val_accuracy'] == 0.75
  assert f'--workdir={folder}' in program.command
  assert program.command[-1] == '--config.model.dtype=bfloat16'
  assert (args.out / 'kept' / 'darts_wo_sc' / 'genotype.json').exists()
  assert len(list(gpu_runs.retrain_units(args, None))) == 2


def test_a_search_that_fails_says_why(tmp_path, monkeypatch):
  args = parse(tmp_path)
  args.out.mkdir()
  Program(monkeypatch, args.out / 'runs' / 'darts_wo_sc', 2)
  found = dict(gpu_runs.search_units(args, gpu.Clock()))['darts_wo_sc']()
  assert found['done'] and 'error' in found


def test_a_process_that_takes_too_long_is_ended():
  begin = time.monotonic()
  with pytest.raises(gpu_runs.subprocess.TimeoutExpired):
    processes.run('timeit', ['-n1', '-r1', 'import time; time.sleep(60)'], timeout=0.5)
  assert time.monotonic() - begin < 30


# ---- tables --------------------------------------------------------------------------------------


def test_the_tables_show_what_is_known():
  ours = figures(0.1) | {'images_per_second': 640.0, 'device': 'NVIDIA H200'}
  entries = {
    'search/flops': {'flops_per_step': 989e10},
    'search/ours_bf16/0': ours | {'compiled_from_cache': False},
    'search/ours_bf16/1': ours | {'compiled_from_cache': True, 'compile_seconds': 1.0},
    'search/plain/0': {
      'median_step_seconds': 0.2, 'images_per_second': 320.0, 'peak_memory_mb': 7.0,
      'gpu': 'NVIDIA H200',
    },
    'search/tuned_bf16_compiled/0': {'error': 'RuntimeError: no\nno | compiler\n'},
  }  # fmt: skip
  runs = {
    'darts_wo_sc': {
      'epochs': 50, 'done': True, 'seconds': 1800.0, 'last': {'images_per_second': 900.4},
      'result': {'val_accuracy': 0.9},
    },
    'train_DARTS_V2': {'epochs': 3, 'done': False, 'seconds': 36.0, 'last': {}, 'code': 143},
    'milenas_sc_l8': {'error': 'error: out of memory', 'done': True},
  }  # fmt: skip
  found = {stage: {'calls': [], 'entries': {}} for stage in gpu.STAGES}
  found['tests']['entries'] = {'topology': {'passed': 9, 'failed': 1, 'errors': 0}}
  found['steps'] = {'calls': [FACTS, FACTS], 'entries': entries}
  found['searches']['entries'] = runs
  text = gpu_tables.markdown(found, stages.ROWS, stages.SIDES)
  assert text.count('commit abc') == 1
  assert 'Tests on the device: topology: 9 passed, 1 failed.' in text
  title = stages.ROWS['search'].title
  assert (
    f'| {title} | ours, bfloat16 | 0.1 (0.1 - 0.1) | 640 | 10.0% | 4 + 20 | 100 |\n'
    f'| {title} | PyTorch, plain, TF32 | 0.2 (0.2 - 0.2) | 320 | 10.0% | - | 7 |\n'
  ) in text
  assert 'torch.compile | failed: no / compiler |' in text
  assert '| darts_wo_sc | 50 | 0.500 | 900 | val 90.00% |' in text
  assert '| train_DARTS_V2 | 3, not done | 0.010 | - | - |' in text
  assert '| milenas_sc_l8 | failed: error: out of memory |' in text
  for head in ('| what', '| run'):
    start = text[text.index(head) :].split('\n\n')[0]
    assert len({line.count('|') for line in start.splitlines()}) == 1
