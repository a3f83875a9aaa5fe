"""Shared set-up of all tests: four simulated devices, enforced annotations, a fixed key."""

import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import enforced_annotations
import jax
import jaxtyping
import pytest
from hypothesis import settings
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import install_import_hook

# Checks shapes, dtypes and types of every annotated call; must precede the package's first import.
enforced_annotations.install()
install_import_hook('stretchnas_jax', 'beartype.beartype')

jax.config.update('jax_num_cpu_devices', 4)  # before any backend call
# Each program runs once or twice here, so the time to compile it counts most.
jax.config.update('jax_disable_most_optimizations', True)
jax.config.update('jax_traceback_in_locations_limit', 0)
if jax.__version_info__ < (0, 11):  # XLA of later versions refuses this flag
  # Halves the time to compile, and leaves each program in one part. XLA reads its flags at the
  # first backend call.
  os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + (
    ' --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
  )

settings.register_profile('stretchnas', deadline=None, max_examples=40, derandomize=True)
settings.load_profile('stretchnas')

# Environment variables of JAX: programs that a test starts obey them too.
PROGRAM_CACHE = 'JAX_COMPILATION_CACHE_DIR'
PROGRAMS = {
  'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',  # Small programs are many.
}


def pytest_configure(config: pytest.Config) -> None:
  """Keeps compiled programs in a folder of this session, which all its processes share.

  Each session begins with an empty folder: no earlier version of a program is ever run.
  """
  if not hasattr(config, 'workerinput'):  # the workers of pytest-xdist inherit the environment
    folder = tempfile.mkdtemp(prefix='stretchnas_programs_')
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ.update({PROGRAM_CACHE: folder} | PROGRAMS)
  jax.config.update('jax_compilation_cache_dir', os.environ[PROGRAM_CACHE])
  # To write a program takes as long as to compile a small one.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.05)


def pytest_collection_finish() -> None:
  """Tells the garbage collector to pass over all that the imports have made."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 10, 10)  # A trace makes many objects, most of which stay in use.


@pytest.fixture
def key() -> jax.Array:
  return jax.random.key(0)


@pytest.fixture
def no_programs(tmp_path: Path) -> Iterator[None]:
  """Begins with no compiled programs, for tests of the time to compile."""
  kept = jax.config.jax_compilation_cache_dir
  compilation_cache.reset_cache()
  jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'programs'))
  yield
  compilation_cache.reset_cache()
  jax.config.update('jax_compilation_cache_dir', kept)


@pytest.fixture(scope='module')
def shared_programs() -> Iterator[None]:
  """Compiles the programs of equal runs in this process once."""
  import shared_programs  # It imports the package, which must follow the hook above.

  with shared_programs.compiled_once():
    yield


@pytest.fixture
def unchecked() -> Iterator[None]:
  """Turns the enforced annotations off, for tests of the package's own sentences on bad types."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
  """Puts the handlers and the level of the root logger back after a test that runs a program."""
  root = logging.getLogger()
  handlers, level = list(root.handlers), root.level
  yield root
  root.handlers[:] = handlers
  root.setLevel(level)


@pytest.fixture(scope='module')
def garbage_collected():
  """Collects garbage after a module, so that later tests see no warnings about its objects.

  Reads and saves of orbax that fail leave coroutines behind, which nobody has awaited.
  """
  yield
  gc.collect()
