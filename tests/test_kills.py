"""A search that is really killed or stopped ends as a search that nobody has stopped."""

import signal

import numpy as np
import pytest

from experiments.reliability import kills, programs, stops


@pytest.fixture(scope='module')
def program(tmp_path_factory):
  """A search that has run to its end."""
  # Each start traces the step, which takes least time for the smallest cell.
  return programs.Program(
    'search', tmp_path_factory.mktemp('search'), epochs=6, optimized=False,
    overrides=['--config.space.num_intermediate=1'],
  )  # fmt: skip


def test_a_killed_search_ends_bit_for_bit_as_one_that_was_not(program, tmp_path):
  found = kills.kill_run(program, tmp_path / 'run', np.random.default_rng(0), kills=3)
  assert found['good'], (found, (tmp_path / 'run.log').read_text())
  assert [one['code'] for one in found['stops']] == 3 * [-signal.SIGKILL]
  # Two processes with one seed give the same bits.
  again = programs.left_by(program.folder / 'warm')
  assert again == program.left


@pytest.mark.long
def test_a_search_whose_reader_has_gone_ends_bit_for_bit_too(program, tmp_path):
  found = stops.take_reader(program, tmp_path / 'run', 'pipe', 1, np.random.default_rng(0))
  assert found['good'] and [one['code'] for one in found['stops']] == [0], found
