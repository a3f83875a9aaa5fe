"""The accuracy of a cell that others have trained."""

import contextlib
from typing import Any

from stretchnas_jax.cells import nas_bench_201
from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.machine.faults import one_line


def looked_up(found: AnyGenotype) -> dict[str, Any]:
  """Returns the accuracy in percent and the rank of a cell of NAS-Bench-201, and whose they are.

  Args:
    found: the cell; of another space, or without the extra `nasbench`, the result is {}.
  """
  if isinstance(found, nas_bench_201.Cell):
    with contextlib.suppress(ValueError):
      return {
        'table_accuracy': nas_bench_201.accuracy(found),
        'table_rank': nas_bench_201.rank(found),
        'table_source': nas_bench_201.load().source,
      }
  return {}


def source() -> str:
  """Returns whose accuracies `looked_up` gives, or a sentence that says why it gives none."""
  try:
    return nas_bench_201.load().source
  except ValueError as error:
    return one_line(error)
