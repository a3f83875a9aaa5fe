"""Compiled programs, kept on disk from one start to the next."""

import logging
import os

import jax

from stretchnas_jax.machine import disk_cache

_MAX_BYTES = 4 * 2**30  # the least recently used programs go first
_LEAST_SECONDS = 0.5  # of compilation; programs that compile faster are not kept


def use_cache() -> None:
  """Lets JAX keep compiled programs in the user's cache folder.

  A folder that the user has chosen (`JAX_COMPILATION_CACHE_DIR`) stays, and so does a cache that is
  switched off (`JAX_ENABLE_COMPILATION_CACHE=false`). No fault of the folder makes a run fail.
  """
  # pyrefly: ignore[missing-attribute]
  if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
    return
  try:
    folder = disk_cache.default_folder() / 'programs'
    # JAX runs the programs that it finds there, so nobody else may write.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
      raise PermissionError(f'{folder} is not writable')
  except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
    logging.warning('compiled programs are not kept: %s', error)
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_compilation_cache_max_size', _MAX_BYTES)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', _LEAST_SECONDS)
