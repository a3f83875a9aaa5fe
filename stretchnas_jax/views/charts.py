"""Charts as SVG text: rows of dots, and curves, with their intervals."""

import collections
import math
from xml.sax.saxutils import escape

COLOURS = ('#0b5fa5', '#b5390e', '#3f7d20', '#7b4ba3', '#b8860b', '#007a87', '#a0356b', '#555555')
INK, GREY, LIGHT = '#1a1a1a', '#7a7a7a', '#dcdcdc'
MARGIN, LINE = 16, 26
MOST_PLACES = 12  # on an axis whose places are all named


def text(x, y, words, anchor='middle', colour=INK):
  return (
    f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
  )


def line(points, colour, dash='', width=2):
  places = ' '.join(f'{x:.1f},{y:.1f}' for x, y in points)
  return (
    f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}" '
    f'stroke-dasharray="{dash}"/>'
  )


def dot(x, y, radius, fill, stroke):
  return (
    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{stroke}" '
    'stroke-width="1.5"/>'
  )


def document(width, height, parts):
  head = (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
    f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif" '
    'font-size="11">'
  )
  return '\n'.join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, '</svg>', ''])


def ticks(low, high, most=6):
  """Round numbers within an interval."""
  spacing = 10.0 ** math.floor(math.log10(high - low))
  spacing = next(s for m in (0.1, 0.2, 0.5, 1, 2, 5) if (high - low) / (s := m * spacing) <= most)
  return [i * spacing for i in range(math.ceil(low / spacing), math.floor(high / spacing) + 1)]


def limits(values):
  """An interval with some room around the values."""
  low, high = min(values), max(values)
  room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
  return low - room, high + room


def dots(title, rows, label):
  """One row below another, each with its values, their mean and its interval.

  Args:
    title: above all.
    rows: `[(name, values, mean, interval, published)]`; mean, interval and published may be None.
    label: what the values are.

  Returns:
    The text of an SVG file.
  """
  seen = [x for _, values, _, bar, paper in rows for x in (*values, *(bar or ()), paper)]
  low, high = limits([x for x in seen if x is not None] or [0.0, 1.0])
  left = MARGIN + 6.2 * max(len(name) for name, *_ in rows) + 10
  width, top = left + 360 + MARGIN, 3.4 * MARGIN
  place = lambda value: left + 360 * (value - low) / (high - low)
  bottom = top + LINE * len(rows)
  parts = [text(MARGIN, 1.4 * MARGIN, title, 'start')]
  for tick in ticks(low, high):
    parts += [
      line([(place(tick), top - 6), (place(tick), bottom)], LIGHT, width=1),
      text(place(tick), bottom + 14, f'{tick:g}'),
    ]
  for i, (name, values, mean, bar, paper) in enumerate(rows):
    y = top + LINE * (i + 0.5)
    parts.append(text(left - 10, y + 4, name, 'end', INK if values else GREY))
    if paper is not None:
      parts.append(dot(place(paper), y, 5, 'none', GREY))
    if bar:
      parts.append(line([(place(bar[0]), y), (place(bar[1]), y)], COLOURS[0], width=2.5))
    if mean is not None:
      parts.append(dot(place(mean), y, 4, COLOURS[0], COLOURS[0]))
    # Equal ones side by side, so that they can be counted.
    for value, count in collections.Counter(values).items():
      places = (y + 6 * (j - (count - 1) / 2) for j in range(count))
      parts += [dot(place(value), at, 2, LIGHT, GREY) for at in places]
    if mean is None and paper is None:
      parts.append(text(left + 6, y + 4, 'not run', 'start', GREY))
  parts += [text(left + 180, bottom + 32, label), legend(left, 2.6 * MARGIN, rows)]
  return document(width, bottom + 44, parts)


def legend(x, y, rows):
  words = 'mean with its 95 % interval; small: single seeds'
  if any(paper is not None for *_, paper in rows):
    words += '; ring: the paper'
  return text(x, y, words, 'start', GREY)


def curves(title, series, x_label, y_label):
  """Lines with intervals.

  Args:
    title: above all.
    series: `{name: [(x, mean, interval, hollow)]}`; a point whose mean is None is left out.
    x_label, y_label: of the axes.

  Returns:
    The text of an SVG file.
  """
  points = {
    name: sorted((p for p in found if p[1] is not None), key=lambda p: p[0])
    for name, found in series.items()
  }
  flat = [point for found in points.values() for point in found]
  x_low, x_high = limits([p[0] for found in series.values() for p in found])
  y_low, y_high = limits([v for _, mean, bar, _ in flat for v in (mean, *(bar or ()))] or [0, 1])
  left, top, wide, high = 60, 3 * MARGIN, 420, 280
  x = lambda value: left + wide * (value - x_low) / (x_high - x_low)
  y = lambda value: top + high * (y_high - value) / (y_high - y_low)
  bottom = top + high
  parts = [text(MARGIN, 1.4 * MARGIN, title, 'start')]
  for tick in ticks(y_low, y_high):
    parts += [
      line([(left, y(tick)), (left + wide, y(tick))], LIGHT, width=1),
      text(left - 6, y(tick) + 4, f'{tick:g}', 'end'),
    ]
  places = sorted({p[0] for found in series.values() for p in found})
  for value in places if len(places) <= MOST_PLACES else ticks(places[0], places[-1]):
    parts.append(text(x(value), bottom + 15, f'{value:g}'))
  parts += [text(left + wide / 2, bottom + 34, x_label), text(left, top - 8, y_label, 'start')]
  for i, (name, found) in enumerate(points.items()):
    # Side by side, so that intervals at the same x can be told apart.
    shift, colour = 3 * (i - (len(points) - 1) / 2), COLOURS[i % len(COLOURS)]
    parts.append(line([(x(a) + shift, y(mean)) for a, mean, _, _ in found], colour, width=1.5))
    for a, mean, bar, hollow in found:
      if bar:
        parts.append(line([(x(a) + shift, y(bar[0])), (x(a) + shift, y(bar[1]))], colour, width=1))
      parts.append(dot(x(a) + shift, y(mean), 4, 'white' if hollow else colour, colour))
    words = name if found else f'{name}: not run'
    parts.append(text(left + wide + 16, top + 10 + 17 * i, words, 'start', colour))
  width = left + wide + 32 + 6.4 * max(len(name) + 9 for name in points)
  return document(width, bottom + 46, parts)
