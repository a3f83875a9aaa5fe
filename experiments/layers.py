"""What Figures 1 and 4 share: cells of different searches, trained with 8 to 20 layers."""

from stretchnas_jax.sweeps import Run

SIZE, LAYERS = 3.5, (8, 12, 16, 20)
OURS = {f'MiLeNAS-SC-L{layers}': f'milenas_sc_{layers}' for layers in (8, 12, 16)}
AXIS = 'layers in evaluation; hollow: as many as in the search'


def curves(cells):
  """A `Run` for every cell and number of layers; runs of both figures are done once.

  Args:
    cells: `{title: published cell or search}`.
  """
  return {
    f'{cell}_at_{layers}': Run(
      f'{title}, {layers} layers', cell, layers, SIZE, series=title, x=layers
    )
    for title, cell in cells.items()
    for layers in LAYERS
  }
