"""The fields of a config file: their defaults and their checks."""

from ml_collections import ConfigDict

from stretchnas_jax.config.checks import flatten, updated, validate
from stretchnas_jax.config.defaults import search_config, train_config

__all__ = ['ConfigDict', 'flatten', 'search_config', 'train_config', 'updated', 'validate']
