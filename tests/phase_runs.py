"""Searches in this process that share their compiled programs, and comparisons of their ends."""

import helpers
import jax
import numpy as np

from experiments.reliability import methods
from stretchnas_jax.runs import runner, trained
from stretchnas_jax.runs.parts import Parts


class Runs:
  """Runs searches; a program that an earlier search has compiled serves every equal one."""

  def __init__(self, parts=None):
    self.parts, self._task = Parts.of(parts), methods.sharing_task()

  def search(self, config, path, **options):
    """Searches as `run_search` does."""
    return runner.prepare(self._task, config, path, parts=self.parts, **options)()

  def leaves(self, path):
    """Returns step and leaves of the newest checkpoint, without the beginning of its phase."""
    saved = trained.read_run(path, parts=self.parts)
    state = jax.device_get(saved.state)
    control = {n: x for n, x in dict(state.control).items() if not n.endswith('_start')}
    return saved.step, jax.tree.leaves(state._replace(control=control))

  def assert_same_ends(self, first, second):
    """Asserts that two runs have the same lines, cells and newest state, bit for bit."""
    for name in ('metrics.jsonl', 'genotypes.jsonl'):
      assert helpers.without_clock(first / name) == helpers.without_clock(second / name)
    (step, one), (other_step, other) = self.leaves(first), self.leaves(second)
    assert step == other_step and len(one) == len(other)
    for x, y in zip(one, other):
      np.testing.assert_array_equal(x, y)
