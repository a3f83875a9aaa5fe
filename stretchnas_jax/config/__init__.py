"""The fields of a config file: their defaults, their meanings and their checks."""

from ml_collections import ConfigDict

from stretchnas_jax.config.checks import check_kind, flatten, updated, validate
from stretchnas_jax.config.defaults import (
  FIELDS,
  default_config,
  former_values,
  rows,
  search_config,
  train_config,
  when_absent,
)
from stretchnas_jax.config.files import load

__all__ = [
  'FIELDS',
  'ConfigDict',
  'check_kind',
  'default_config',
  'flatten',
  'former_values',
  'load',
  'rows',
  'search_config',
  'train_config',
  'updated',
  'validate',
  'when_absent',
]
