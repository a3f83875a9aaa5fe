"""The fields of a config file: their defaults and their checks."""

from stretchnas_jax.config.defaults import (
  flatten,
  search_config,
  train_config,
  updated,
  validate,
)

__all__ = ['flatten', 'search_config', 'train_config', 'updated', 'validate']
