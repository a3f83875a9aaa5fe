"""Figure 1: cells of DARTS, of its variants and of ours, trained with 8 to 20 layers.

The paper prints only curves, without numbers. Our cells are those of Figure 4, and run once for
both figures.

    python -m experiments.figure1_layers run --scale=tiny
"""

from experiments import layers
from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, main

_PUBLISHED = {
  'DARTS (2nd order), published cell': 'DARTS_V2',
  'P-DARTS, published cell': 'PDARTS',
  'MiLeNAS, published cell': 'MiLeNAS_3.87M',
}

EXPERIMENT = Experiment(
  title='Figure 1: cells with different numbers of layers',
  searches=SEARCHES,
  runs=layers.curves(_PUBLISHED | layers.OURS),
  comparisons=tuple((f'milenas_sc_8_at_{n}', f'DARTS_V2_at_{n}') for n in layers.LAYERS),
  x=layers.AXIS,
  x_counts='layers',
)

if __name__ == '__main__':
  main(EXPERIMENT)
