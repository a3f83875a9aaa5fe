"""What every test stands on: four simulated devices, strict ranks, a fixed key."""

import jax
import pytest
from hypothesis import settings

jax.config.update('jax_num_cpu_devices', 4)  # before any backend call
jax.config.update('jax_numpy_rank_promotion', 'raise')

settings.register_profile('stretchnas', deadline=None, max_examples=40, derandomize=True)
settings.load_profile('stretchnas')


@pytest.fixture
def key():
  return jax.random.key(0)
