"""Drawings of cells, as SVG text or as a PNG file, from one layout."""

import functools
import unicodedata
from typing import NamedTuple
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw, ImageFont

from stretchnas_jax.views import cell_layout

FONT_SIZE, TITLE_SIZE = 12, 14
LABEL_HEIGHT, MARGIN, HEADING = 16.0, 14.0, 24.0
ARROW = 7.0
OUTPUT = 'output'  # the key of the node that concatenates

# One colour for each family of operations; dark enough for text on white.
COLOURS = {
  'sep_conv': '#0b5fa5',
  'dil_conv': '#7b3294',
  'max_pool': '#b5390e',
  'avg_pool': '#946200',
  'skip_connect': '#0f7a4d',
}
OTHER, GREY, INK = '#3d3d3d', '#b4b4b4', '#1a1a1a'
FILLS = {'input': '#dcebd5', 'node': '#e6ecf5', 'output': '#f6e3c5'}


class Picture(NamedTuple):
  """All that is drawn, in pixels; both back ends draw just this."""

  width: float
  height: float
  headings: list  # (x, y, text, size)
  curves: list  # (pieces, colour, width)
  nodes: list  # (Place, fill, dashed, text, subscript)
  labels: list  # (Place, text, colour)


def picture(genotype, title=None):
  """The normal cell above the reduction cell.

  Args:
    genotype: a `Genotype`.
    title: a line above both.

  Returns:
    A `Picture`.
  """
  parts = Picture(0, 0, [], [], [], [])
  top = MARGIN
  if title:
    parts.headings.append((MARGIN, top + 10, title, TITLE_SIZE + 2))
    top += HEADING + 4
  right = 2 * MARGIN + max(
    (text_width(text, size) for _, _, text, size in parts.headings), default=0
  )
  cells = (
    ('normal cell', genotype.normal, genotype.normal_concat),
    ('reduction cell', genotype.reduce, genotype.reduce_concat),
  )
  for name, edges, concat in cells:
    parts.headings.append((MARGIN, top + 10, name, TITLE_SIZE))
    width, top = add_cell(parts, edges, concat, top + HEADING - MARGIN)
    right = max(right, width)
  return parts._replace(width=right, height=top)


def add_cell(parts, edges, concat, top):
  """Adds one cell below `top`. Returns how far it reaches to the right and down."""
  links = [(src, dst) for _, src, dst in edges] + [(node, OUTPUT) for node in concat]
  names = [op for op, _, _ in edges]
  nodes = sorted({0, 1} | {node for _, src, dst in edges for node in (src, dst)}) + [OUTPUT]
  sizes = {node: (40.0 if node in (0, 1, OUTPUT) else 28.0, 28.0) for node in nodes}
  widths = [text_width(name, FONT_SIZE) + 8 for name in names] + [None] * len(concat)
  layout = cell_layout.place(links, sizes, widths, label_height=LABEL_HEIGHT, margin=MARGIN)
  down = lambda pieces: [[(x, y + top) for x, y in piece] for piece in pieces]
  # Grey lines first: colours lie above them.
  for i in [*range(len(edges), len(links)), *range(len(edges))]:
    colour, width = (colour_of(names[i]), 1.6) if i < len(edges) else (GREY, 1.0)
    parts.curves.append((down(layout.curves[i]), colour, width))
  for place in (*layout.nodes.values(), *layout.labels.values()):
    place.y += top
  for node, place in layout.nodes.items():
    parts.nodes.append(node_of(node, place, loose=node not in concat and not place.after))
  for i, place in sorted(layout.labels.items()):
    parts.labels.append((place, names[i], colour_of(names[i])))
  return layout.width, top + layout.height


def node_of(node, place, loose):
  """What a node looks like; one whose output nobody uses is dashed."""
  if node == OUTPUT:
    return place, FILLS['output'], False, 'c', 'k'
  if node in (0, 1):
    return place, FILLS['input'], loose, 'c', f'k-{2 - node}'
  return place, FILLS['node'], loose, str(node), ''


def colour_of(operation):
  return next((c for name, c in COLOURS.items() if operation.startswith(name)), OTHER)


def text_width(text, size):
  """A little more than the text needs in a common sans-serif font."""
  return size * sum(0.95 if c.isupper() or c in 'mw@%' or ord(c) > 126 else 0.56 for c in text)


# ---- SVG -----------------------------------------------------------------------------------------


def svg(genotype, title=None):
  """Both cells as the text of a self-contained SVG; the same bytes for the same genotype."""
  drawn = picture(genotype, title)
  width, height = number(drawn.width), number(drawn.height)
  lines = [
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">',
    f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
  ]
  lines += [svg_curve(*curve) for curve in drawn.curves]
  lines += [svg_node(*node) for node in drawn.nodes]
  for place, text, colour in drawn.labels:
    lines += [svg_box(place, '#ffffff'), svg_text(place.x, place.y, text, colour, FONT_SIZE)]
  lines += [svg_text(x, y, text, INK, size, anchor='start') for x, y, text, size in drawn.headings]
  return '\n'.join([*lines, '</svg>', ''])


def svg_curve(pieces, colour, width):
  (x, y), (end_x, end_y) = pieces[0][0], pieces[-1][-1]
  path = f'M{number(x)} {number(y)}' + ''.join(
    'C' + ' '.join(f'{number(x)} {number(y)}' for x, y in piece[1:]) for piece in pieces
  )
  head = ' '.join(f'{number(x)},{number(y)}' for x, y in arrow(end_x, end_y))
  return (
    f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{number(width)}"/>'
    f'<polygon points="{head}" fill="{colour}"/>'
  )


def svg_node(place, fill, dashed, text, subscript):
  dash = ' stroke-dasharray="4 3"' if dashed else ''
  box = svg_box(place, fill, f' rx="6" stroke="{INK}" stroke-width="1"{dash}')
  if not subscript:
    return box + svg_text(place.x, place.y, text, INK, FONT_SIZE + 1)
  lower = f'<tspan font-size="{FONT_SIZE - 2}" dy="3">{escape(subscript)}</tspan>'
  return box + svg_text(place.x, place.y, text, INK, FONT_SIZE + 2, more=lower, style='italic')


def svg_box(place, fill, more=''):
  x, y = number(place.x - place.width / 2), number(place.y - place.height / 2)
  size = f'width="{number(place.width)}" height="{number(place.height)}"'
  return f'<rect x="{x}" y="{y}" {size} fill="{fill}"{more}/>'


def svg_text(x, y, text, colour, size, *, anchor='middle', more='', style='normal'):
  # A baseline set by hand: `dominant-baseline` is not understood everywhere.
  return (
    f'<text x="{number(x)}" y="{number(y + 0.35 * size)}" font-size="{size}" fill="{colour}" '
    f'text-anchor="{anchor}" font-style="{style}">{escape(printable(text))}{more}</text>'
  )


def printable(text):
  """Without control characters and lone surrogates, which XML does not allow."""
  return ''.join(c for c in text if unicodedata.category(c) not in ('Cc', 'Cs', 'Cn'))


def number(value):
  """A coordinate with one decimal at most."""
  return f'{value:.1f}'.removesuffix('.0')


def arrow(x, y):
  """The head of an arrow that points right, with its tip at (x, y)."""
  return [(x - ARROW, y - 3.2), (x, y), (x - ARROW, y + 3.2)]


# ---- PNG -----------------------------------------------------------------------------------------


def png(genotype, path, title=None, scale=2):
  """Both cells as a PNG file with `scale` pixels for one of the SVG."""
  drawn = picture(genotype, title)
  fine = 2 * scale  # drawn twice as large and then shrunk, for smooth edges
  size = lambda factor: (round(drawn.width * factor), round(drawn.height * factor))
  image = Image.new('RGB', size(fine), '#ffffff')
  pen = Pen(ImageDraw.Draw(image), fine)
  for pieces, colour, width in drawn.curves:
    pen.line(cell_layout.points_of(pieces), colour, width)
    pen.draw.polygon([(x * fine, y * fine) for x, y in arrow(*pieces[-1][-1])], fill=colour)
  for place, fill, dashed, text, subscript in drawn.nodes:
    pen.node(place, fill, dashed, text, subscript)
  for place, text, colour in drawn.labels:
    pen.draw.rectangle(pen.corners(place), fill='#ffffff')
    pen.text(place.x, place.y, text, colour, FONT_SIZE)
  for x, y, text, size_of in drawn.headings:
    pen.text(x, y, text, INK, size_of, anchor='lm')
  image.resize(size(scale), Image.Resampling.LANCZOS).save(path, 'PNG')


class Pen(NamedTuple):
  """An ImageDraw with a scale."""

  draw: ImageDraw.ImageDraw
  scale: int

  def line(self, points, colour, width):
    scaled = [tuple(p) for p in points * self.scale]
    self.draw.line(scaled, fill=colour, width=round(width * self.scale), joint='curve')

  def corners(self, place):
    x, y, w, h = (self.scale * v for v in (place.x, place.y, place.width / 2, place.height / 2))
    return x - w, y - h, x + w, y + h

  def node(self, place, fill, dashed, text, subscript):
    # Pillow has no dashed lines: a node that nobody uses is paler instead.
    ink = GREY if dashed else INK
    self.draw.rounded_rectangle(
      self.corners(place), 6 * self.scale, fill=fill, outline=ink, width=self.scale
    )
    if not subscript:
      self.text(place.x, place.y, text, INK, FONT_SIZE + 1)
      return
    sizes = FONT_SIZE + 2, FONT_SIZE - 2
    widths = [font(s).getlength(t) for s, t in zip(sizes, (text, subscript))]
    left = place.x - sum(widths) / 2
    self.text(left, place.y, text, INK, sizes[0], anchor='lm')
    self.text(left + widths[0] + 0.5, place.y + 4, subscript, INK, sizes[1], anchor='lm')

  def text(self, x, y, text, colour, size, anchor='mm'):
    # The font's middle lies a little below that of its letters.
    where = (x * self.scale, (y - 0.5) * self.scale)
    self.draw.text(where, printable(text), fill=colour, font=font(size * self.scale), anchor=anchor)


@functools.cache
def font(size):
  return ImageFont.load_default(size)
