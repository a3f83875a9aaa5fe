"""Chips that are not here: their table, the least time of a step, and the sentences."""

import json
import types
from unittest import mock

import jax
import pytest
from test_benchmark import run

from stretchnas_jax.machine import compiler_process, faults, step_bounds, targets
from stretchnas_jax.machine.step_bounds import Memory, Work
from stretchnas_jax.runs import target_benchmark

MIB = 2**20


@pytest.mark.parametrize('name', targets.CHIPS)
def test_every_chip_is_a_target_and_has_sensible_figures(name):
  chip = targets.CHIPS[name]
  target = targets.parse(name)
  assert (target.chip, target.count) == (chip, 1)
  assert 10e9 < step_bounds.usable(chip) < chip.memory < 200e9
  assert 0.5e12 < chip.bandwidth < 10e12
  assert chip.rate('bfloat16', 'default') >= chip.rate('float32', 'high')
  assert chip.rate('float32', 'high') > chip.rate('float32', 'highest') > 10e12
  if chip.platform == 'gpu':
    text = targets.target_text(chip)
    assert f'core_count: {chip.compiler["cores"]}' in text and text.count('{') == text.count('}')


def test_several_chips_have_a_number_or_an_arrangement():
  found = targets.parse('h100:4')
  assert (found.count, found.topology) == (4, '1x1x4')
  found = targets.parse('V5E:2x4')
  assert (found.count, found.topology) == (8, 'v5e:2x4')
  # The compiler takes no topology of one chip; it is the first of the smallest.
  found = targets.parse('v5p')
  assert (found.count, found.topology) == (1, 'v5p:2x2x1')


@pytest.mark.parametrize(
  'name, words',
  [
    ('h1000', 'the known chips are a100, h100'),
    ('', 'the known chips are'),
    ('h100:2x2', 'give h100 for one chip, or for several h100:4'),
    ('h100:', 'give h100 for one chip'),
    ('v5e:4', 'give v5e for one chip, or for several v5e:2x2'),
    ('v5p:4x4x4', 'is 64 chips; a host has at most 4'),
  ],
)
def test_an_unknown_target_is_one_sentence(name, words):
  with pytest.raises(ValueError, match=words):
    targets.parse(name)


def test_a_missing_compiler_says_what_to_install(monkeypatch):
  monkeypatch.setattr(targets.importlib.util, 'find_spec', lambda module: None)
  for name in 'h100', 'v5e':
    with pytest.raises(ValueError, match=r'not installed: pip install "stretchnas_jax\[targets\]"'):
      targets.check_installed(targets.parse(name))


WORK = Work(8400, 1000, 55e9, 3.6e12)


def test_the_least_time_of_a_step_is_that_of_its_slowest_part():
  found = step_bounds.bound(targets.CHIPS['h100'], WORK, rate=495e12)
  # The measurement from which the time of a kernel comes.
  assert found.binds == 'launches' and found.at_least == pytest.approx(0.074)
  assert found.seconds['bandwidth'] == pytest.approx(55 / 3352.32)
  found = step_bounds.bound(targets.CHIPS['v5e'], WORK, rate=197e12)
  assert found.binds == 'bandwidth' and found.seconds['launches'] == 0
  found = step_bounds.bound(targets.CHIPS['h100'], WORK, rate=1e12)
  assert found.binds == 'arithmetic' and found.at_least == pytest.approx(3.6)


def test_memory_counts_reused_results_once_and_tells_the_largest_batch():
  chip = targets.CHIPS['v5e']
  memory = Memory(200 * MIB, 50 * MIB, 40 * MIB, 1000 * MIB, 90 * MIB)
  assert memory.total == 1300 * MIB
  assert step_bounds.fits(chip, memory)
  room = step_bounds.usable(chip) / MIB - 300
  assert step_bounds.largest_batch(chip, memory, 64, 1) == int(room * 64 / 1000)
  assert step_bounds.largest_batch(chip, memory, 64, 4) % 4 == 0
  large = memory._replace(temporary=20_000 * MIB)
  assert not step_bounds.fits(chip, large)
  assert step_bounds.largest_batch(chip, large, 64, 1) < 64
  full = memory._replace(arguments=20_000 * MIB)
  assert step_bounds.largest_batch(chip, full, 64, 1) == 0
  found = step_bounds.in_mib(chip, memory)
  assert found['total'] == 1300 and found['chip'] == 16 * 1024 > found['usable']


def test_a_program_without_room_is_an_answer_and_no_error():
  text = 'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm.'
  found = target_benchmark.no_room(text)
  assert found is not None and found.total == int(20.5 * 2**30)
  assert not step_bounds.fits(targets.CHIPS['v5e'], found)
  assert target_benchmark.no_room('INTERNAL: Used 3G of 2G') is None
  assert target_benchmark.no_room('RESOURCE_EXHAUSTED: no file handles') is None


def test_a_program_that_xla_cannot_compile_is_one_sentence(monkeypatch):
  task = mock.Mock(spec=target_benchmark.Task)
  lowered = task.compile.return_value.step.lower.return_value
  lowered.compile.side_effect = jax.errors.JaxRuntimeError('INTERNAL: no tile sizes\n\tSymbolic')
  monkeypatch.setattr(target_benchmark, '_shapes', lambda task, plan: ())
  with pytest.raises(faults.Fault) as caught:
    target_benchmark.compile_step(task, mock.Mock(spec=target_benchmark.Plan))
  assert str(caught.value) == (
    'XLA could not compile this: INTERNAL: no tile sizes; for a GPU try '
    'XLA_FLAGS=--xla_gpu_enable_triton_gemm=false, for any chip another version of JAX'
  )


def plan_of(batch_size=64, spans=()):
  devices = types.SimpleNamespace(count=1)
  settings = types.SimpleNamespace(
    devices=devices, batch_size=batch_size, all_spans=spans, num_steps=30
  )
  model = types.SimpleNamespace(dtype='float32', precision='default')
  return types.SimpleNamespace(
    settings=settings,
    config=types.SimpleNamespace(model=model),
    feeds=types.SimpleNamespace(sizes={'train': 5000}),
    phases=spans,
  )


def figures(compiled):
  return target_benchmark.figures(compiled, plan_of(), targets.parse('h100'))


def test_the_memory_of_phases_is_that_of_the_fullest_one(unchecked, monkeypatch):
  spans = [types.SimpleNamespace(epochs=3, steps_per_epoch=5)] * 2
  plans = [plan_of(64, spans), plan_of(32, spans)]
  sizes = dict(zip(map(id, plans), (3000, 90_000)))
  compiled = lambda task, plan: target_benchmark.Compiled(
    9.6, 60.0, 60.0, WORK, Memory(0, 0, 0, sizes[id(plan)] * MIB, 0)
  )
  monkeypatch.setattr(target_benchmark, 'compile_step', compiled)
  monkeypatch.setattr(target_benchmark.search_borders, 'assumed_plans', lambda plan: plans[1:])
  found = target_benchmark.report(mock.Mock(), plans[0], targets.parse('h100'))
  assert found['memory_mb']['total'] == 90_000 and not found['fits']
  assert found['largest_batch_that_fits'] == 32 * 60755 // 90_000 and found['batch_size'] == 64
  assert found['hours_at_least'] == pytest.approx(30 * found['step_seconds_at_least'] / 3600)


def test_a_person_reads_the_same_as_a_program(unchecked):
  memory = Memory(150 * MIB, 0, 0, 3000 * MIB, 0)
  found = figures(target_benchmark.Compiled(9.6, 129.0, 250.0, WORK, memory))
  found |= {'hours_at_least': 0.267, 'steps': 13_000}
  assert found['largest_batch_that_fits'] == 64 * (60755 - 150) // 3000
  text = '\n'.join(target_benchmark.words(found, 'search'))
  assert 'h100: 1 x NVIDIA H100' in text and 'it fits; largest batch about 1,292' in text
  assert '8,400 kernels, 1,000 of them copies; 55 GB moved; 3.6 TFLOP' in text
  assert 'at least 0.074 s a step; the limit is launches (' in text
  assert 'at least 0.267 hours for the 13,000 steps of this search' in text
  small = Memory(0, 0, 0, 1, 0)
  found = figures(target_benchmark.Compiled(1.0, 1.0, 1.0, WORK, small))
  assert found['largest_batch_that_fits'] == 5000  # no batch has more images than the data set


def test_words_of_a_program_without_room(unchecked):
  memory = Memory(0, 0, 0, 90_000 * MIB, 0)
  found = figures(target_benchmark.Compiled(9.6, 60.0, 60.0, None, memory))
  assert not found['fits'] and found['kernels'] is found['step_seconds_at_least'] is None
  text = '\n'.join(target_benchmark.words(found | {'hours_at_least': None}, 'train'))
  assert '90,000 of 60,756 MiB a chip: it does not fit; largest batch about 43' in text
  assert 'at least' not in text


@pytest.mark.parametrize(
  'code, lines, words',
  [
    (0, [], None),
    (2, ['error: config.seed is wrong'], None),
    (-9, [], 'was killed, most often because the memory of this machine was full'),
    (-11, [], 'ended with SIGSEGV and said nothing'),
    (-6, ['F0000 a.cc:627] Check failed: a == b (256 vs. 32)'], r'Check failed: a == b \(256'),
    (1, ['Unknown flag in XLA_FLAGS: --xla_no'], 'could not compile this for h100: Unknown flag'),
  ],
)
def test_the_end_of_the_compiler_is_one_sentence(code, lines, words):
  found = compiler_process.death(code, lines, targets.parse('h100'))
  if words is None:
    assert found is None
  else:
    with pytest.raises(ValueError, match=words):
      raise ValueError(found)


def test_the_other_process_sees_no_devices_and_keeps_the_users_settings(monkeypatch):
  monkeypatch.setenv(compiler_process.LEVEL, 'O2')
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  target = targets.parse('v5e')
  found = compiler_process.environment(target)
  assert found['JAX_PLATFORMS'] == 'cpu' and found[compiler_process.LEVEL] == 'O2'
  assert not compiler_process.is_here(target)
  monkeypatch.delenv(compiler_process.LEVEL)
  assert compiler_process.environment(target)[compiler_process.LEVEL] == 'O1'
  assert compiler_process.LEVEL not in compiler_process.environment(targets.parse('h100'))
  monkeypatch.setenv('STRETCHNAS_COMPILES_FOR', 'v5e')
  assert compiler_process.is_here(target) and not compiler_process.is_here(targets.parse('h100'))


def test_the_command_shows_the_line_of_the_other_process(monkeypatch, capsys):
  line = json.dumps({'target': 'h100'})
  asked = []
  monkeypatch.setattr(targets, 'check_installed', lambda target: None)
  monkeypatch.setattr(compiler_process, 'run', lambda *words: asked.append(words) or line)
  run('digits.py', '--target=h100')
  out, err = capsys.readouterr()
  assert out == f'{line}\n' and 'compiling for h100' in err
  assert asked[0][0] == 'stretchnas_jax.benchmark' and '--target=h100' in asked[0][1]


@pytest.mark.parametrize(
  'words, sentence',
  [
    (['--target=h9'], 'the known chips are'),
    (['--target=h100', '--profile=x'], '--profile takes a trace on the device'),
  ],
)
def test_a_fault_is_said_before_anything_is_compiled(words, sentence, capsys):
  with pytest.raises(SystemExit) as end:
    run('digits.py', *words)
  assert end.value.code == 2 and sentence in capsys.readouterr().err
