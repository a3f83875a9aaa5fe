"""What every test stands on: four simulated devices and a fixed key."""

import jax
import pytest
from hypothesis import settings

jax.config.update('jax_num_cpu_devices', 4)  # before any backend call
# Each program runs once or twice here, so the time to compile it is what counts.
jax.config.update('jax_disable_most_optimizations', True)
# What a program under test compiles is its own, and never comes from an earlier run.
jax.config.update('jax_enable_compilation_cache', False)

settings.register_profile('stretchnas', deadline=None, max_examples=40, derandomize=True)
settings.load_profile('stretchnas')


@pytest.fixture
def key():
  return jax.random.key(0)
