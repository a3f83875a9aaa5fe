"""How values show themselves in a notebook."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stretchnas_jax.cells.topology import TopologyTable
from stretchnas_jax.views import tables

_MOST_CODES = 8  # of a row, that are written out


def table_page(table: TopologyTable) -> str:
  """Returns a topology table as HTML: a row for each node that chooses, with its codes."""
  if not table.has_rows:
    side = 'in-edges' if table.by == 'target' else 'out-edges'
    return f'<p>no rows: the {table.k} strongest {side} of each node stay</p>'
  rows = []
  for i, (codes, mask) in enumerate(zip(np.asarray(table.codes), np.asarray(table.mask))):
    real = codes[mask]
    shown = [' '.join(map(str, np.flatnonzero(code))) or 'none' for code in real[:_MOST_CODES]]
    more = f' and {len(real) - _MOST_CODES} more' if len(real) > _MOST_CODES else ''
    rows.append([i, len(real), f'{", ".join(shown)}{more}'])
  caption = f'codes by {table.by}; numbers are edges'
  return tables.page(['row', 'codes', 'edges of each code'], rows, caption)


def facts_page(facts: Mapping[str, Any]) -> str:
  """Returns names with their values as a table.

  Args:
    facts: numbers and texts; others are shown as Python shows them.
  """
  return tables.page(['name', 'value'], [[name, _plain(value)] for name, value in facts.items()])


def rows_page(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Returns a table of several values by name.

  Args:
    names: of the columns.
    rows: a value for each.
  """
  return tables.page(names, [[_plain(value) for value in row] for row in rows])


def _plain(value: Any) -> Any:
  return value if isinstance(value, int | float | None) else str(value)
