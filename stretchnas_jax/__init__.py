"""Differentiable architecture search with stretchable cells (arXiv 2011.09300), in JAX and Flax.

Importing this starts no backend and loads neither orbax nor any data set library; the programs do.
"""

import importlib

from stretchnas_jax.architecture import (
  genotype,
  graph,
  random_cells,
  relaxation,
  space,
  topology,
  zoo,
)
from stretchnas_jax.architecture.genotype import Genotype
from stretchnas_jax.architecture.graph import CellGraph
from stretchnas_jax.architecture.space import SearchSpace, darts_space
from stretchnas_jax.models import network, sizes, supernet
from stretchnas_jax.models.network import FixedNetwork
from stretchnas_jax.models.supernet import Supernet
from stretchnas_jax.optimization import bilevel, optimizers
from stretchnas_jax.optimization.bilevel import make_search
from stretchnas_jax.optimization.state import Arch, Batch, Examples, SearchState
from stretchnas_jax.runtime import parallel

__version__ = '0.1.0'

# What loads more than the research code above needs is loaded when it is first asked for.
_PROGRAMS = {'run_search': 'search'}


def __getattr__(name):
  if name in _PROGRAMS:
    return getattr(importlib.import_module(f'stretchnas_jax.{_PROGRAMS[name]}'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = [
  'Arch',
  'Batch',
  'CellGraph',
  'Examples',
  'FixedNetwork',
  'Genotype',
  'SearchSpace',
  'SearchState',
  'Supernet',
  'bilevel',
  'darts_space',
  'genotype',
  'graph',
  'make_search',
  'network',
  'optimizers',
  'parallel',
  'random_cells',
  'relaxation',
  'run_search',
  'sizes',
  'space',
  'supernet',
  'topology',
  'zoo',
]
