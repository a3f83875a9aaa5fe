"""Writes a picture of cells as SVG text."""

import unicodedata
from collections.abc import Sequence
from xml.sax.saxutils import escape

from stretchnas_jax.views.boxes import Bezier, Box
from stretchnas_jax.views.cell_picture import (
  FONT_SIZE,
  INK,
  Curve,
  DrawnNode,
  Heading,
  Label,
  Picture,
  arrow_head,
)


def to_svg(picture: Picture) -> str:
  """Returns a picture as a self-contained SVG document; equal pictures give equal bytes."""
  width, height = number(picture.width), number(picture.height)
  lines = [
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">',
    f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
  ]
  lines += [_curve(curve) for curve in picture.curves]
  lines += [_node(node) for node in picture.nodes]
  for label in picture.labels:
    lines += _label(label)
  lines += [_heading(heading) for heading in picture.headings]
  return '\n'.join([*lines, '</svg>', ''])


def printable(text: str) -> str:
  """Returns a text without control characters and lone surrogates, which XML forbids."""
  return ''.join(c for c in text if unicodedata.category(c) not in ('Cc', 'Cs', 'Cn'))


def _curve(curve: Curve) -> str:
  """Returns the path of an edge and its arrow head."""
  end, path = curve.pieces[-1][-1], path_of(curve.pieces)
  head = ' '.join(f'{number(x)},{number(y)}' for x, y in arrow_head(*end))
  stroke = f'stroke="{curve.colour}" stroke-width="{number(curve.width)}"'
  return f'<path d="{path}" fill="none" {stroke}/><polygon points="{head}" fill="{curve.colour}"/>'


def path_of(pieces: Sequence[Bezier]) -> str:
  """Returns the path data of a curve."""
  return f'M{_point(*pieces[0][0])}' + ''.join(_piece(piece) for piece in pieces)


def _piece(piece: Bezier) -> str:
  """Returns the path command of a cubic Bezier, which begins where the last one ended."""
  return 'C' + ' '.join(_point(*point) for point in piece[1:])


def _node(node: DrawnNode) -> str:
  """Returns the box of a node with its name in it."""
  x, y = node.box.x, node.box.y
  dash = ' stroke-dasharray="4 3"' if node.dashed else ''
  box = _box(node.box, node.fill, f' rx="6" stroke="{INK}" stroke-width="1"{dash}')
  if not node.subscript:
    return box + _text(x, y, node.text, INK, FONT_SIZE + 1)
  lower = f'<tspan font-size="{FONT_SIZE - 2}" dy="3">{escape(node.subscript)}</tspan>'
  return box + _text(x, y, node.text, INK, FONT_SIZE + 2, more=lower, style='italic')


def _label(label: Label) -> list[str]:
  """Returns a white box with the name of an operation in it."""
  name = _text(label.box.x, label.box.y, label.text, label.colour, FONT_SIZE)
  return [_box(label.box, '#ffffff'), name]


def _heading(heading: Heading) -> str:
  """Returns the text of a heading."""
  return _text(heading.x, heading.y, heading.text, INK, heading.size, anchor='start')


def _box(box: Box, fill: str, attributes: str = '') -> str:
  """Returns the rectangle of a box."""
  x, y = number(box.x - box.width / 2), number(box.y - box.height / 2)
  size = f'width="{number(box.width)}" height="{number(box.height)}"'
  return f'<rect x="{x}" y="{y}" {size} fill="{fill}"{attributes}/>'


def _text(
  x: float,
  y: float,
  text: str,
  colour: str,
  size: int,
  *,
  anchor: str = 'middle',
  more: str = '',
  style: str = 'normal',
) -> str:
  """Returns a text whose middle has the height `y`; `more` is markup after the text."""
  # The baseline is set by hand, because not all viewers understand `dominant-baseline`.
  return (
    f'<text x="{number(x)}" y="{number(y + 0.35 * size)}" font-size="{size}" fill="{colour}" '
    f'text-anchor="{anchor}" font-style="{style}">{escape(printable(text))}{more}</text>'
  )


def _point(x: float, y: float) -> str:
  """Returns the coordinates of a point."""
  return f'{number(x)} {number(y)}'


def number(value: float) -> str:
  """Returns a coordinate with at most one decimal."""
  return f'{value:.1f}'.removesuffix('.0')
