"""The page of a training: accuracies, curves, confused classes, worst images, sizes."""

import base64
import contextlib
from typing import Any

from stretchnas_jax.cells import nas_bench_cells
from stretchnas_jax.cells.space import CELL_TYPES
from stretchnas_jax.runs import (
  report_confusion,
  report_parts,
  report_scores,
  report_search,
  statistics,
)
from stretchnas_jax.runs.overview import Overview
from stretchnas_jax.runs.report_parts import Page, percent
from stretchnas_jax.views import graph_picture, heat_map, page
from stretchnas_jax.views.page import Section

_WIDTH = 1.6  # pixels of an edge
_MOST_COUNTED = 20  # classes of a matrix that has room for numbers


def page_of(run: Overview, why: str = '') -> Page:
  """Returns the content of the page of a training.

  Args:
    run: the training.
    why: the confusion of its classes could not be measured.
  """
  sections = [
    Section('Result', [*report_parts.state_notes(run), *_result(run)]),
    _curves(run),
    *_confusion(run, why),
    Section('Cell', _cells(run)),
    _sizes(run),
    report_parts.repeat(run),
    report_parts.data(run),
  ]
  return f'Training {run.path.name}', report_parts.lead_of(run), sections, None


def _result(run: Overview) -> list[str]:
  result = run.result
  last = run.lines[-1] if run.lines else {}
  test = result.get('test_accuracy', last.get('test_accuracy'))
  cards = [
    ('Config', report_parts.config_name(run)),
    ('Data', report_parts.data_name(run)),
    ('Test accuracy', percent(test, 2)),
  ]
  if (top5 := result.get('test_top5_accuracy')) is not None:
    cards.append(('Top-5 test accuracy', percent(top5, 2)))
  if (val := result.get('last_val_accuracy', last.get('val_accuracy'))) is not None:
    cards.append(('Validation accuracy', percent(val, 2)))
  cards += [
    ('Epochs', f'{run.epoch} of {run.epochs or "?"}'),
    ('Time', report_parts.duration(report_parts.seconds_of(run))),
    ('Seed', str(run.seed)),
  ]
  parts = [page.cards(cards)]
  if 'best_epoch' in result:
    best = percent(result.get('best_val_accuracy'), 2)
    parts.append(page.paragraph(f'The best validation accuracy is {best}, in epoch '
                                f'{result["best_epoch"]}.'))  # fmt: skip
  text = 'One seed says little about the method: its spread shows in several runs, with --seeds.'
  return [*parts, _certainty(run, test), page.paragraph(text, 'note')]


def _certainty(run: Overview, accuracy: Any) -> str:
  """Returns how far the number of test images leaves the accuracy of this network open."""
  count = report_parts.field(dict(run.record), 'data.parts.test.images')
  if not isinstance(accuracy, int | float) or not isinstance(count, int) or count < 1:
    return ''
  low, high = statistics.share_interval(accuracy, count)
  return page.paragraph(
    f'The test has {count:,} images. That leaves the accuracy of this network open from '
    f'{percent(low, 2)} to {percent(high, 2)} (95 % interval).'
  )


def _curves(run: Overview) -> Section:
  charts = report_search.curves_of(run, {
    'Loss': ({'training': 'train_loss', 'validation': 'val_loss', 'test': 'test_loss'}, False),
    'Accuracy': ({'training': 'train_accuracy', 'validation': 'val_accuracy',
                  'test': 'test_accuracy'}, True),
  })  # fmt: skip
  found = [page.figure(svg, f'{name} by epoch') for name, svg in charts if svg]
  return Section('Curves', [page.grid(found)] if found else [])


def _confusion(run: Overview, why: str) -> list[Section]:
  """Returns the sections that need the network; a sentence where it has not been measured."""
  found = report_confusion.read(run.path)
  try:
    return [_matrix(found), _worst(found)] if found else [_unknown(run, why)]
  except (KeyError, TypeError, ValueError, IndexError):  # the file is damaged
    return [_unknown(run, why)]


def _unknown(run: Overview, why: str) -> Section:
  text = (
    f'Which classes are confused is not known here{why and f": {why}"}. This command measures it, '
    'where the images and a checkpoint are there:'
  )
  command = f'python -m stretchnas_jax.report {run.path}'
  return Section('Confused classes', [page.paragraph(text), page.command(command)])


def _matrix(found: dict[str, Any]) -> Section:
  counts, names = found['counts'], [str(name) for name in found['classes']]
  totals = [max(sum(row), 1) for row in counts]
  shades = [[count / total for count in row] for row, total in zip(counts, totals)]
  kept = [[i == k for k in range(len(names))] for i in range(len(names))]
  labels = [
    [f'{one} as {other}: {count}' for other, count in zip(names, row)]
    for one, row in zip(names, counts)
  ]
  drawing = heat_map.svg(
    'confusion', 'Confused classes: true ones by predicted ones', heat_map.short(names, 9),
    heat_map.short(names, 5), shades, kept, 40, labels,
    counts if len(names) <= _MOST_COUNTED else None,
  )  # fmt: skip
  caption = (
    'Rows: true classes. Columns: predictions. A stronger colour is a larger part of its row.'
  )
  pairs = sorted(
    ((count, one, other) for i, (one, row) in enumerate(zip(names, counts))
     for k, (other, count) in enumerate(zip(names, row)) if i != k and count),
    reverse=True,
  )  # fmt: skip
  words = [f'{count} images of {one} were taken for {other}' for count, one, other in pairs[:5]]
  more = found['num_classes'] - len(names)
  return Section('Confused classes', [
    page.paragraph(f'{found["wrong"]} of {found["images"]} images are wrong, out of '
                   f'{found["total"]} {found["part"]} images.'),
    page.items(words),
    page.figure(drawing, caption, scrolls=True),
    page.paragraph(f'{more} more classes are not shown.', 'note') if more > 0 else '',
  ])  # fmt: skip


def _worst(found: dict[str, Any]) -> Section:
  photos = ''.join(
    page.image(
      base64.b64decode(one['png'], validate=True),
      f'an image of {one["label"]}',
      f'{one["label"]}, taken for {one["guess"]} ({one["share"]:.0%})',
    )
    for one in found['worst']
  )
  return Section('Worst images', [f'<div class="photos">{photos}</div>'] if photos else [])


def _cells(run: Overview) -> list[str]:
  cell = run.config.get('genotype') or run.result.get('genotype') or {}
  parts: list[str] = []
  for name in CELL_TYPES:
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
      edges = sorted({(int(src), int(dst)) for _, src, dst in cell[name]}, key=lambda e: e[::-1])
      words = report_scores.labels_of(cell, name)
      looks = [graph_picture.Look(words[edge], _WIDTH, False) for edge in edges]
      inputs = 1 if nas_bench_cells.KEY in cell else 2
      drawing = graph_picture.svg(name, edges, looks, max(map(len, words.values())), inputs)
      parts += [page.heading(f'{name.capitalize()} cell')]
      parts.append(page.figure(drawing, f'The {name} cell', scrolls=True))
      parts.append(page.paragraph(report_scores.words_of(cell, name), 'note'))
  return parts


def _sizes(run: Overview) -> Section:
  result = run.result
  words = (('Weights', 'params'), ('Multiply-adds of an image', 'macs'),
           ('FLOPs as papers print them', 'flops_ptflops'), ('C of the first cells', 'channels'),
           ('Cells', 'num_layers'))  # fmt: skip
  return Section('Sizes', [page.facts(
    (word, f'{result[name]:,}' if isinstance(result.get(name), int) else None)
    for word, name in words
  )] if result else [])  # fmt: skip
