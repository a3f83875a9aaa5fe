"""Table 1: search on CIFAR-10, against the state of the art.

python -m experiments.table1_cifar10 run --scale=tiny
python -m experiments.table1_cifar10 collect --scale=tiny
"""

from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, Paper, Run, main

# Wanted numbers of parameters, in millions. Methods that are compared have the same one.
_SIZE, _SMALLER = 3.5, 1.8

# Error, deviation, params in M, FLOPs in M, GPU days.
_OTHERS = {
  'densenet': Run('DenseNet-BC', paper=Paper(3.46, None, 25.6)),
  'nasnet': Run('NASNet-A', paper=Paper(2.65, None, 3.3, None, 1800)),
  'enas': Run('ENAS', paper=Paper(2.89, None, 4.6, None, 0.5)),
  'amoebanet': Run('AmoebaNet-B', paper=Paper(2.55, 0.05, 2.8, None, 3150)),
  'pc_darts': Run('PC-DARTS', paper=Paper(2.57, 0.07, 3.6, 576, 0.1)),
  'p_darts': Run('P-DARTS', paper=Paper(2.50, None, 3.4, 551, 0.3)),
  'gold_nas': Run('GOLD-NAS-L', paper=Paper(2.53, 0.08, 3.67, 546, 1.1)),
  'si_vdnas': Run('SI-VDNAS (base)', paper=Paper(2.50, 0.06, 3.6, None, 0.3)),
}

_OURS = {
  'darts_first': Run(
    'DARTS (1st order)', 'darts_first', 20, _SIZE, Paper(3.00, 0.14, 3.3, 519, 0.4)
  ),
  'darts_second': Run(
    'DARTS (2nd order)', 'darts_second', 20, _SIZE, Paper(2.76, 0.09, 3.3, 547, 4.0)
  ),
  'milenas': Run('MiLeNAS', 'milenas', 20, _SIZE, Paper(2.51, 0.11, 3.87, 629, 0.3)),
  'random': Run('Random search baseline', 'random', 20, _SIZE, Paper(3.29, 0.15, 3.2, None, 4)),
  'random_operations': Run(
    'MiLeNAS-SC-L8 (random operation)',
    'random_ops:milenas_sc_8', 8, _SIZE, Paper(2.77, 0.08, 3.3, 576, 4),
  ),
  'wo_sc': Run('DARTS w/o SC', 'wo_sc', 8, _SMALLER, Paper(2.72, 0.12, 1.8, 337, 0.6)),
  'wo_sc_large': Run('DARTS w/o SC (C=48)', 'wo_sc', 8, _SIZE, Paper(2.48, 0.09, 3.2, 578, 0.6)),
  'milenas_sc_8': Run(
    'MiLeNAS-SC-L8', 'milenas_sc_8', 8, _SIZE, Paper(2.58, 0.11, 3.5, 599, 1.1)
  ),
  'milenas_sc_12': Run(
    'MiLeNAS-SC-L12', 'milenas_sc_12', 12, _SIZE, Paper(2.36, 0.07, 3.5, 622, 1.5)
  ),
  'milenas_sc_16': Run(
    'MiLeNAS-SC-L16', 'milenas_sc_16', 16, _SIZE, Paper(2.51, 0.09, 3.57, 577, 2.2)
  ),
}  # fmt: skip

EXPERIMENT = Experiment(
  title='Table 1: cells of different methods',
  searches=SEARCHES,
  runs=_OTHERS | _OURS,
  comparisons=(
    ('wo_sc_large', 'darts_second'),
    ('milenas_sc_8', 'milenas'),
    ('milenas_sc_8', 'random_operations'),
    ('milenas_sc_8', 'random'),
    ('random_operations', 'darts_first'),
  ),
  remarks=(
    'All networks have the same wanted size, except those of 1.8 M; the paper has 3.2 to 3.87 M.',
    'The FLOPs of "DARTS w/o SC" cannot arise with 8 layers, 4 nodes and 8 edges.',
    'Random: for each seed the best of several cells, by the validation of a short training.',
  ),
)

if __name__ == '__main__':
  main(EXPERIMENT)
