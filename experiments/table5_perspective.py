"""Table 5: choosing in-edges against choosing out-edges, on CIFAR-10.

python -m experiments.table5_perspective run --scale=tiny
python -m experiments.table5_perspective collect --scale=tiny
"""

from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, Paper, Run, main

_SIZE = 3.5  # the wanted millions of parameters of all, as in Table 1

EXPERIMENT = Experiment(
  title='Table 5: perspectives of edge selection',
  searches=SEARCHES,
  runs={
    'darts_input': Run(
      'DARTS (2nd order), input edges', 'darts_second', 20, _SIZE, Paper(2.76, 0.09, 3.3)
    ),
    'darts_output': Run(
      'DARTS (2nd order), output edges', 'darts_second_output', 20, _SIZE, Paper(2.82)
    ),
    'wo_sc_input': Run('DARTS w/o SC, input edges', 'wo_sc_input', 8, _SIZE, Paper(3.08)),
    'wo_sc_output': Run('DARTS w/o SC, output edges', 'wo_sc', 8, _SIZE, Paper(2.72, 0.12)),
  },
  comparisons=(
    ('wo_sc_output', 'wo_sc_input'),
    ('darts_output', 'darts_input'),
    ('wo_sc_output', 'darts_output'),
  ),
  remarks=('The paper does not say how large these networks are; here all have the same size.',),
)

if __name__ == '__main__':
  main(EXPERIMENT)
