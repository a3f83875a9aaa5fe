"""The command `benchmark`: its output, and that it times the steps of a run."""

import gzip
import json
import pathlib
import threading
import types

import jax
import numpy as np
import pytest

from stretchnas_jax import benchmark
from stretchnas_jax import config as config_lib
from stretchnas_jax.cli import app
from stretchnas_jax.data.batches import opening
from stretchnas_jax.machine import measure, parallel
from stretchnas_jax.runs import benchmarking, loop, parts, search_task, steps, timing
from stretchnas_jax.runs import task as task_lib

ROOT = pathlib.Path(__file__).parents[1]
TINY = {
  'data.image_size': 8, 'space.num_intermediate': 1, 'model.channels': 2, 'model.num_layers': 1,
  'model.form': 'merged', 'search.batch_size': 8, 'search.epochs': 2, 'search.steps_per_call': 4,
  'parallel.backend': 'single',
}  # fmt: skip
FIELDS = {
  'compile_seconds', 'step_seconds', 'median_step_seconds', 'images_per_second', 'peak_memory_mb',
  'supernet_params', 'device', 'hours_for_whole_search',
}  # fmt: skip


def run(config, *words, tiny=TINY):
  """Runs the program as from a command line."""
  fields = [f'--config.{field}={value}' for field, value in tiny.items()]
  argv = ['benchmark', f'--config={ROOT / "configs" / config}', *fields, *words]
  app.run(benchmark.prepare, workdir=False, options=benchmark.OPTIONS, argv=argv)


def printed(capsys):
  """The one JSON line on stdout, and the text on stderr."""
  out, err = capsys.readouterr()
  assert out.count('\n') == 1 and out.endswith('\n')
  return json.loads(out), err


def test_a_search_is_one_line_with_all_fields_and_a_trace(no_programs, capsys, tmp_path):
  run('digits.py', '--steps=3', f'--profile={tmp_path / "trace"}')
  found, err = printed(capsys)
  assert set(found) >= FIELDS
  assert 'supernet' in err and 'compiling the step' in err
  assert len(found['step_seconds']) == 3 and min(found['step_seconds']) > 0
  assert found['median_step_seconds'] == sorted(found['step_seconds'])[1]
  assert found['images_per_second'] == pytest.approx(8 / found['median_step_seconds'], rel=1e-2)
  assert found['compile_seconds'] > 0 and found['compiled_from_cache'] is False
  assert found['peak_memory_mb'] > 100
  memory = found['step_memory_mb']
  assert (memory is not None) == parallel.compiler_knows_memory()
  assert memory is None or 0 < memory < 50  # a compiler would need more
  steps = 2 * (479 // 8)
  least = steps * found['median_step_seconds'] + found['compile_seconds']
  assert found['evaluation_seconds'] > 0
  assert least < 3600 * found['hours_for_whole_search'] + 1e-3
  assert found['hours_for_whole_training'] is None
  names = [path.name for path in measure.traces(tmp_path / 'trace')]
  assert any(name.endswith('.xplane.pb') for name in names)  # TensorBoard's
  assert 'perfetto_trace.json.gz' in names
  path = next((tmp_path / 'trace').rglob('perfetto_trace.json.gz'))
  assert json.loads(gzip.decompress(path.read_bytes()))['traceEvents']


def test_a_run_uses_the_programs_that_a_benchmark_compiles():
  config = config_lib.search_config()
  config.data.name, config.data.image_size, config.data.flip = 'digits', 8, False
  config.update_from_flattened_dict(TINY)
  noise = benchmarking.prepare(config, None).plan.feeds
  feeds = search_task.plan_search(config).feeds
  assert not np.array_equal(noise.train.data.mean, feeds.train.data.mean)

  def lowered(feed, *args):
    return jax.jit(feed.examples).lower(feed.data, *args).as_text()

  rows, places = np.zeros(8, np.int32), np.arange(8)
  args = rows, jax.random.key(0), places
  assert lowered(noise.train, *args) == lowered(feeds.train, *args)
  assert lowered(noise.val, rows) == lowered(feeds.val, rows)


def test_cifar_needs_no_data(capsys):
  run('milenas_sc_cifar10.py:8', '--steps=1', '--noevaluation', '--config.data.path=/nowhere')
  found, _ = printed(capsys)
  assert found['evaluation_seconds'] is None and found['assumed'] == {}
  steps = 2 * (16667 // 8)
  seconds = found['compile_seconds'] + found['trace_seconds'] + steps * found['step_seconds'][0]
  assert found['hours_for_whole_search'] == pytest.approx(seconds / 3600, rel=1e-2)


def test_imagenet_is_read_from_files_of_noise(capsys):
  tiny = TINY | {'data.image_size': 16, 'data.fraction': 0.001, 'data.workers': 2}
  run('milenas_sc_imagenet.py', '--steps=1', tiny=tiny)
  found, err = printed(capsys)
  assert 'imagenet2012: 16x16x3, 1000 classes; train 427' in err and 'imagenet stem' in err
  assert found['assumed'] == {'file_pixels': '500x375'} and found['evaluation_seconds'] > 0
  assert not [t for t in threading.enumerate() if t.name.startswith('decode')]


def test_a_training_has_names_of_its_own(capsys):
  tiny = {f: v for f, v in TINY.items() if f.split('.')[0] in ('model', 'parallel', 'data')}
  del tiny['model.form']
  more = ['--config.model.auxiliary=False', '--config.data.holdout=0.1']
  run('train_digits.py', '--steps=1', '--genotype=DARTS_V2', *more, tiny=tiny)
  found, err = printed(capsys)
  assert found['params'] > 0 and found['hours_for_whole_training'] > 0
  assert found['supernet_params'] is None and found['hours_for_whole_search'] is None
  assert err.count('compiling the evaluation') == 2  # of the hold-out and of the test images


@pytest.mark.parametrize(
  'config, words, message',
  [
    ('digits.py', ['--steps=0'], '--steps is 0; it must be at least 1'),
    ('digits.py', ['--config.search.batch_size=500'], 'config.search.batch_size is 500'),
    ('digits.py', ['--config.data.name=mnist'], "config.data.name is 'mnist'"),
    ('digits.py', ['--genotype=DARTS_V2'], 'goes with a config of training only'),
    ('digits.py', [f'--profile={__file__}'], 'test_benchmark.py'),
  ],
)
def test_an_error_is_one_line(capsys, config, words, message):
  with pytest.raises(SystemExit) as stop:
    run(config, *words)
  out, err = capsys.readouterr()
  assert stop.value.code == 2 and out == ''
  assert err.startswith('error: ') and err.count('\n') == 1 and message in err


def test_a_training_needs_a_cell(capsys):
  with pytest.raises(SystemExit) as stop:
    run('train_digits.py', tiny={})
  assert stop.value.code == 2 and '--genotype=CELL is required' in capsys.readouterr().err


def test_a_folder_without_a_path_is_assumed():
  config = config_lib.search_config()
  config.data.name, config.data.image_size = 'folder', 8
  _, assumed = opening.random_dataset(config.data)
  assert assumed == {'channels': 3, 'train_images': 10_000, 'classes': 10}


class CountingFeed:
  """A feed of training that records which chunks are asked for."""

  data = ()

  def __init__(self):
    self.calls = []

  def chunk(self, epoch, start, count, length):
    self.calls.append((epoch, start, count, length))
    return {'train': np.zeros((length, 8))}


class CountingStep(parallel.Program):
  """A step that does nothing but record its batches."""

  def __init__(self):
    self.batches = []

  def __call__(self, position, data, batch, key):
    assert batch['train'].shape == (8,)
    self.batches.append(batch)
    return position

  def memory(self, *args):
    return parallel.Memory(len(args) * 2**20, 2**19)


def counting_timer():
  """A `Timer` over 2 epochs of 5 steps, its feed and its step."""
  feed, step = CountingFeed(), CountingStep()
  position = steps.Position({'a': np.zeros((2, 3))}, {'train_loss': np.zeros(())})
  programs = task_lib.Programs(lambda key: position, step, {}, {})
  task = task_lib.Task(**dict.fromkeys(task_lib.Task._fields))
  task = task._replace(compile=lambda plan: programs)
  settings = loop.Settings(2, 5, 8, 50, 0, parallel.Devices('single'))
  feeds = types.SimpleNamespace(train=feed)
  plan = task_lib.Plan(config_lib.search_config(), {}, feeds, settings, None, parts.Parts())
  return timing.Timer(task, plan), feed, step


def test_the_clock_waits_for_the_steps_and_counts_them():
  timer, feed, step = counting_timer()
  found = timer.time_steps(3)
  # Calls of one step, the first one and those that warm up, then calls as long as the chunk of an
  # epoch of 5 steps allows, each in an epoch that has them.
  single = [(0, step, 1, 5) for step in range(5)] + [(1, 0, 1, 5), (1, 1, 1, 5)]
  assert feed.calls == single + [(epoch, 0, 5, 5) for epoch in (2, 3, 4)]
  assert len(step.batches) == 1 + timing._WARM_STEPS + 3 * 5
  assert found['steps_per_measurement'] == 5 and len(found['step_seconds']) == 3
  assert found['step_memory_mb'] == 4.5


def test_warming_up_ends_with_its_time(monkeypatch):
  monkeypatch.setattr(timing, '_WARM_SECONDS', -1.0)
  timer, calls = counting_timer()[0], []
  timer.run = lambda count: calls.append(count) or 7.0
  assert timer._warm_up() == 7.0 and calls == [1]


def test_compilation_is_measured():
  with measure.compilation() as found:
    jax.jit(lambda x: x * 3 + 1)(np.ones(17))
  assert len(found.seconds) >= 1 and min(found.seconds) > 0
  before = list(found.seconds)
  jax.jit(lambda x: x * 5 + 2)(np.ones(19))
  assert found.seconds == before  # nobody listens any more
