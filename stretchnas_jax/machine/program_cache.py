"""Compiled programs, kept on disk from one start to the next."""

import logging
import os

import jax

from stretchnas_jax.machine import disk_cache

MAX_BYTES = 4 * 2**30  # the least recently used programs go first


def use_cache():
  """Keeps compiled programs in the user's cache folder; no fault of that folder makes a run fail.

  A folder that the user has named (`JAX_COMPILATION_CACHE_DIR`) stays as it is.
  """
  if jax.config.jax_compilation_cache_dir:
    return
  try:
    folder = disk_cache.default_folder() / 'programs'
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
      raise PermissionError(f'{folder} is not writable')
  except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
    logging.warning('compiled programs are not kept: %s', error)
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_compilation_cache_max_size', MAX_BYTES)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
