"""Heat maps of scores as inline SVG; the script of the page changes their shades."""

from collections.abc import Sequence

from stretchnas_jax.machine import output
from stretchnas_jax.views.tables import escaped

_ROW, _TOP = 17, 22
_STRONG = 0.75  # the shade from which a number needs the colour of the paper


def svg(
  name: str,
  title: str,
  rows: Sequence[str],
  columns: Sequence[str],
  shades: Sequence[Sequence[float | None]],
  kept: Sequence[Sequence[bool]],
  width: int = 42,
  labels: Sequence[Sequence[str]] | None = None,
  counts: Sequence[Sequence[int]] | None = None,
) -> str:
  """Returns a heat map; a stronger colour is a larger score.

  Args:
    name: of the map, for the script.
    title: in words, for readers of the screen.
    rows: names of the rows.
    columns: names of the columns; empty for none.
    shades: of each box a number from 0 to 1; None for no box.
    kept: the boxes with a frame: the choices of the decoding.
    width: of a box, in pixels.
    labels: the names of boxes, which a pointer shows.
    counts: numbers in the boxes, except 0; None for none.
  """
  count = max(map(len, shades), default=0)
  top = _TOP if columns else 4
  left = 12 + 8 * max(map(len, rows), default=0)
  whole = left + width * count + 4, top + _ROW * len(rows) + 4
  parts = [
    f'<svg class="heat" id="heat-{escaped(name)}" viewBox="0 0 {whole[0]} {whole[1]}" '
    f'width="{whole[0]}" height="{whole[1]}" role="img" aria-label="{escaped(title)}">'
  ]
  for k, column in enumerate(columns):
    x = left + width * (k + 0.5)
    parts.append(f'<text x="{x:.0f}" y="15" text-anchor="middle">{escaped(column)}</text>')
  for r, row in enumerate(rows):
    y = top + _ROW * r
    parts.append(f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{escaped(row)}</text>')
    for k, shade in enumerate(shades[r]):
      if shade is None:
        continue
      frame = ' kept' if kept[r][k] else ''
      label = f'<title>{escaped(labels[r][k])}</title>' if labels else ''
      parts.append(
        f'<rect class="box{frame}" x="{left + width * k + 1}" y="{y + 1}" width="{width - 2}" '
        f'height="{_ROW - 2}" fill-opacity="{shade:.3f}">{label}</rect>'
      )
      if counts is not None and counts[r][k]:
        kind = 'count strong' if shade > _STRONG else 'count'
        x = left + width * (k + 0.5)
        place = f'x="{x:.0f}" y="{y + 12}" text-anchor="middle"'
        parts.append(f'<text class="{kind}" {place}>{counts[r][k]}</text>')
  return ''.join([*parts, '</svg>'])


def short(names: Sequence[str], letters: int) -> list[str]:
  """Returns names in few letters, so that different names stay different.

  Args:
    names: of rows or columns; control characters become plain ones.
    letters: the most of a name. Of names that begin alike the ends are kept, else their numbers.
  """
  plain = [output.printable(name, 10_000) for name in names]
  found = [name[:letters] for name in plain]
  found = [plain[i][-letters:] if found.count(one) > 1 else one for i, one in enumerate(found)]
  return [str(i + 1) if found.count(one) > 1 else one for i, one in enumerate(found)]
