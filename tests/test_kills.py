"""A search that is really killed three times ends as a search that nobody has killed."""

import signal

import numpy as np

from experiments.reliability import kills, programs


def test_a_killed_search_ends_bit_for_bit_as_one_that_was_not(tmp_path):
  # Each start traces the step, which takes least time for the smallest cell.
  program = programs.Program(
    'search', tmp_path / 'search', epochs=8, optimized=False,
    overrides=['--config.space.num_intermediate=1'],
  )  # fmt: skip
  found = kills.kill_run(program, tmp_path / 'run', np.random.default_rng(0), kills=3)
  assert found['good'], (found, (tmp_path / 'run.log').read_text())
  assert [one['code'] for one in found['stops']] == 3 * [-signal.SIGKILL]
  # Two processes with one seed give the same bits.
  again = programs.left_by(program.folder / 'warm')
  assert again == program.left
