"""Does learned topology win? Five ways to a cell, under the same conditions, on CIFAR-10.

The paper compares methods of different depths and sizes. Here all networks have as many layers as
the searches: 8, or fewer at a smaller scale. They have the same wanted number of parameters and the
same training. Every seed is a search and a training of its own. The random cells are not chosen
from several, so that only chance is in them.

    python -m experiments.comparison_cifar10 run --scale=cpu --data-path=cifar10_jpeg
    python -m experiments.comparison_cifar10 collect --scale=cpu --data-path=cifar10_jpeg

The scale `cpu` takes a folder with `train/` and `test/`, each with a folder for each class.
"""

from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, Run, main

_SIZE, _LAYERS = 3.5, 8
_RANDOM, _DARTS = 'random', 'darts'

EXPERIMENT = Experiment(
  title='Learned and other topologies under the same conditions',
  searches=SEARCHES,
  runs={
    _DARTS: Run('DARTS (1st order), top-2 rule', 'darts_first', _LAYERS, _SIZE),
    'wo_sc': Run('DARTS w/o SC, pairs of out-edges', 'wo_sc', _LAYERS, _SIZE),
    'darts_sc': Run('DARTS-SC, 4 nodes', 'darts_sc', _LAYERS, _SIZE),
    'milenas_sc': Run('MiLeNAS-SC, 6 nodes', 'milenas_sc_8', _LAYERS, _SIZE),
    _RANDOM: Run('Random cells', 'random', _LAYERS, _SIZE),
  },
  comparisons=(
    ('wo_sc', _DARTS),
    ('darts_sc', _DARTS),
    ('milenas_sc', _DARTS),
    (_DARTS, _RANDOM),
    ('wo_sc', _RANDOM),
    ('darts_sc', _RANDOM),
    ('milenas_sc', _RANDOM),
  ),
  remarks=(
    'DARTS trains weights on a half of the images during its search, the others on a third. '
    'The candidates of DARTS include none.',
  ),
)

if __name__ == '__main__':
  main(EXPERIMENT)
