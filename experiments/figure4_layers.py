"""Figure 4: are searched cells best with as many layers as they were searched with?

The paper prints only curves, without numbers.

    python -m experiments.figure4_layers run --scale=tiny
"""

from experiments import layers
from experiments.searches import SEARCHES
from stretchnas_jax.sweeps import Experiment, main

EXPERIMENT = Experiment(
  title='Figure 4: searched cells with different numbers of layers',
  searches=SEARCHES,
  runs=layers.curves({'DARTS (2nd order), searched with 8': 'darts_second'} | layers.OURS),
  comparisons=(
    ('milenas_sc_8_at_8', 'milenas_sc_8_at_20'),
    ('milenas_sc_12_at_12', 'milenas_sc_12_at_20'),
    ('milenas_sc_16_at_16', 'milenas_sc_16_at_8'),
    ('darts_second_at_20', 'darts_second_at_8'),
  ),
  x=layers.AXIS,
  x_counts='layers',
)

if __name__ == '__main__':
  main(EXPERIMENT)
