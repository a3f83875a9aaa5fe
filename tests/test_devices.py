"""The value that stands for the devices of a run."""

import ast
import logging
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from stretchnas_jax.cli import console
from stretchnas_jax.machine import devices, parallel

PACKAGE = pathlib.Path(devices.__file__).parents[1]
QUESTIONS = {'devices', 'local_devices', 'default_backend'}
# `networks` imports nothing of `machine`; its layers ask by themselves whether they run on a CPU.
ASKS_JAX = {'machine/devices.py', 'networks/checks.py'}


def test_only_one_file_asks_jax_for_devices():
  found = set()
  for path in PACKAGE.rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
      if isinstance(node, ast.Attribute) and ast.unparse(node) in {f'jax.{q}' for q in QUESTIONS}:
        found.add(str(path.relative_to(PACKAGE)))
  assert found <= ASKS_JAX, found - ASKS_JAX


@pytest.mark.parametrize('backend', parallel.BACKENDS)
def test_a_step_sees_its_share_of_a_batch(backend):
  place = parallel.Devices(backend)
  place.check()
  assert place.count == (1 if backend == 'single' else 4)
  assert place.describe() == f'{place.count} x cpu, {backend}'

  def step(total, rows, *, axis_name):
    mean = rows.mean()
    return total + (mean if axis_name is None else jax.lax.pmean(mean, axis_name))

  program = place.compile(step, in_axes=(None, 0))
  total = program(place.replicate(np.float32(1)), np.arange(8, dtype=np.float32))
  found = place.fetch(total)
  assert isinstance(found, np.ndarray | np.generic) and found == 4.5


def test_equal_data_is_placed_once():
  place, data = parallel.Devices('pmap'), {'x': np.ones(3)}
  placed = place.replicate(data)
  assert place.place(data, data, placed) is placed
  other = place.place({'x': np.ones(3)}, data, placed)
  assert other is not placed and other['x'].sharding.device_set == set(jax.devices())


def test_an_unknown_backend_is_named():
  with pytest.raises(ValueError, match="parallel.backend is 'mpi'; allowed are pmap, shard_map, s"):
    parallel.Devices('mpi').check()


@pytest.mark.parametrize(
  'value, message, words',
  [
    ('cuda', "Unable to initialize backend 'cuda': x", 'cannot use cuda devices: pip install "jax'),
    ('gpu', "Unknown backend: 'gpu' requested, but no platforms", 'cannot use gpu devices: pip'),
    ('tpu', "Unable to initialize backend 'tpu': x", r'pip install "jax\[tpu\]"; or set JAX_PLAT'),
    (
      'cup',
      "Backend 'cup' is not in the list of known backends: []",
      "no platform 'cup': give cpu",
    ),
    (
      'cuda,cpu',
      "Unable to initialize backend 'cuda': x",
      "is 'cuda,cpu', and this JAX cannot use",
    ),
    ('cpu,tpu', "Unable to initialize backend 'tpu': x", 'cannot use tpu devices'),
    ('', "Unable to initialize backend 'rocm': x", 'is not set, and this JAX cannot use rocm devi'),
  ],
)
def test_devices_that_cannot_start_are_one_sentence(value, message, words, monkeypatch):
  def fail():
    raise RuntimeError(message)

  monkeypatch.setattr(jax, 'devices', fail)
  before = jax.config.jax_platforms
  jax.config.update('jax_platforms', value)
  try:
    with pytest.raises(ValueError, match=words):
      devices.start()
  finally:
    jax.config.update('jax_platforms', before)


def test_a_package_without_a_driver_is_said(monkeypatch):
  monkeypatch.setattr(devices, '_is_installed', lambda name: name == 'jax-cuda')
  before = jax.config.jax_platforms
  jax.config.update('jax_platforms', 'cuda')
  try:
    fault = devices.start_fault(RuntimeError("Unable to initialize backend 'cuda': no driver"))
  finally:
    jax.config.update('jax_platforms', before)
  assert 'though their package is installed: check' in fault and 'nvidia-smi' in fault
  assert fault.endswith("; JAX says: Unable to initialize backend 'cuda': no driver")


def test_other_errors_are_no_fault_of_the_start():
  try:
    raise AssertionError
  except AssertionError as error:
    assert devices.start_fault(error) is None

  assert devices.start_fault(RuntimeError('RESOURCE_EXHAUSTED')) is None
  assert devices.start_fault(KeyError('Unknown backend')) is None
  devices.start()


@pytest.mark.parametrize(
  'command, platform, words',
  [
    ('search', 'cup', "JAX knows no platform 'cup': give cpu, cuda, rocm or tpu"),
    ('describe', 'cuda', "JAX_PLATFORMS is 'cuda', and this JAX cannot use cuda devices: pip inst"),
  ],
)
def test_a_command_ends_in_one_line(command, platform, words, tmp_path):
  """JAX itself, in a process of its own, with a platform that there is not."""
  given = {'search': ['--config=digits', f'--workdir={tmp_path}/x'], 'describe': ['DARTS_V2']}
  environment = {**os.environ, 'JAX_PLATFORMS': platform}
  found = subprocess.run(
    [sys.executable, '-m', f'stretchnas_jax.{command}', *given[command]],
    env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100,
  )  # fmt: skip
  assert found.returncode == 2 and 'Traceback' not in found.stderr
  assert words in found.stderr
  assert found.stderr.count('\n') == 1 and not (tmp_path / 'x').exists()


def test_a_plugin_that_does_not_load_is_one_line(caplog):
  try:
    raise RuntimeError('no driver\nat all')
  except RuntimeError:
    record = logging.LogRecord(
      'jax._src.xla_bridge', logging.ERROR, 'x', 1,
      'Jax plugin configuration error: Exception when calling %s.initialize()', ('cuda',),
      sys.exc_info(),
    )  # fmt: skip
  line = console._Console().format(record)
  assert line.endswith('calling cuda.initialize(): no driver at all') and '\n' not in line
