"""The accuracies of cells that are drawn without a search: the baselines of the table."""

from typing import Any

import numpy as np
from jaxtyping import Float

from stretchnas_jax.cells import nas_bench_201, space, topology
from stretchnas_jax.cells.nas_bench_201 import EDGES, NUM_CELLS, Table

_DRAWS = 20_000
_BEST_OF = (2, 4, 8, 16, 32)


def baselines(table: Table) -> dict[str, dict[str, Any]]:
  """Returns the accuracies of drawn cells, by the way of drawing.

  Args:
    table: of accuracies; cells that it lacks are never drawn.

  Returns:
    For each way `mean`, `median`, `std` and the range of the middle 80 %, `low` and `high`.
  """
  known = np.isfinite(table.accuracies)
  cells = [nas_bench_201.from_code(code) for code in range(NUM_CELLS)]
  has_none = np.array(['none' in cell.operations for cell in cells])
  uniform = table.accuracies[known]
  found = {
    'a cell drawn from all': _summary(uniform),
    'a cell with six edges': _summary(table.accuracies[known & ~has_none]),
    'a stretchable cell with r(beta) = 0': _summary(_stretchable(table)),
  }
  rng = np.random.default_rng(0)
  for k in _BEST_OF:
    best = rng.choice(uniform, (_DRAWS, k)).max(1)
    found[f'the best of {k} drawn cells'] = _summary(best)
  return found


def _stretchable(table: Table) -> Float[np.ndarray, ' n']:
  """Returns accuracies of drawn codes without a penalty, with a drawn operation on each edge."""
  rng = np.random.default_rng(0)
  codes = topology.output_subsets(space.nas_bench_201().graph)
  counts = np.asarray(codes.mask).sum(1)
  names = [name for name in nas_bench_201.OPERATIONS if name != 'none']
  found = []
  for _ in range(_DRAWS):
    kept = sum(np.asarray(codes.codes)[r, rng.integers(n)] for r, n in enumerate(counts)) > 0
    entered = {dst for (_, dst), stays in zip(EDGES, kept) if stays}
    if entered != {1, 2, 3}:  # r(beta) is 0 where every node has an input
      continue
    edges = [(names[rng.integers(4)], *edge) for edge, stays in zip(EDGES, kept) if stays]
    found.append(table.accuracies[nas_bench_201.from_edges(edges).code])
  values = np.array(found)
  return values[np.isfinite(values)]


def _summary(values: Float[np.ndarray, ' n']) -> dict[str, Any]:
  """Returns mean, median, deviation, and the range of the middle 80 %."""
  low, high = np.quantile(values, (0.1, 0.9))
  return {
    'mean': float(values.mean()),
    'median': float(np.median(values)),
    'std': float(values.std(ddof=1)),
    'low': float(low),
    'high': float(high),
  }
