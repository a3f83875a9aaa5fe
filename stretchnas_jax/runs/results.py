"""The result of a run in Python: a dict, which notebooks show as a table."""

from typing import Any

from stretchnas_jax.cells import search_result
from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.views import cells, notebooks


class Result(dict[str, Any]):
  """The content of `result.json`; of several seeds their means, and each result under `runs`."""

  @property
  def cell(self) -> AnyGenotype | None:
    """Returns the cell that a search found, with your own operations; None where there is none."""
    fields = self.get('genotype')
    return None if fields is None else search_result.cell_of(fields)

  def _repr_html_(self) -> str:
    """Returns the figures as a table, and the drawing of the cell."""
    found = self.cell
    figures = {name: value for name, value in self.items() if name not in ('genotype', 'runs')}
    runs = self.get('runs') or []
    names = [name for name in figures if any(name in run for run in runs)]
    rows = [[run.get(name) for name in names] for run in runs]
    each = notebooks.rows_page(names, rows) if rows else ''
    return notebooks.facts_page(figures) + each + ('' if found is None else cells.svg(found))
