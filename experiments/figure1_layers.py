"""Figure 1: cells of DARTS, of its variants and of ours, trained with 8 to 20 layers.

The paper prints no numbers, only curves. Ours are the cells that `figure4_layers` trains too.

    python -m experiments.figure1_layers run --scale=tiny
"""

from experiments.searches import SEARCHES
from stretchnas_jax.experiment import Experiment, Run, main

SIZE, LAYERS = 3.5, (8, 12, 16, 20)
CELLS = {  # title -> a published cell, or a search
  'DARTS (2nd order), published cell': 'DARTS_V2',
  'P-DARTS, published cell': 'PDARTS',
  'MiLeNAS, published cell': 'MiLeNAS_3.87M',
  'MiLeNAS-SC-L8': 'milenas_sc_8',
  'MiLeNAS-SC-L12': 'milenas_sc_12',
  'MiLeNAS-SC-L16': 'milenas_sc_16',
}

EXPERIMENT = Experiment(
  title='Figure 1: cells with different numbers of layers',
  searches=SEARCHES,
  runs={
    f'{cell}_at_{layers}': Run(
      f'{title}, {layers} layers', cell, layers, SIZE, series=title, x=layers
    )
    for title, cell in CELLS.items()
    for layers in LAYERS
  },
  comparisons=tuple((f'milenas_sc_8_at_{n}', f'DARTS_V2_at_{n}') for n in LAYERS),
  x='layers in evaluation; hollow: as many as in the search',
)

if __name__ == '__main__':
  main(EXPERIMENT)
