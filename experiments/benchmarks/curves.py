"""Curves in panels side by side, as SVG text."""

from stretchnas_jax.views.charts import line, text

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 210, 230, 34, 34, 14, 40
COLOURS = ('#7a7a7a', '#0b5fa5', '#b5390e')
DASHES = ('5 4', '', '')  # the first line is what the others are held against


def panel(left, axis, values, lines):
  """One panel; both of its axes start at 0."""
  highest = max(max(growth) for growth in lines.values()) * 1.05
  x = lambda value: left + LEFT + (WIDTH - LEFT - RIGHT) * value / max(values)
  y = lambda growth: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * growth / highest
  corners = [(x(0), TOP), (x(0), y(0)), (x(max(values)), y(0))]
  parts = [line(corners, '#b4b4b4', width=1), text(x(max(values) / 2), HEIGHT - 8, axis)]
  parts += [text(x(value), y(0) + 15, f'{value}') for value in values]
  spacing = next(s for s in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 1000) if highest / s <= 6)
  ticks = [i * spacing for i in range(int(highest / spacing) + 1)]
  parts += [text(x(0) - 5, y(tick) + 4, f'{tick:g}', 'end') for tick in ticks]
  for growth, colour, dash in zip(lines.values(), COLOURS, DASHES):
    points = [(x(value), y(g)) for value, g in zip(values, growth)]
    parts.append(line(points, colour, dash))
    parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{colour}"/>' for a, b in points]
  return parts


def svg(panels):
  """The text of an SVG file.

  Args:
    panels: `{axis: (values, {name: growth})}`, a list of growths as long as that of the values;
      all panels have the same names, at most three.
  """
  width, names = WIDTH * len(panels), list(next(iter(panels.values()))[1])
  parts = [
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" '
    f'viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif" font-size="11">',
    '<rect width="100%" height="100%" fill="white"/>',
  ]
  for i, (name, colour) in enumerate(zip(names, COLOURS)):
    parts.append(text(LEFT + 95 * i, 16, name, 'start', colour))
  parts.append(text(LEFT + 95 * len(names) + 20, 16, '(the smallest is 1)', 'start'))
  for i, (axis, (values, lines)) in enumerate(panels.items()):
    parts += panel(WIDTH * i, axis, values, lines)
  return '\n'.join([*parts, '</svg>', ''])
