"""Table 4: the cells that a search would have derived after 20, 30, 40 and 50 epochs.

The paper's three rows of each method are three runs; here they are the seeds.

    python -m experiments.table4_stability run --scale=tiny
"""

from experiments.searches import SEARCHES
from stretchnas_jax.runs import statistics
from stretchnas_jax.sweeps import Experiment, Paper, Run, main

_EPOCHS = (20, 30, 40, 50)

# Test errors, % of the paper's three runs, and their parameters, M, by epoch.
_PAPER = {
  'DARTS (2nd order)': (
    ((2.93, 2.88, 3.02, 2.90), (3.05, 3.16, 3.00, 3.41), (2.83, 2.82, 2.87, 2.87)),
    ((3.6, 3.2, 2.5, 2.3), (3.1, 2.3, 2.3, 2.1), (4.1, 3.0, 2.6, 2.6)),
  ),
  'DARTS w/o SC': (
    ((2.89, 2.94, 2.81, 2.71), (2.91, 2.89, 2.83, 2.69), (2.85, 2.81, 2.73, 2.75)),
    ((2.0, 1.9, 1.8, 1.8), (2.0, 1.8, 1.8, 1.9), (2.1, 1.9, 1.8, 1.9)),
  ),
}
# Search, layers of the network, wanted size in M: as in Table 1.
_METHODS = {'DARTS (2nd order)': ('darts_second', 20, 3.5), 'DARTS w/o SC': ('wo_sc', 8, 1.8)}


def _published(method: str, i: int) -> Paper:
  """Returns the mean of the paper's runs after its i-th epoch; the paper prints each run."""
  error_rows, param_rows = _PAPER[method]
  errors = statistics.summarize(row[i] for row in error_rows)
  params = statistics.summarize(row[i] for row in param_rows)
  return Paper(errors.mean, errors.std, params.mean)


_RUNS = {
  f'{cell}_{epoch}': Run(
    f'{method}, epoch {epoch}',
    f'{cell}@{epoch}',
    layers,
    size,
    _published(method, i),
    series=method,
    x=epoch,
  )
  for method, (cell, layers, size) in _METHODS.items()
  for i, epoch in enumerate(_EPOCHS)
}

EXPERIMENT = Experiment(
  title='Table 4: cells at different epochs of the search',
  searches=SEARCHES,
  runs=_RUNS,
  comparisons=(('darts_second_50', 'darts_second_20'), ('wo_sc_50', 'wo_sc_20')),
  x='epoch of the search',
  x_counts='epochs',
  remarks=(
    'In the paper the sizes follow the cells. Here C is chosen for one size of each method, so '
    'that only cells are compared.',
  ),
)

if __name__ == '__main__':
  main(EXPERIMENT)
