"""Figure 3: is the cell searched with 8 layers deeper than the one searched with 16?

The paper draws one cell of each. Here the cell of every seed is drawn, and depths are compared. A
depth is the longest path from an input of the normal cell to one of its nodes, in edges.

    python -m experiments.figure3_cells run --scale=tiny
    python -m experiments.figure3_cells plot --scale=tiny
"""

from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, Run, main

EXPERIMENT = Experiment(
  title='Figure 3: cells found with different numbers of layers',
  searches=SEARCHES,
  runs={
    f'milenas_sc_{layers}': Run(f'MiLeNAS-SC-L{layers}', f'milenas_sc_{layers}')
    for layers in (8, 12, 16)
  },
  comparisons=(('milenas_sc_8', 'milenas_sc_16'),),
  measure='depth',
)

if __name__ == '__main__':
  main(EXPERIMENT)
