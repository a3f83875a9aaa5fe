"""Figure 4: are searched cells best with as many layers as they were searched with?

The paper prints no numbers, only curves.

    python -m experiments.figure4_layers run --scale=tiny
"""

from experiments.searches import SEARCHES
from stretchnas_jax.experiment import Experiment, Run, main

SIZE, LAYERS = 3.5, (8, 12, 16, 20)
CELLS = {
  'DARTS (2nd order), searched with 8': 'darts_second',
  'MiLeNAS-SC-L8': 'milenas_sc_8',
  'MiLeNAS-SC-L12': 'milenas_sc_12',
  'MiLeNAS-SC-L16': 'milenas_sc_16',
}

EXPERIMENT = Experiment(
  title='Figure 4: searched cells with different numbers of layers',
  searches=SEARCHES,
  runs={
    f'{cell}_at_{layers}': Run(
      f'{title}, {layers} layers', cell, layers, SIZE, series=title, x=layers
    )
    for title, cell in CELLS.items()
    for layers in LAYERS
  },
  comparisons=(
    ('milenas_sc_8_at_8', 'milenas_sc_8_at_20'),
    ('milenas_sc_12_at_12', 'milenas_sc_12_at_20'),
    ('milenas_sc_16_at_16', 'milenas_sc_16_at_8'),
    ('darts_second_at_20', 'darts_second_at_8'),
  ),
  x='layers in evaluation; hollow: as many as in the search',
)

if __name__ == '__main__':
  main(EXPERIMENT)
