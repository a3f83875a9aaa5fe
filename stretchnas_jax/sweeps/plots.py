"""The plots of an experiment, as SVG text."""

from collections.abc import Mapping, Sequence
from typing import Any

from stretchnas_jax.cells import genotype
from stretchnas_jax.sweeps.searched import HISTORY, mean_curves, search_title
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
    found |= _drawn_cells(results['rows'], results['scale'])
  counts = [len(search['runs']) for search in results['searches'].values()]
  for metric, series in mean_curves(results['searches']).items():
    head = f'{experiment.title}: {HISTORY[metric]}, mean of the seeds'
    title = _title(head, results['scale'], counts)
    x = _with_remark('epoch of the search', results)
    named = {search_title(name, results): points for name, points in series.items()}
    chart = charts.curves(title, named, x, HISTORY[metric])
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
  counts = [row['n'] for row in rows.values() if row['status'] != 'of others']
  title = _title(experiment.title, results['scale'], counts)
  if any(row['series'] for row in rows.values()):
    label += _interval_words(counts)
    return charts.curves(title, _series_of(rows), _with_remark(experiment.x, results), label)
  # Other data and sizes than the paper's have other errors, so the paper's marks mislead there.
  shown = [row for row in rows.values() if as_published or row['status'] != 'of others']
  dot_rows = [_dot_row(row, as_published) for row in shown]
  return charts.dots(title, dot_rows, _with_remark(label, results))


def _title(head: str, scale: str, counts: Sequence[int]) -> str:
  """Returns the lines above a chart: its name, the data set, the scale, the number of seeds."""
  found = sorted(set(counts))
  if not any(found):
    seeds = 'not run'
  elif len(found) == 1:
    seeds = f'n = {found[0]} seeds' if found[0] > 1 else 'n = 1 seed'
  else:
    seeds = f'n = {found[0]} to {found[-1]} seeds'
  return f'{head}\n{scale[:1].upper()}{scale[1:]}; {seeds}'


def _interval_words(counts: Sequence[int]) -> str:
  """Returns the words about the lines at the points of a curve."""
  words = ['95 % t intervals'] if max(counts, default=0) > 2 else []
  words += ['ranges where n = 2'] if 2 in counts else []
  return f'\nmeans, {", ".join(words)}' if words else ''


def _with_remark(label: str, results: Mapping[str, Any]) -> str:
  """Returns the name of an x axis; at a small scale with what the numbers in names stand for."""
  layers = results['layers']
  if not layers:
    return label
  used = ', '.join(f'{ours} for {paper}' for paper, ours in layers.items())
  return f'{label}\nNames carry the numbers of the paper;\nlayers here: {used}'


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
  name = f'{row["title"]} (n = {len(values)})' if values else row['title']
  return charts.DotRow(name, values, row['mean'], row['interval'], published)


def _drawn_cells(rows: Mapping[str, Mapping[str, Any]], scale: str) -> dict[str, str]:
  """Draws the cells of every search that is done, whatever their depth: none is picked."""
  found = {}
  for key, row in rows.items():
    for run in row['runs']:
      cell = genotype.Genotype.from_dict(run['genotype'])
      title = f'{row["title"]}, seed {run["seed"]} of n = {row["n"]}: {scale}'
      found[f'-{key}-seed-{run["seed"]}'] = cells.svg(cell, title=title)
  return found
