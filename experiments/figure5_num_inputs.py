"""Figure 5: a fixed number of inputs of each node, against any number.

The paper prints no numbers, only curves, and does not say which numbers of inputs it tries.

    python -m experiments.figure5_num_inputs run --scale=tiny
"""

from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, Run, main

SIZE = 3.5
DARTS, OURS, ANY = 'DARTS (2nd order)', 'DARTS-SC (1st order)', 'DARTS-SC, any number'
DARTS_CELLS = {1: 'darts_second_1_inputs', 2: 'darts_second', 3: 'darts_second_3_inputs'}


def run(title, cell, layers, k):
  return Run(f'{title}, {k} inputs', cell, layers, SIZE, series=title, x=k)


EXPERIMENT = Experiment(
  title='Figure 5: numbers of inputs',
  searches=SEARCHES,
  runs={f'darts_{k}': run(DARTS, cell, 20, k) for k, cell in DARTS_CELLS.items()}
  | {f'darts_sc_{k}': run(OURS, f'darts_sc_{k}_inputs', 8, k) for k in (1, 2, 3)}
  | {'darts_sc_any': Run(ANY, 'darts_sc', 8, SIZE, series=ANY, x=4)},
  comparisons=tuple(('darts_sc_any', f'darts_sc_{k}') for k in (1, 2, 3)),
  x='inputs of a node; at 4: any number',
  remarks=(
    'With three inputs, the first node has only two edges to choose from: DARTS keeps both, a '
    'table of subsets of three leaves that node out.',
  ),
)

if __name__ == '__main__':
  main(EXPERIMENT)
