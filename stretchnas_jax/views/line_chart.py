"""Small charts of curves as inline SVG, whose colours come from the style of the page."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stretchnas_jax.views.tables import escaped

_WIDTH, _HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 34, 34
_TICKS = 5
_MOST_DIGITS = 4  # of a number beside an axis, before or after its point
_GLYPH = 7.2  # pixels of a letter in the legend, roughly

Number = float | int
Points = Sequence[tuple[Number, Number]]
_Band = Sequence[tuple[Number, Number, Number]]


class Frame(NamedTuple):
  """The ranges of both axes.

  Attributes:
    x: the first and the last place.
    y: the lowest and the highest value.
  """

  x: tuple[Number, Number]
  y: tuple[Number, Number]

  def at(self, x: Number, y: Number) -> tuple[Number, Number]:
    """Returns the pixels of a point.

    Args:
      x: its place.
      y: its value.
    """
    (x0, x1), (y0, y1) = self.x, self.y
    right = _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((x - x0) / (x1 - x0) if x1 > x0 else 0.5)
    down = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y - y0) / (y1 - y0)
    return right, down


def svg(
  title: str,
  series: Mapping[str, Points],
  bands: Mapping[str, _Band] | None = None,
  percent: bool = False,
) -> str:
  """Returns a chart with a legend; '' where no series has a point.

  Args:
    title: its name, for readers of the screen.
    series: points `(x, y)` by name, at most six series.
    bands: by name of a series `(x, low, high)`: intervals around it.
    percent: whether values are parts of 1.
  """
  shown = {name: [p for p in points if _finite(p[1])] for name, points in series.items()}
  shown = {name: points for name, points in shown.items() if points}
  if not shown:
    return ''
  bands = {name: list(band) for name, band in (bands or {}).items() if name in shown}
  values = [y for points in shown.values() for _, y in points]
  values += [y for band in bands.values() for _, *ends in band for y in ends]
  places = [x for points in shown.values() for x, _ in points]
  frame = Frame((min(places), max(places)), _range(values, percent))
  x0, x1 = frame.at(frame.x[0], 0)[0], frame.at(frame.x[1], 0)[0]
  parts = [
    f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    f'aria-label="{escaped(_words(title, shown, percent))}" data-left="{x0:.1f}" '
    f'data-right="{x1:.1f}" data-first="{frame.x[0]:g}" data-last="{frame.x[1]:g}">',
    *_axes(frame, percent),
    *(_band(frame, list(shown).index(name), band) for name, band in bands.items()),
    *(_curve(frame, i, points) for i, points in enumerate(shown.values())),
    f'<line class="marker" x1="{x1:.1f}" x2="{x1:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>',
    *_legend(list(shown)),
  ]
  return ''.join([*parts, '</svg>'])


def _finite(value: Number | None) -> bool:
  return value is not None and math.isfinite(value)


def _range(values: Sequence[Number], percent: bool) -> tuple[Number, Number]:
  """Returns round ends of an axis around all values."""
  low, high = min(values), max(values)
  if percent and low >= 0 and high <= 1:
    low = 0.0 if low < 0.5 else low
  if high - low < 1e-9:
    is_part = percent and low >= 0 and high <= 1
    low, high = low - 0.5 * abs(low) - 1e-3, high + 0.5 * abs(high) + 1e-3
    low, high = (max(low, 0.0), min(high, 1.0)) if is_part else (low, high)
  step = _step(high - low)
  return step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)


def _step(length: Number) -> float:
  """Returns 1, 2 or 5 times a power of ten: the distance of the marks on an axis."""
  rough = length / _TICKS
  power = 10.0 ** math.floor(math.log10(rough))
  return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _axes(frame: Frame, percent: bool) -> list[str]:
  parts, step = [], _step(frame.y[1] - frame.y[0])
  for k in range(round((frame.y[1] - frame.y[0]) / step) + 1):
    y = frame.y[0] + k * step
    _, down = frame.at(frame.x[0], y)
    text = _mark(y, step, percent)
    parts.append(f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down:.1f}" '
                 f'y2="{down:.1f}"/><text x="{_LEFT - 6}" y="{down + 4:.1f}" '
                 f'text-anchor="end">{escaped(text)}</text>')  # fmt: skip
  first, last = frame.x
  count = min(6, round(last - first) + 1)
  for k in range(count):
    x = round(first + (last - first) * k / max(count - 1, 1))
    right, _ = frame.at(x, frame.y[0])
    parts.append(f'<text x="{right:.1f}" y="{_HEIGHT - _BOTTOM + 18}" '
                 f'text-anchor="middle">{x}</text>')  # fmt: skip
  return parts


def _mark(y: float, step: float, percent: bool) -> str:
  """Returns a number beside an axis; a long one as a power of ten."""
  digits = max(0, -math.floor(math.log10(step * (100 if percent else 1)) + 1e-9))
  if percent:
    return f'{100 * y:.{digits}f}%'
  if digits <= _MOST_DIGITS and abs(y) < 10**_MOST_DIGITS:
    return f'{y:.{digits}f}'
  return f'{step * round(y / step):.3g}'.replace('e-0', 'e-').replace('e+0', 'e')


def _curve(frame: Frame, i: int, points: Points) -> str:
  path = ' '.join('{:.1f},{:.1f}'.format(*frame.at(*point)) for point in points)
  if len(points) == 1:
    x, y = frame.at(*points[0])
    return f'<circle class="dot s{i}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
  return f'<polyline class="curve s{i}" points="{path}"/>'


def _band(frame: Frame, i: int, band: _Band) -> str:
  above = [frame.at(x, high) for x, _, high in band]
  below = [frame.at(x, low) for x, low, _ in reversed(band)]
  path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in above + below)
  return f'<polygon class="band s{i}" points="{path}"/>'


def _legend(names: Sequence[str]) -> list[str]:
  parts, x = [], float(_LEFT)
  for i, name in enumerate(names):
    parts.append(f'<line class="curve s{i}" x1="{x:.0f}" x2="{x + 20:.0f}" y1="16" y2="16"/>'
                 f'<text x="{x + 25:.0f}" y="20">{escaped(name)}</text>')  # fmt: skip
    x += 40 + _GLYPH * len(name)
  return parts


def _words(title: str, shown: Mapping[str, Points], percent: bool) -> str:
  """Returns the chart in words: the first and the last value of each curve."""
  value = (lambda y: f'{y:.1%}') if percent else (lambda y: f'{y:.4g}')
  ends = [
    f'{name} from {value(points[0][1])} to {value(points[-1][1])}' for name, points in shown.items()
  ]
  return f'{title}: {", ".join(ends)}'
