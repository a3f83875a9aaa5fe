"""The page of a search: its cell in every epoch, how decided it is, curves, scores."""

import contextlib
from typing import Any

from stretchnas_jax.cells import decidedness, search_course
from stretchnas_jax.cells.choices import Choice
from stretchnas_jax.cells.search_course import Epoch
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import (
  history,
  json_files,
  judging,
  report_method,
  report_parts,
  report_scores,
)
from stretchnas_jax.runs.history import History
from stretchnas_jax.runs.overview import Overview
from stretchnas_jax.runs.report_parts import Page, percent
from stretchnas_jax.views import line_chart, page, tables
from stretchnas_jax.views.page import Section

_MOST_WARNINGS = 12

_TABLE = "Cell's accuracy in a table of NAS-Bench-201's cells"

_LEGEND = (
  'A wide line is an edge with a large score. A dashed line with the sign ≈ is a near tie: '
  'another operation is nearly as strong. Thin grey lines are edges that are not in the cell. The '
  'inputs are the outputs of the cells before.'
)


def page_of(run: Overview) -> Page:
  """Returns the content of the page of a search."""
  found, note = _history(run)
  course = [] if found is None else judging.course(found, run.epochs or 0)
  sections = [
    Section('Result', [*report_parts.state_notes(run), *note, *_result(run, course)]),
    *_cells(run, found, course),
    _certainty(course),
    _curves(run, course),
    Section('Scores', report_scores.heat_maps(found) if found is not None else []),
    _sizes(run),
    report_parts.repeat(run, _next(run)),
    report_parts.data(run),
  ]
  data = report_scores.for_script(found, course) if found is not None and course else None
  return f'Search {run.path.name}', report_parts.lead_of(run), sections, data


def _history(run: Overview) -> tuple[History | None, list[str]]:
  try:
    found = history.load_history(run.path)
  except FileNotFoundError:
    return None, []
  except (ValueError, OSError) as error:
    return None, [page.paragraph(faults.one_line(error), 'warning')]
  if not len(found.epochs):
    return None, []
  if found.facts is not None:
    return found, []
  text = 'This run has kept no scores, so widths of edges, ties and heat maps are not known.'
  return found, [page.paragraph(text, 'note')]


def _result(run: Overview, course: list[Epoch]) -> list[str]:
  """Returns the figures that matter most, and how certain the cell is."""
  last = course[-1] if course else None
  judged = last.judgement if last is not None else None
  cards = [
    ('Method', report_method.name_of(run)),
    ('Config', report_parts.config_name(run)),
    ('Data', report_parts.data_name(run)),
    ('Validation accuracy', percent(run.accuracy, 2)),
  ]
  if looked_up := _in_table(run):
    _, accuracy, rank = looked_up[-1]
    cards.append(('Cell in the table', f'{percent(accuracy, 2)}, rank {rank:,}'))
  if judged is not None:
    cards += [
      ('Choices decided', percent(judged.decided, 0)),
      ('Near ties', f'{len(judged.ties)} of {len(judged.choices)}'),
    ]
  cards += [
    ('Epochs', f'{run.epoch} of {run.epochs or "?"}'),
    ('Time', report_parts.duration(report_parts.seconds_of(run))),
    ('Seed', str(run.seed)),
  ]
  parts = [page.cards(cards)]
  if judged is not None:
    decided = judged.decided >= 0.9
    parts.append(
      page.paragraph(_sentence(decidedness.verdict(judged)), 'good' if decided else 'warning')
    )
  text = (
    'The validation accuracy is that of the supernet, a mixture of all operations. It is not the '
    'accuracy of the cell: for that the cell is trained from scratch.'
  )
  return [*parts, page.paragraph(text, 'note'), report_method.facts(run)]


def _source(run: Overview) -> str:
  """Returns whose accuracies the table holds, as kept."""
  lines = json_files.read_lines(run.path / 'genotypes.jsonl')
  return next((line['table_source'] for line in lines if 'table_source' in line), 'not kept')


def _in_table(run: Overview) -> list[tuple[int, float, int]]:
  """Returns epoch, accuracy and rank of the cells that NAS-Bench-201's table has, as kept."""
  rows = [
    [line.get(name) for name in ('epoch', 'table_accuracy', 'table_rank')]
    for line in json_files.read_lines(run.path / 'genotypes.jsonl')
  ]
  return [
    (epoch, accuracy / 100, rank)
    for epoch, accuracy, rank in rows
    if isinstance(epoch, int) and isinstance(accuracy, int | float) and isinstance(rank, int)
  ]


def _cells(run: Overview, found: History | None, course: list[Epoch]) -> list[Section]:
  if found is None or not course:
    return []
  epochs = [int(epoch) for epoch in found.epochs]
  parts = [page.slider(len(epochs), epochs[-1]) if len(epochs) > 1 else '']
  for name, drawing, text in report_scores.graphs(found, course):
    parts += [
      page.heading(f'{name.capitalize()} cell'),
      page.figure(drawing, f'The {name} cell', scrolls=True),
    ]
    parts.append(f'<p id="text-{tables.escaped(name)}" class="note">{tables.escaped(text)}</p>')
  names = f'Short names: {report_scores.short_names(found)}.'
  return [Section('Cell', [*parts, page.paragraph(_LEGEND, 'note'), page.paragraph(names, 'note')])]


def _certainty(course: list[Epoch]) -> Section:
  """Returns how decided the cell is, its ties, and the lines that the search has crossed."""
  judged = course[-1].judgement if course else None
  parts: list[str] = []
  if judged is not None:
    parts.append(page.items(_sentence(text) for text in decidedness.sentences(judged)))
    rows = [_row(choice) for choice in sorted(judged.choices, key=lambda choice: choice.margin)]
    header = ['cell', 'choice', 'first', 'share', 'second', 'share', 'lead', 'judgement']
    table = tables.page(header, rows, 'All choices of the decoding, the least certain first')
    parts.append(page.folded('All choices', page.scrolled(table, 'all choices')))
  warned = [
    f'Epoch {course[i].epoch}: {text}.'
    for i in range(len(course))
    for text in search_course.crossed(course[: i + 1])
  ]
  if warned:
    parts += [page.heading('Warnings on the way'), page.items(warned[-_MOST_WARNINGS:])]
    if len(warned) > _MOST_WARNINGS:
      more = len(warned) - _MOST_WARNINGS
      parts.append(page.paragraph(f'{more} earlier warnings are not listed.', 'note'))
  return Section('How decided it is', parts)


def _row(choice: Choice) -> list[Any]:
  words = 'near tie' if choice.tied else 'decided' if choice.decided else 'not decided'
  rival = choice.rival if choice.second else None
  return [choice.cell, choice.place, choice.first, choice.share, choice.second or None, rival,
          choice.margin, words]  # fmt: skip


def _curves(run: Overview, course: list[Epoch]) -> Section:
  charts = curves_of(run, {
    'Loss': ({'training': 'train_loss', 'validation': 'val_loss'}, False),
    'Accuracy': ({'training': 'train_accuracy', 'validation': 'val_accuracy',
                  'decoded cell': 'cell_accuracy'}, True),
    'Penalty r(beta)': ({'penalty': 'penalty'}, False),
    'Entropy in nats': ({'alpha': 'alpha_entropy', 'beta': 'beta_entropy'}, False),
  })  # fmt: skip
  judged = [(epoch.epoch, epoch.judgement) for epoch in course if epoch.judgement is not None]
  decided = {
    'decided': [(epoch, one.decided) for epoch, one in judged],
    'near ties': [(epoch, len(one.ties) / max(len(one.choices), 1)) for epoch, one in judged],
  }
  charts.insert(2, ('Choices', line_chart.svg('Choices by epoch', decided, percent=True)))
  looked_up = [(epoch, accuracy) for epoch, accuracy, _ in _in_table(run)]
  truth = {'trained cell': looked_up}
  charts.insert(2, (_TABLE, line_chart.svg(f'{_TABLE} by epoch', truth, percent=True)))
  parts = [page.grid(page.figure(svg, f'{name} by epoch') for name, svg in charts if svg)]
  if any('cell_accuracy' in line for line in run.lines):
    text = (
      'The decoded cell is measured with the weights of the supernet, each batch normalised by its '
      'own moments.'
    )
    parts.append(page.paragraph(text, 'note'))
  if looked_up:
    text = (
      'The accuracy in the table is that of the cell of each epoch after a training from scratch, '
      'by others. Where it falls while the validation accuracy rises, the search has collapsed. '
      f'The table: {_source(run)}.'
    )
    parts.append(page.paragraph(text, 'note'))
  return Section('Curves', parts if any(svg for _, svg in charts) else [])


def curves_of(
  run: Overview, charts: dict[str, tuple[dict[str, str], bool]]
) -> list[tuple[str, str]]:
  """Returns charts of the lines of metrics.

  Args:
    run: the run.
    charts: for each title the metric of each curve, and whether these are parts of 1.

  Returns:
    Titles with drawings; one without values is ''.
  """
  found = []
  for title, (names, is_part) in charts.items():
    series = {
      curve: [
        (line['epoch'], float(line[name]))
        for line in run.lines
        if 'epoch' in line and isinstance(line.get(name), int | float)
      ]
      for curve, name in names.items()
    }
    found.append((title, line_chart.svg(f'{title} by epoch', series, percent=is_part)))
  return found


def _sizes(run: Overview) -> Section:
  params = run.result.get('supernet_params')
  cell = _last_cell(run)
  facts: list[tuple[str, Any]] = [
    ('Supernet', f'{params:,} weights' if isinstance(params, int) else None)
  ]
  for name in ('normal', 'reduce'):
    edges = cell.get(name, ())
    counts: dict[str, int] = {}
    for op, *_ in edges:
      counts[str(op)] = counts.get(str(op), 0) + 1
    words = ', '.join(f'{count} {op}' for op, count in sorted(counts.items()))
    facts.append((f'{name} cell', f'{len(edges)} edges: {words}' if edges else None))
  text = f'python -m stretchnas_jax.describe {run.path / "genotype.json"}'
  note = page.paragraph('This command counts the weights and multiply-adds of a network of it:')
  return Section('Sizes', [page.facts(facts), *((note, page.command(text)) if run.result else ())])


def _last_cell(run: Overview) -> dict:
  found = run.result.get('genotype')
  with contextlib.suppress(ValueError, OSError):
    lines = history.load_history(run.path).genotypes
    found = found or (lines[-1] if lines else {})
  cell = history.known_cell(found)
  return {} if cell is None else cell.to_dict()


def _next(run: Overview) -> list[str]:
  """Returns the command that trains the cell."""
  if not run.result:
    return []
  text = (
    f'python -m stretchnas_jax.train --config=CONFIG --workdir={run.path}-trained '
    f'--genotype={run.path}'
  )
  return [page.paragraph('This trains the cell, with a config for your data:'), page.command(text)]


def _sentence(text: str) -> str:
  return f'{text[:1].upper()}{text[1:]}.'
