"""How values show themselves in a notebook."""

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
