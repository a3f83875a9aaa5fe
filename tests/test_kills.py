"""A search that is killed, twice and for real, ends as one in another process that was not."""

import numpy as np

from experiments.reliability import kills


def test_a_killed_search_ends_bit_for_bit_as_one_that_was_not(tmp_path):
  program = kills.Program('search', tmp_path / 'search', epochs=4)
  found = kills.kill_run(program, tmp_path / 'run', np.random.default_rng(0), kills=2)
  assert found['good'], (found, (tmp_path / 'run.log').read_text())
  assert len(found['kills']) >= 1
  # Two processes, one seed: the same bits.
  again = kills.left_by(program.folder / 'warm')
  assert again == program.left
