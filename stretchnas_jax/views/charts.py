"""Charts of measurements, drawn by matplotlib: rows of dots, curves, and panels of growth.

matplotlib is imported only here, and only where a chart is drawn.
"""

import collections
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_COLOURS = (
  '#0b5fa5', '#b5390e', '#3f7d20', '#7b4ba3', '#b8860b', '#007a87', '#a0356b', '#555555',
)  # fmt: skip
_GREY = '#7a7a7a'
_LIGHT = '#dcdcdc'
_MOST_NAMED = 12  # an axis with more different values gets round numbers instead
_STYLE = {
  'font.family': 'sans-serif',
  'font.size': 9,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'svg.fonttype': 'none',  # text stays text
  'svg.hashsalt': 'stretchnas_jax',  # equal charts are equal files
}


_Number = float | int


class DotRow(NamedTuple):
  """One row of a chart of dots.

  Attributes:
    name: its title.
    values: one number for each seed.
    mean: of the values, or None.
    interval: of the mean; of two values their range; or None.
    published: the paper's number, or None.
  """

  name: str
  values: Sequence[_Number]
  mean: _Number | None = None
  interval: Sequence[_Number] | None = None
  published: _Number | None = None


class CurvePoint(NamedTuple):
  """One point of a curve.

  Attributes:
    x: its place.
    mean: its height; a point without one is not drawn.
    interval: of the mean, or None.
    hollow: True for an open mark.
  """

  x: _Number
  mean: _Number | None
  interval: Sequence[_Number] | None = None
  hollow: bool = False


def require_matplotlib() -> None:
  """Raises ValueError unless matplotlib is installed."""
  try:
    import matplotlib  # noqa: F401
  except ImportError as error:
    text = 'charts need matplotlib: pip install -e ".[experiments]"'
    raise ValueError(text) from error


def svg_of(figure: Any) -> str:
  """Returns a matplotlib figure as SVG text; equal figures give equal bytes."""
  import matplotlib

  buffer = io.StringIO()
  with matplotlib.rc_context(_STYLE):
    figure.savefig(buffer, format='svg', bbox_inches='tight', metadata={'Date': None})
  lines = buffer.getvalue().splitlines()
  return '\n'.join(line.rstrip() for line in lines) + '\n'


def dots(title: str, rows: Sequence[DotRow], label: str) -> Any:
  """Draws one row for each run, with its values, their mean and its interval.

  Args:
    title: lines above the chart; they name the data set, the scale and the number of seeds.
    rows: the rows, from top to bottom.
    label: the name of the values.

  Returns:
    A matplotlib figure.
  """
  figure, (axes,) = _figure(title, 6.5, 1.2 + 0.28 * len(rows))
  for y, row in enumerate(rows):
    _dot_row(axes, y, row)
  axes.set_yticks(range(len(rows)), [row.name for row in rows])
  for tick, row in zip(axes.get_yticklabels(), rows):
    tick.set_color('black' if row.values else _GREY)
  axes.set_ylim(len(rows) - 0.5, -0.5)
  axes.tick_params(axis='y', length=0)
  axes.grid(axis='x', color=_LIGHT)
  axes.set_axisbelow(True)
  axes.set_xlabel(label)
  axes.text(0, 1.02, _dots_legend(rows), color=_GREY, transform=axes.transAxes)
  return figure


def curves(
  title: str,
  series: Mapping[str, Sequence[CurvePoint]],
  x_label: str,
  y_label: str,
  is_band: bool = False,
) -> Any:
  """Draws lines with intervals.

  Args:
    title: lines above the chart; they name the data set, the scale and the number of seeds.
    series: the points of each line, by name.
    x_label: the name of the x axis.
    y_label: the name of the y axis.
    is_band: whether intervals are one band without marks, for lines of many points.

  Returns:
    A matplotlib figure.
  """
  figure, (axes,) = _figure(title, 8.0, 4.0)
  places = sorted({point.x for points in series.values() for point in points})
  shift = 0.0 if is_band else 0.01 * (places[-1] - places[0])
  for i, (name, points) in enumerate(series.items()):
    # Lines stand side by side, so that intervals at the same x can be told apart.
    place = shift * (i - (len(series) - 1) / 2)
    _curve(axes, name, points, _COLOURS[i % len(_COLOURS)], place, is_band)
  if len(places) <= _MOST_NAMED:
    axes.set_xticks(places, [f'{place:g}' for place in places])
  else:
    axes.locator_params('x', integer=True)
  axes.grid(axis='y', color=_LIGHT)
  axes.set_axisbelow(True)
  axes.set_xlabel(x_label)
  axes.set_ylabel(y_label)
  legend = axes.legend(loc='upper left', bbox_to_anchor=(1.01, 1.0), frameon=False)
  for text, line in zip(legend.get_texts(), legend.get_lines()):
    text.set_color(line.get_color())
  return figure


def growth(
  title: str, panels: Mapping[str, tuple[Sequence[_Number], Mapping[str, Sequence[_Number]]]]
) -> Any:
  """Draws panels of lines side by side; both axes of each panel begin at 0.

  Args:
    title: lines above the chart; they say what was measured, and how often.
    panels: for each x axis its values, and the lines by name. A line has as many numbers as there
      are values. All panels have the same names; the first line is dashed.

  Returns:
    A matplotlib figure.
  """
  figure, all_axes = _figure(title, 2.3 * len(panels), 3.2, len(panels))
  colours = (_GREY, *_COLOURS)
  for axes, (name, (values, lines)) in zip(all_axes, panels.items()):
    for i, (line, heights) in enumerate(lines.items()):
      style = '--' if i == 0 else '-'
      axes.plot(values, heights, style, color=colours[i], marker='o', markersize=3.5, label=line)
    axes.set_xticks(values, [f'{value}' for value in values])
    axes.set_xlim(0, 1.05 * max(values))
    axes.set_ylim(0)
    axes.set_xlabel(name)
  handles, names = all_axes[0].get_legend_handles_labels()
  figure.legend(
    handles, names, ncols=len(names), loc='outside lower left', frameon=False,
    title='relative to the smallest', title_fontsize='small', alignment='left',
  )  # fmt: skip
  return figure


def _figure(title: str, width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
  """Returns an empty figure of this size in inches, and its axes side by side."""
  require_matplotlib()
  import matplotlib
  from matplotlib.figure import Figure

  with matplotlib.rc_context(_STYLE):
    figure = Figure((width, height), layout='constrained')
    axes = figure.subplots(1, columns, squeeze=False)[0]
    figure.suptitle(title, x=0.0, ha='left', fontsize='medium')
  return figure, axes


def _dot_row(axes: Any, y: int, row: DotRow) -> None:
  """Draws one row of a chart of dots."""
  if row.published is not None:
    axes.plot(row.published, y, 'o', markersize=8, markerfacecolor='none', color=_GREY)
  if row.interval is not None:
    axes.plot(row.interval, [y, y], color=_COLOURS[0], linewidth=2)
  if row.mean is not None:
    axes.plot(row.mean, y, 'o', markersize=6, color=_COLOURS[0])
  # Equal values stand one above the other, so that they can be counted; many stand closer, so that
  # they stay in their row.
  for value, count in collections.Counter(row.values).items():
    heights = y + min(0.2, 0.8 / count) * (np.arange(count) - (count - 1) / 2)
    axes.plot(
      [value] * count, heights, 'o', markersize=3.5, markerfacecolor=_LIGHT, color=_GREY
    )  # fmt: skip
  if row.mean is None and row.published is None:
    axes.annotate(
      'not run', (0.01, y), xycoords=('axes fraction', 'data'), va='center', color=_GREY
    )


def _dots_legend(rows: Sequence[DotRow]) -> str:
  """Returns the sentence that explains the marks."""
  counts = {len(row.values) for row in rows if row.interval is not None}
  drawn = {True: 'its 95 % t interval', False: 'the range of two seeds'}
  intervals = ' or '.join(dict.fromkeys(drawn[n > 2] for n in sorted(counts, reverse=True)))
  words = f'mean with {intervals}' if intervals else 'mean'
  words += '; small: single seeds'
  if any(row.published is not None for row in rows):
    words += '; ring: the paper'
  return words


def _curve(
  axes: Any,
  name: str,
  points: Sequence[CurvePoint],
  colour: str,
  shift: float,
  is_band: bool,
) -> None:
  """Draws one line; `shift` moves it along the x axis."""
  drawn = sorted((point for point in points if point.mean is not None), key=lambda point: point.x)
  places = [point.x + shift for point in drawn]
  label = name if drawn else f'{name}: not run'
  axes.plot(places, [point.mean for point in drawn], color=colour, linewidth=1.2, label=label)
  if is_band:
    ends = [point.interval or (point.mean, point.mean) for point in drawn]
    axes.fill_between(places, *zip(*ends), color=colour, alpha=0.15, linewidth=0)
    return
  for place, point in zip(places, drawn):
    if point.interval is not None:
      axes.plot([place, place], point.interval, color=colour, linewidth=0.8)
    fill = 'white' if point.hollow else colour
    axes.plot(place, point.mean, 'o', markersize=5, markerfacecolor=fill, color=colour)
