"""Table 3: as many layers in the search as in the network, on CIFAR-10.

python -m experiments.table3_consistent_layers run --scale=tiny
"""

from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, Paper, Run, main

_SIZE, _LAYERS = 3.5, (8, 12, 16, 20)

# Test error, % and parameters, M, by number of layers.
_PAPER = {
  'DARTS (2nd order), 7 nodes': ((3.06, 3.3), (2.86, 3.4), (2.97, 3.3), (2.79, 3.5)),
  'DARTS (2nd order), 9 nodes': ((3.12, 3.5), (3.03, 3.4), (2.85, 3.5), (2.96, 3.4)),
  'MiLeNAS-SC, 9 nodes': ((2.58, 3.5), (2.36, 3.5), (2.51, 3.6), (2.54, 3.5)),
}
_CELLS = {
  'DARTS (2nd order), 7 nodes': ['darts_second']
  + [f'darts_second_{layers}_layers' for layers in (12, 16, 20)],
  'DARTS (2nd order), 9 nodes': [f'darts_second_9_nodes_{layers}_layers' for layers in _LAYERS],
  'MiLeNAS-SC, 9 nodes': [f'milenas_sc_{layers}' for layers in _LAYERS],
}

_RUNS = {
  f'{cell}_at_{layers}': Run(
    f'{method}, {layers} layers', cell, layers, _SIZE, Paper(error, None, params), method, layers
  )
  for method, figures in _PAPER.items()
  for layers, cell, (error, params) in zip(_LAYERS, _CELLS[method], figures)
}

EXPERIMENT = Experiment(
  title='Table 3: the same number of layers in search and evaluation',
  searches=SEARCHES,
  runs=_RUNS,
  comparisons=tuple(
    (f'milenas_sc_{layers}_at_{layers}', f'{cell}_at_{layers}')
    for layers, cell in zip(_LAYERS, _CELLS['DARTS (2nd order), 7 nodes'])
  ),
  x='layers in search and evaluation',
  x_counts='layers',
)

if __name__ == '__main__':
  main(EXPERIMENT)
