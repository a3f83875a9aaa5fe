"""The table of NAS-Bench-201: true accuracies of cells, without a training (Dong & Yang 2020).

Others have trained every cell of this search space. So a look-up takes microseconds, and tells how
good the cell of a search is: `accuracy(cell)` in percent, and `rank(cell)` among the 15,625 cells.

Every table says whose numbers it holds, see `load`.
"""

import pathlib

from stretchnas_jax.cells import nas_bench_table
from stretchnas_jax.cells.nas_bench_cells import (
  EDGES,
  NUM_CELLS,
  OPERATIONS,
  Cell,
  all_cells,
  from_code,
  from_edges,
  from_text,
  to_text,
)
from stretchnas_jax.cells.nas_bench_table import Table

__all__ = [
  'EDGES',
  'NUM_CELLS',
  'OPERATIONS',
  'Cell',
  'Table',
  'accuracy',
  'all_cells',
  'from_code',
  'from_edges',
  'from_text',
  'load',
  'rank',
  'regret',
  'to_text',
]


def accuracy(cell: Cell | str, table: pathlib.Path | str | None = None) -> float:
  """Returns the test accuracy of a trained cell, in percent.

  Args:
    cell: the cell or its text.
    table: see `load`.

  Raises:
    ValueError: there is no such cell, no table, or no such cell in the table.

  Example:
    >>> cell = from_edges([('skip_connect', 0, 3)])
    >>> round(accuracy(cell), 2)
    86.55
  """
  return load(table).accuracy(_code_of(cell))


def rank(cell: Cell | str, table: pathlib.Path | str | None = None) -> int:
  """Returns the rank of a cell by accuracy: 1 for the best one; equal cells share a rank.

  Args:
    cell: the cell or its text.
    table: see `load`.

  Raises:
    ValueError: as for `accuracy`.

  Example:
    >>> cell = from_edges([('skip_connect', 0, 3)])
    >>> rank(cell)
    12366
  """
  return load(table).rank(_code_of(cell))


def regret(cell: Cell | str, table: pathlib.Path | str | None = None) -> float:
  """Returns the percent points by which a cell is less accurate than the best one.

  Args:
    cell: the cell or its text.
    table: see `load`.

  Raises:
    ValueError: as for `accuracy`.

  Example:
    >>> cell = from_edges([('skip_connect', 0, 3)])
    >>> round(regret(cell), 2)
    7.51
  """
  return load(table).regret(_code_of(cell))


def load(table: pathlib.Path | str | None = None) -> Table:
  """Returns a table of accuracies; it is read once in a process.

  Args:
    table: a CSV file with the columns `cell` and `accuracy`, in percent. None for the table of the
      extra `nasbench`, the package analog-nasbench. That one is a retraining of all cells on
      CIFAR-10 (arXiv 2506.18495). It does not hold NAS-Bench-201's own numbers.

  Raises:
    ValueError: the table is not there, or a row is wrong; the sentence says what to do.

  Example:
    >>> load().num_cells
    15625
  """
  return nas_bench_table.of_package() if table is None else nas_bench_table.of_file(table)


def _code_of(cell: Cell | str) -> int:
  return (from_text(cell) if isinstance(cell, str) else cell).code
