"""The charts of the searches, as SVG text."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.nas_bench_201.rows import ROWS
from stretchnas_jax.views import charts

_LABEL = 'accuracy of the cell in the table, %'
_BAND = 'means over seeds with 95 % t intervals, ranges of two seeds'


def plots_of(results: Mapping[str, Any]) -> dict[str, str]:
  """Draws the last cells of all searches, and the accuracy of the cells of each epoch.

  Where supernets were measured, a third kind of chart shows how well they rank cells at each epoch.
  Each group of rows has its own chart of epochs, and of ranks.

  Args:
    results: the result of `collect.collect`.

  Returns:
    SVG texts by the ending of their file names.
  """
  rows, chance = results['rows'], results['chance']['a cell drawn from all']
  about = f'{results["about"]}\nAccuracies: {results["source"]}'
  head = f'Cells found in NAS-Bench-201\n{about}\n'
  head += f'Cells drawn from all: median {chance["median"]:.1f}, mean {chance["mean"]:.1f}'
  dots = [
    charts.DotRow(
      f'{row["title"]} (n = {row["n"]})', row['accuracies'], row['mean'], row['interval']
    )
    for row in rows.values()
  ]
  drawn = {'': charts.svg_of(charts.dots(head, dots, _LABEL))}
  for group in dict.fromkeys(row.group.chart for row in ROWS.values()):
    chosen = [row for key, row in rows.items() if ROWS[key].group.chart == group]
    of_cells = f'Cells of each epoch in NAS-Bench-201: {_BAND}\n{about}'
    of_order = f'Order of random cells by supernets and by the table: {_BAND}\n{about}'
    for ending, heading, label, kind in (
      ('-epochs', of_cells, _LABEL, 'curve'), ('-ranking', of_order, "Kendall's tau", 'taus'),
    ):  # fmt: skip
      if series := {_name(row, kind): _points(row[kind]) for row in chosen if row[kind]}:
        chart = charts.curves(heading, series, 'epoch of the search', label, is_band=True)
        drawn[f'{group}{ending}'] = charts.svg_of(chart)
  return drawn


def _name(row: Mapping[str, Any], kind: str) -> str:
  return f'{row["title"]} (n = {row[kind][-1]["n"]})'


def _points(found: Sequence[Mapping[str, Any]]) -> list[charts.CurvePoint]:
  return [charts.CurvePoint(one['epoch'], one['mean'], one['interval']) for one in found]
