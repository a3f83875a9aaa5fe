"""The names under which JAX reports its compilations."""

import jax
import numpy as np
import pytest
from jax import monitoring
from jax.experimental.compilation_cache import compilation_cache

from stretchnas_jax.machine import measure

SETTINGS = {
  'jax_enable_compilation_cache': True,
  'jax_persistent_cache_min_compile_time_secs': 0.0,
}


@pytest.fixture
def program_cache(tmp_path):
  """JAX keeps compiled programs in a folder of this test."""
  settings = SETTINGS | {'jax_compilation_cache_dir': str(tmp_path)}
  before = {name: getattr(jax.config, name) for name in settings}
  for name, value in settings.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def test_a_program_from_the_cache_is_told_from_a_compiled_one(program_cache):
  found = []
  for _ in range(2):
    with measure.compilation() as compiled:
      jax.jit(lambda x: x * 7 + 3)(np.ones(23))  # another function each time, the same program
    found.append(compiled)
  assert [one.from_cache for one in found] == [False, True]
  assert all(min(one.seconds) > 0 for one in found) and min(found[1].cached) > 0


def test_a_program_is_lowered_right_before_it_is_compiled():
  seen = []
  listen = lambda event, seconds, **_: seen.append(event)
  monitoring.register_event_duration_secs_listener(listen)
  try:
    jax.jit(lambda x: x * 9 + 4)(np.ones(29))
  finally:
    monitoring.unregister_event_duration_listener(listen)
  known = [event for event in seen if event in (measure.LOWERED, measure.COMPILED)]
  assert known[:2] == [measure.LOWERED, measure.COMPILED]
