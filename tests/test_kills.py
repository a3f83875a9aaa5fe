"""A search that is killed, thrice and for real, ends as one in another process that was not."""

import signal

import numpy as np

from experiments.reliability import kills, programs


def test_a_killed_search_ends_bit_for_bit_as_one_that_was_not(tmp_path):
  program = programs.Program('search', tmp_path / 'search', epochs=8, optimized=False)
  found = kills.kill_run(program, tmp_path / 'run', np.random.default_rng(0), kills=3)
  assert found['good'], (found, (tmp_path / 'run.log').read_text())
  assert [one['code'] for one in found['stops']] == 3 * [-signal.SIGKILL]
  # Two processes, one seed: the same bits.
  again = programs.left_by(program.folder / 'warm')
  assert again == program.left
