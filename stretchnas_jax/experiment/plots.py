"""The plot of an experiment."""

import json

from stretchnas_jax.architecture import genotype
from stretchnas_jax.experiment.spec import MEASURES
from stretchnas_jax.views import cells, charts


def draw(experiment, results):
  """SVG texts by the ending of their names.

  Args:
    experiment: an `Experiment`.
    results: of `collect.collect`.
  """
  rows, label = results['rows'], MEASURES[results['measure']]
  found = {}
  if any(row['series'] for row in rows.values()):
    found[''] = charts.curves(experiment.title, series_of(rows), experiment.x, label)
  else:
    # Other data and sizes than the paper's have other errors: rings only where they compare.
    as_published = results['as_published']
    found[''] = charts.dots(
      experiment.title, [dots_of(row, as_published) for row in rows.values()], label
    )
  if results['measure'] == 'depth':
    found |= drawn_cells(rows)
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
      cell = genotype.from_json(json.dumps(run['genotype']))
      title = f'{row["title"]}, seed {run["seed"]}'
      found[f'-{key}-seed-{run["seed"]}'] = cells.svg(cell, title=title)
  return found
