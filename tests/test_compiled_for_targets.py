"""Small steps compiled for chips that are not here, where their compilers are installed.

Counts of a program do not depend on the machine. Their bounds leave room for other versions of XLA.
"""

import json
import os
import subprocess
import sys

import pytest

from stretchnas_jax.machine import compiler_process, targets

SMALL = {
  'data.image_size': 8, 'space.num_intermediate': 1, 'model.channels': 4, 'model.num_layers': 1,
  'search.batch_size': 32,
}  # fmt: skip
# kernels, copies, MiB of temporary memory
MOST = {'h100': (600, 60, 4), 'v5e': (3400, 250, 30)}


@pytest.mark.parametrize('name', MOST)
def test_a_small_search_step_keeps_its_counts(name):
  target = targets.parse(name)
  try:
    targets.check_installed(target)
  except ValueError as error:
    pytest.skip(str(error))
  fields = [f'--config.{field}={value}' for field, value in SMALL.items()]
  command = [sys.executable, '-m', 'stretchnas_jax.benchmark', '--config=digits', *fields]
  environment = {
    name: value for name, value in os.environ.items() if not name.startswith(('JAX_', 'XLA_'))
  }
  done = subprocess.run(
    [*command, f'--target={name}'], capture_output=True, text=True,
    env=environment | {compiler_process.LEVEL: 'O0'},
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  found = json.loads(done.stdout)
  kernels, copies, temporary = MOST[name]
  assert found['fits'] and found['chips'] == 1
  assert kernels / 10 < found['kernels'] <= kernels
  assert 0 <= found['copies'] <= copies
  memory = found['memory_mb']
  assert 0 < memory['temporary'] <= temporary
  assert memory['reused'] > 0.9 * memory['outputs']  # donation
  assert found['flops'] > 1e6 and found['bytes'] > 1e6
  assert found['hours_at_least'] > 0
