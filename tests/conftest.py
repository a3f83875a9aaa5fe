"""Shared set-up of all tests: four simulated devices, enforced annotations, a fixed key."""

import logging

import jax
import jaxtyping
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Checks shapes, dtypes and types of every annotated call; must precede the package's first import.
install_import_hook('stretchnas_jax', 'beartype.beartype')

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


@pytest.fixture
def unchecked():
  """Turns the enforced annotations off, for tests of the package's own sentences on bad types."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)


@pytest.fixture
def root_logger():
  """Puts the handlers and the level of the root logger back after a test that runs a program."""
  root = logging.getLogger()
  handlers, level = list(root.handlers), root.level
  yield root
  root.handlers[:] = handlers
  root.setLevel(level)
