"""The charts of the searches, as SVG text."""

from collections.abc import Mapping
from typing import Any

from stretchnas_jax.views import charts

_LABEL = 'accuracy of the cell in the table, %'


def plots_of(results: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, str]:
  """Draws the last cells of all searches, and the accuracy of the cells of each epoch.

  Where supernets were measured, a third chart shows how well they rank cells at each epoch.

  Args:
    results: the result of `collect.collect`.
    keys: of the rows with a curve.

  Returns:
    SVG texts by the ending of their file names.
  """
  rows = results['rows']
  about = results['about']
  chance = results['chance']['a cell drawn from all']
  head = f'Cells found in NAS-Bench-201\n{about}\n'
  head += f'Cells drawn from all: median {chance["median"]:.1f}, mean {chance["mean"]:.1f}'
  of_epochs = f'Cells of each epoch in NAS-Bench-201: means over seeds\n{about}'
  dots = [
    charts.DotRow(
      f'{row["title"]} (n = {row["n"]})', row['accuracies'], row['mean'], row['interval']
    )
    for row in rows.values()
  ]
  series = {
    f'{rows[key]["title"]} (n = {rows[key]["n"]})': [
      charts.CurvePoint(point['epoch'], point['mean'], point['interval'])
      for point in rows[key]['curve']
    ]
    for key in keys
    if key in rows
  }
  taus = {
    f'{rows[key]["title"]} (n = {rows[key]["taus"][-1]["n"]})': [
      charts.CurvePoint(point['epoch'], point['mean'], point['interval'])
      for point in rows[key]['taus']
    ]
    for key in keys
    if key in rows and rows[key]['taus']
  }
  drawn = {
    '': charts.svg_of(charts.dots(head, dots, _LABEL)),
    '-epochs': charts.svg_of(
      charts.curves(of_epochs, series, 'epoch of the search', _LABEL, is_band=True)
    ),
  }
  if taus:
    head = f'Order of random cells by supernets and by NAS-Bench-201: means over seeds\n{about}'
    drawn['-ranking'] = charts.svg_of(
      charts.curves(head, taus, 'epoch of the search', "Kendall's tau", is_band=True)
    )
  return drawn
