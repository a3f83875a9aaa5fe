"""Phases from a program: an own `begin`, own objects of one phase, and what counts steps there."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import phase_runs
import pytest

from stretchnas_jax import run_search
from stretchnas_jax.cells import relaxation
from stretchnas_jax.learning import phase_border
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import json_files

FIELDS = {
  'search.epochs': 4, 'relaxation.temperature': 4.0, 'relaxation.final_temperature': 3.0,
  'relaxation.annealing': 'linear',
}  # fmt: skip
SEEN = {}


def weights(alpha, key, knobs):
  """The softmax; it writes down the temperature of each step."""
  record = lambda step, t: SEEN.update({int(step): float(t)})
  jax.debug.callback(record, knobs['step'], knobs['temperature'])
  return relaxation.softmax().weights(alpha, key, knobs)


def hotter(step):
  return {'temperature': 9.0 - 0.5 * step}


def passed_on(state, new):
  """Takes the logits alone; step and counts are left to the program."""
  return new._replace(arch=state.arch)


def runs_of(**second):
  """Returns the runs of a search whose second phase has own knobs and these entries."""
  given = ({'epochs': 2}, {'epochs': 2, 'parts': {'knobs': hotter}, **second})
  own = relaxation.softmax()._replace(weights=weights)
  return phase_runs.Runs({'space': helpers.POOL_SPACE, 'relaxation': own, 'phases': given})


def test_knobs_of_a_phase_with_an_own_begin_count_from_its_first_step(tmp_path):
  """The temperature of each step equals a plain loop, and all else a phase without `begin`."""
  config, ends = helpers.tiny_search(**FIELDS), []
  usual = runs_of(new=('weights', 'arch_optimizer', 'schedule'))
  own = runs_of(new=('schedule',), begin=passed_on)
  for name, runs in (('usual', usual), ('own', own)):
    SEEN.clear()
    runs.search(config, tmp_path / name)
    jax.effects_barrier()
    ends.append((dict(SEEN), runs.leaves(tmp_path / name)))
  per_epoch = json_files.read_lines(tmp_path / 'own' / 'metrics.jsonl')[0]['step']
  expected, step = {}, 0
  for phase in range(2):
    first = step
    for epoch in range(2):
      for _ in range(per_epoch):
        expected[step] = 4.0 - epoch if phase == 0 else 9.0 - 0.5 * (step - first)
        step += 1
  assert ends[1][0] == expected == ends[0][0]
  (last, leaves), (other, others) = ends[1][1], ends[0][1]
  assert last == other == step
  jax.tree.map(np.testing.assert_array_equal, leaves, others)
  for name in ('metrics.jsonl', 'genotypes.jsonl'):
    assert helpers.without_clock(tmp_path / 'own' / name) == helpers.without_clock(
      tmp_path / 'usual' / name
    )


def states():
  """Returns a state after 7 steps, and a new one."""
  fresh = helpers.random_state(helpers.pool_search())
  control = lambda phase, averages: {
    'phase_start': np.int32(phase),
    'averages_start': np.int32(averages),
  }
  before = jax.tree.map(lambda x: x + 1 if x.dtype == jnp.float32 else x, fresh)
  before = before._replace(step=jnp.int32(7), control=control(3, 2))
  return before, fresh._replace(control=control(0, 0))


@pytest.mark.parametrize('old, averages', [((), 7), (('batch_stats',), 2), (('params',), 7)])
def test_all_that_counts_steps_is_set_after_an_own_begin(old, averages):
  """Running averages that go on keep their beginning; new ones begin with the phase."""
  before, fresh = states()
  found = fresh._replace(**{name: getattr(before, name) for name in old})
  after = phase_border.begun(before, found, fresh, 5)
  assert int(after.step) == 7
  assert jax.tree.map(int, after.control) == {'phase_start': 7, 'averages_start': averages}
  counts = [
    int(x)
    for path, x in jax.tree.leaves_with_path(after.weights_opt)
    if jax.tree_util.keystr(path).endswith('.count')
  ]
  assert counts and set(counts) == {5}


WRONG = {
  'a dict': lambda state, new: {},
  r'begin returns params.*as float32\[1, .*its second argument': lambda state, new: new._replace(
    params=jax.tree.map(lambda x: x[None], new.params)
  ),
  r"control\['averages_start'\] as nothing; it must be int32": lambda state, new: new._replace(
    control=()
  ),
}


@pytest.mark.parametrize('words', WRONG)
def test_an_own_begin_of_another_shape_is_named_before_any_work(tmp_path, unchecked, words):
  parts = {
    'space': helpers.POOL_SPACE,
    'phases': ({'epochs': 1}, {'epochs': 1, 'begin': WRONG[words]}),
  }
  with pytest.raises(ValueError, match=rf'search.phases\[1\]: .*{words}'):
    run_search(helpers.tiny_search(), tmp_path / 'run', parts=parts)
  assert not (tmp_path / 'run').exists()


def by_numbers(state, new):
  """Looks at the numbers of alpha, and returns a wrong step."""
  best = {c: np.asarray(alpha).argmax(-1) for c, alpha in state.arch.alpha.items()}
  return new._replace(step=best['normal'])


def test_an_own_begin_that_looks_at_numbers_is_named_when_it_has_them(tmp_path):
  parts = {
    'space': helpers.POOL_SPACE,
    'phases': ({'epochs': 1}, {'epochs': 1, 'begin': by_numbers}),
  }
  with pytest.raises(faults.Fault, match=r'search.phases\[1\]: .*begin returns step as int32\[5\]'):
    run_search(helpers.tiny_search(), tmp_path / 'run', parts=parts)
