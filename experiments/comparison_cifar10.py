"""Does learned topology win? Five ways to a cell, under the same conditions, on CIFAR-10.

The paper compares methods of different depths and sizes. Here all networks have as many layers as
the searches (8, or what the scale makes of it), the same wanted number of parameters and the same
training, and every seed is a search and a training of its own. The random cells are not chosen
from several, so that nothing but chance is in them.

    python -m experiments.comparison_cifar10 run --scale=cpu --data-path=cifar10_jpeg
    python -m experiments.comparison_cifar10 collect --scale=cpu --data-path=cifar10_jpeg

A folder with `train/` and `test/` of class folders is what the scale `cpu` takes.
"""

from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, Run, main

SIZE, LAYERS = 3.5, 8
RANDOM, DARTS = 'random', 'darts'

EXPERIMENT = Experiment(
  title='Learned and other topologies under the same conditions',
  searches=SEARCHES,
  runs={
    DARTS: Run('DARTS (1st order), top-2 rule', 'darts_first', LAYERS, SIZE),
    'wo_sc': Run('DARTS w/o SC, pairs of out-edges', 'wo_sc', LAYERS, SIZE),
    'darts_sc': Run('DARTS-SC, 4 nodes', 'darts_sc', LAYERS, SIZE),
    'milenas_sc': Run('MiLeNAS-SC, 6 nodes', 'milenas_sc_8', LAYERS, SIZE),
    RANDOM: Run('Random cells', 'random', LAYERS, SIZE),
  },
  comparisons=(
    ('wo_sc', DARTS),
    ('darts_sc', DARTS),
    ('milenas_sc', DARTS),
    (DARTS, RANDOM),
    ('wo_sc', RANDOM),
    ('darts_sc', RANDOM),
    ('milenas_sc', RANDOM),
  ),
  remarks=(
    'DARTS trains weights on a half of the images during its search, the others on a third; its '
    'candidates include none.',
  ),
)

if __name__ == '__main__':
  main(EXPERIMENT)
