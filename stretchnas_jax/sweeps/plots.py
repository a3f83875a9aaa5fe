"""The plots of an experiment, as SVG text."""

from collections.abc import Mapping
from typing import Any

from stretchnas_jax.cells import genotype
from stretchnas_jax.sweeps.searched import HISTORY, mean_curves
from stretchnas_jax.sweeps.spec import MEASURES, Experiment
from stretchnas_jax.views import cells, charts


def plots_of(experiment: Experiment, results: Mapping[str, Any]) -> dict[str, str]:
  """Draws all plots of an experiment.

  Args:
    experiment: the experiment.
    results: the result of `collect.collect`.

  Returns:
    SVG texts by the ending of their file names.

  Raises:
    ValueError: matplotlib is not installed.
  """
  found = {'': charts.svg_of(main_chart(experiment, results))}
  if results['measure'] == 'depth':
    found |= _drawn_cells(results['rows'])
  for metric, series in mean_curves(results['searches']).items():
    title = f'{experiment.title}: {HISTORY[metric]}, mean of the seeds'
    chart = charts.curves(title, series, 'epoch of the search', HISTORY[metric])
    found[f'-{metric}'] = charts.svg_of(chart)
  return found


def main_chart(experiment: Experiment, results: Mapping[str, Any]) -> Any:
  """Draws curves where runs belong to series, and rows of dots otherwise.

  Args:
    experiment: the experiment.
    results: the result of `collect.collect`.

  Returns:
    A matplotlib figure.
  """
  rows = results['rows']
  as_published = results['as_published']
  label = MEASURES[results['measure']]
  if any(row['series'] for row in rows.values()):
    x = experiment.x if as_published else f'{experiment.x} (numbers of the paper)'
    return charts.curves(experiment.title, _series_of(rows), x, label)
  # Other data and sizes than the paper's have other errors, so the paper's marks mislead there.
  shown = [row for row in rows.values() if as_published or row['status'] != 'of others']
  return charts.dots(experiment.title, [_dot_row(row, as_published) for row in shown], label)


def _series_of(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, list[charts.CurvePoint]]:
  """Returns the points of each curve, by its name."""
  series: dict[str, list[charts.CurvePoint]] = {}
  for row in rows.values():
    if row['series']:
      point = charts.CurvePoint(row['x'], row['mean'], row['interval'], row['hollow'])
      series.setdefault(row['series'], []).append(point)
  return series


def _dot_row(row: Mapping[str, Any], as_published: bool) -> charts.DotRow:
  """Returns one row of dots; the paper's figure is left out at other scales than its own."""
  values = [run['value'] for run in row['runs']]
  published = row['paper']['error'] if as_published else None
  return charts.DotRow(row['title'], values, row['mean'], row['interval'], published)


def _drawn_cells(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
  """Draws the cells of every search that is done, whatever their depth: none is picked."""
  found = {}
  for key, row in rows.items():
    for run in row['runs']:
      cell = genotype.Genotype.from_dict(run['genotype'])
      title = f'{row["title"]}, seed {run["seed"]}'
      found[f'-{key}-seed-{run["seed"]}'] = cells.svg(cell, title=title)
  return found
