"""Differentiable architecture search with stretchable cells (arXiv 2011.09300), in JAX and Flax.

Importing this starts no backend and loads neither orbax nor any data set library; the programs do.
"""

import importlib

import stretchnas_jax.machine.entry  # noqa: F401 before the imports that take seconds
from stretchnas_jax.cells import (
  genotype,
  graph,
  nas_bench_201,
  random_cells,
  relaxation,
  space,
  topology,
  zoo,
)
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.cells.graph import CellGraph
from stretchnas_jax.cells.space import SearchSpace, darts_space
from stretchnas_jax.data.batches.examples import Batch, Examples
from stretchnas_jax.learning import bilevel, optimizers, training
from stretchnas_jax.learning.bilevel import make_search
from stretchnas_jax.learning.state import Arch, SearchState
from stretchnas_jax.learning.training import TrainState, make_training
from stretchnas_jax.machine import parallel
from stretchnas_jax.networks import network, sizes, supernet
from stretchnas_jax.networks.network import FixedNetwork
from stretchnas_jax.networks.supernet import Supernet

__version__ = '0.2.0'

# What loads more than the research code above needs is loaded when it is first asked for.
_PROGRAMS = {
  'export_trained': 'runs.export',
  'load_darts': 'runs.import_darts',
  'load_history': 'runs.history',
  'load_trained': 'runs.trained',
  'predict': 'runs.predictions',
  'run_search': 'runs.entry_points',
  'run_train': 'runs.entry_points',
}


def __getattr__(name):
  if name in _PROGRAMS:
    return getattr(importlib.import_module(f'stretchnas_jax.{_PROGRAMS[name]}'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def _drawn(genotype):
  from stretchnas_jax.views import cells

  return cells.svg(genotype)


def _as_page(table):
  from stretchnas_jax.views import notebooks

  return notebooks.table_page(table)


# Notebooks show these as a drawing and as a table. The room of cells knows no views.
Genotype._repr_svg_ = _drawn  # pyrefly: ignore[missing-attribute]
nas_bench_201.Cell._repr_svg_ = _drawn  # pyrefly: ignore[missing-attribute]
topology.TopologyTable._repr_html_ = _as_page  # pyrefly: ignore[missing-attribute]

__all__ = [
  'Arch',
  'Batch',
  'CellGraph',
  'Examples',
  'FixedNetwork',
  'Genotype',
  'SearchSpace',
  'SearchState',
  'TrainState',
  'Supernet',
  'bilevel',
  'darts_space',
  'export_trained',
  'genotype',
  'graph',
  'load_darts',
  'load_history',
  'load_trained',
  'make_search',
  'make_training',
  'nas_bench_201',
  'network',
  'optimizers',
  'parallel',
  'predict',
  'random_cells',
  'relaxation',
  'run_search',
  'run_train',
  'sizes',
  'space',
  'supernet',
  'topology',
  'training',
  'zoo',
]
