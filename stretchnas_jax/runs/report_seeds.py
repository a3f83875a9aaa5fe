"""The page of several seeds of one run: means with intervals, and how far their cells agree."""

import pathlib
from collections import Counter
from typing import Any

from stretchnas_jax.cells import search_course
from stretchnas_jax.cells.search_result import edges_of
from stretchnas_jax.cells.space import CELL_TYPES
from stretchnas_jax.runs import (
  history,
  json_files,
  overview,
  report_method,
  report_parts,
  statistics,
)
from stretchnas_jax.runs.overview import Overview
from stretchnas_jax.runs.report_parts import Page, percent
from stretchnas_jax.views import line_chart, page, tables
from stretchnas_jax.views.page import Section

_MOST_EDGES = 60


def page_of(path: pathlib.Path) -> Page:
  """Returns the content of the page of several seeds.

  Args:
    path: the folder of their folders.
  """
  runs = [overview.read(one) for one in overview.each_of(path)]
  wanted = _wanted(path)
  sections = [
    Section('Result', _result(runs, wanted)),
    Section('Cells', _agreement(runs)),
    Section('Curves', _curves(runs)),
  ]
  if runs:
    sections += [report_parts.repeat(_of_all(path, runs[0])), report_parts.data(runs[0])]
  lead = f'{len(runs)} of {wanted} seeds have begun.'
  return f'Seeds {path.name}', lead, sections, None


def _wanted(path: pathlib.Path) -> int:
  try:
    return len(json_files.read_object(path / 'config.json')['seeds'])
  except (ValueError, OSError, KeyError, TypeError):
    return 0


def _of_all(path: pathlib.Path, run: Overview) -> Overview:
  """Returns the facts of a seed with the command that began all seeds."""
  try:
    record = json_files.read_object(path / 'run.json')
  except (ValueError, OSError):
    record = {}
  return run._replace(path=path, record={**run.record, **record})


def _result(runs: list[Overview], wanted: int) -> list[str]:
  values = [run.accuracy for run in runs if run.state == 'finished' and run.accuracy is not None]
  found = statistics.summarize(values)
  interval = found.interval
  tested = [run.result.get('test_accuracy') is not None for run in runs if run.result]
  trained = bool(runs) and runs[0].kind == 'train'
  name = 'Test accuracy' if trained and all(tested) else 'Validation accuracy'
  cards = [
    *([('Method', report_method.name_of(runs[0]))] if runs and runs[0].kind == 'search' else []),
    ('Config', report_parts.config_name(runs[0]) if runs else '-'),
    ('Data', report_parts.data_name(runs[0]) if runs else '-'),
    (f'{name}, mean', percent(found.mean, 2)),
    ('95 % interval' if found.n > 2 else 'Range', '-' if interval is None else
     f'{interval[0]:.2%} to {interval[1]:.2%}'),
    ('Finished seeds', f'{found.n} of {wanted}'),
  ]  # fmt: skip
  header = ['seed', 'state', 'epochs', 'accuracy', 'weights']
  rows = [[run.seed, run.state, run.epoch, run.accuracy, run.params] for run in runs]
  table = page.scrolled(tables.page(header, rows, 'All seeds'), 'all seeds')
  text = "The interval is Student's t interval of the mean over seeds; two seeds give their range."
  notes = [page.paragraph(run.note, 'warning') for run in runs if run.note]
  return [page.cards(cards), page.paragraph(text, 'note'), table, *notes]


def _agreement(runs: list[Overview]) -> list[str]:
  """Returns in how many cells each edge is, and with the same operation."""
  found = [history.known_cell(run.result.get('genotype')) for run in runs if run.result]
  cells = [cell for cell in found if cell is not None]
  if len(cells) < 2:
    return [page.paragraph('Two finished seeds are needed to compare their cells.', 'note')]
  parts = []
  for name in CELL_TYPES:
    each = [search_course.by_edge(edges_of(cell, name)) for cell in cells]
    edges = Counter(edge for one in each for edge in one)
    alike = Counter((edge, ' + '.join(ops)) for one in each for edge, ops in one.items())
    if not edges:
      continue  # NAS-Bench-201 has no reduction cell
    in_all = sum(count == len(cells) for count in edges.values())
    same = sum(count == len(cells) for count in alike.values())
    text = (
      f'{name} cell: {in_all} of {len(edges)} edges are in all {len(cells)} cells, {same} of them '
      'with the same operation.'
    )
    rows = [_row(edge, count, len(cells), alike) for edge, count in edges.most_common(_MOST_EDGES)]
    table = tables.page(['edge', 'cells', 'operations'], rows, f'Edges of the {name} cells')
    parts += [page.paragraph(text), page.folded(f'Edges of the {name} cells',
                                                page.scrolled(table, 'edges'))]  # fmt: skip
  return parts


def _row(edge: tuple[int, int], count: int, total: int, alike: Counter) -> list[Any]:
  ops = [(op, n) for (one, op), n in alike.most_common() if one == edge]
  words = ', '.join(f'{op} ({n})' for op, n in ops)
  return [f'{edge[0]}->{edge[1]}', f'{count} of {total}', words]


def _curves(runs: list[Overview]) -> list[str]:
  charts = []
  for title, name in (('Validation accuracy', 'val_accuracy'), ('Test accuracy', 'test_accuracy'),
                      ('Training accuracy', 'train_accuracy')):  # fmt: skip
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
      for line in run.lines:
        if isinstance(line.get(name), int | float) and 'epoch' in line:
          by_epoch.setdefault(line['epoch'], []).append(float(line[name]))
    series, band = [], []
    for epoch, values in sorted(by_epoch.items()):
      one = statistics.summarize(values)
      series.append((epoch, one.mean or 0.0))
      if one.interval is not None:
        band.append((epoch, *one.interval))
    svg = line_chart.svg(f'{title} by epoch', {'mean': series}, {'mean': band}, percent=True)
    if svg:
      charts.append(page.figure(svg, f'{title} by epoch: the mean of all seeds and its interval'))
  return [page.grid(charts)] if charts else []
