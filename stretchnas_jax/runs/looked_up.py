"""The accuracy of a cell that others have trained."""

import contextlib
from typing import Any

from stretchnas_jax.cells import nas_bench_201
from stretchnas_jax.cells.genotype import AnyGenotype


def looked_up(found: AnyGenotype) -> dict[str, Any]:
  """Returns the accuracy in percent and the rank of a cell of NAS-Bench-201.

  Args:
    found: the cell; of another space, or without the extra `nasbench`, the result is {}.
  """
  if isinstance(found, nas_bench_201.Cell):
    with contextlib.suppress(ValueError):
      return {
        'table_accuracy': nas_bench_201.accuracy(found),
        'table_rank': nas_bench_201.rank(found),
      }
  return {}
