"""The runs that Figures 1 and 4 share: cells of different searches, trained with 8 to 20 layers."""

from collections.abc import Mapping

from stretchnas_jax.sweeps import Run

LAYERS = (8, 12, 16, 20)
OURS = {f'MiLeNAS-SC-L{layers}': f'milenas_sc_{layers}' for layers in (8, 12, 16)}
AXIS = 'layers in evaluation; hollow: as many as in the search'

_SIZE = 3.5  # millions of parameters


def curves(cells: Mapping[str, str]) -> dict[str, Run]:
  """Returns a run for every cell and number of layers; runs of both figures are done once.

  Args:
    cells: a published cell, or the name of a search, by the title of its curve.
  """
  runs = {}
  for title, cell in cells.items():
    for layers in LAYERS:
      run = Run(f'{title}, {layers} layers', cell, layers, _SIZE, series=title, x=layers)
      runs[f'{cell}_at_{layers}'] = run
  return runs
