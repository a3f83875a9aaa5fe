"""The value that stands for the devices of a run."""

import ast
import pathlib

import jax
import numpy as np
import pytest

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
