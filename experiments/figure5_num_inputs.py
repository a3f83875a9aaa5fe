"""Figure 5: a fixed number of inputs of each node, against any number.

The paper prints only curves, without numbers. It does not say which numbers of inputs it tries.

    python -m experiments.figure5_num_inputs run --scale=tiny
"""

from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, Run, main

_SIZE = 3.5
_DARTS, _OURS, _ANY = 'DARTS (2nd order)', 'DARTS-SC (1st order)', 'DARTS-SC, any number'
_DARTS_CELLS = {1: 'darts_second_1_inputs', 2: 'darts_second', 3: 'darts_second_3_inputs'}


def _run(title: str, cell: str, layers: int, k: int) -> Run:
  return Run(f'{title}, {k} inputs', cell, layers, _SIZE, series=title, x=k)


EXPERIMENT = Experiment(
  title='Figure 5: numbers of inputs',
  searches=SEARCHES,
  runs={f'darts_{k}': _run(_DARTS, cell, 20, k) for k, cell in _DARTS_CELLS.items()}
  | {f'darts_sc_{k}': _run(_OURS, f'darts_sc_{k}_inputs', 8, k) for k in (1, 2, 3)}
  | {'darts_sc_any': Run(_ANY, 'darts_sc', 8, _SIZE, series=_ANY, x=4)},
  comparisons=tuple(('darts_sc_any', f'darts_sc_{k}') for k in (1, 2, 3)),
  x='inputs of a node; at 4: any number',
  remarks=('With three inputs, the first node has only two edges, and both methods keep them.',),
)

if __name__ == '__main__':
  main(EXPERIMENT)
