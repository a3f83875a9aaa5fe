"""The plot of an experiment."""

from stretchnas_jax.cells import genotype
from stretchnas_jax.sweeps import searched
from stretchnas_jax.sweeps.spec import MEASURES
from stretchnas_jax.views import cells, charts


def draw(experiment, results):
  """SVG texts by the ending of their names.

  Args:
    experiment: an `Experiment`.
    results: of `collect.collect`.
  """
  rows, label, as_published = results['rows'], MEASURES[results['measure']], results['as_published']
  found = {}
  if any(row['series'] for row in rows.values()):
    x = experiment.x if as_published else f'{experiment.x} (numbers of the paper)'
    found[''] = charts.curves(experiment.title, series_of(rows), x, label)
  else:
    # Other data and sizes than the paper's have other errors: rings only where they compare.
    shown = [row for row in rows.values() if as_published or row['status'] != 'of others']
    found[''] = charts.dots(experiment.title, [dots_of(row, as_published) for row in shown], label)
  if results['measure'] == 'depth':
    found |= drawn_cells(rows)
  for name, series in searched.curves(results['searches']).items():
    title = f'{experiment.title}: {searched.HISTORY[name]}, mean of the seeds'
    found[f'-{name}'] = charts.curves(title, series, 'epoch of the search', searched.HISTORY[name])
  return found


def series_of(rows):
  """`{series: [(x, mean, interval, hollow)]}`"""
  series = {}
  for row in rows.values():
    if row['series']:
      point = (row['x'], row['mean'], row['interval'], row['hollow'])
      series.setdefault(row['series'], []).append(point)
  return series


def dots_of(row, as_published):
  values = [run['value'] for run in row['runs']]
  paper = row['paper']['error'] if as_published else None
  return row['title'], values, row['mean'], row['interval'], paper


def drawn_cells(rows):
  """The cells of every search that is done, whatever their depth: none is picked."""
  found = {}
  for key, row in rows.items():
    for run in row['runs']:
      cell = genotype.Genotype.from_dict(run['genotype'])
      title = f'{row["title"]}, seed {run["seed"]}'
      found[f'-{key}-seed-{run["seed"]}'] = cells.svg(cell, title=title)
  return found
