"""The picture of a genotype: its two cells as boxes, curves and texts, ready to be drawn.

`svg` and `png` draw the same picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

from stretchnas_jax.cells import nas_bench_cells
from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.views import cell_layout
from stretchnas_jax.views.boxes import Bezier, Box, Node

FONT_SIZE = 12
GREY = '#b4b4b4'
INK = '#1a1a1a'

_TITLE_SIZE = 14
_LABEL_HEIGHT = 16.0
_MARGIN = 14.0
_HEADING = 24.0
_ARROW = 7.0
_OUTPUT = 'output'  # the key of the node that concatenates

# One colour for each family of operations; dark enough for text on white.
_COLOURS = {
  'sep_conv': '#0b5fa5',
  'dil_conv': '#7b3294',
  'max_pool': '#b5390e',
  'avg_pool': '#946200',
  'skip_connect': '#0f7a4d',
}
_OTHER = '#3d3d3d'
_FILLS = {'input': '#dcebd5', 'node': '#e6ecf5', 'output': '#f6e3c5'}


class Heading(NamedTuple):
  """A line of text that begins at `x` and has its middle at `y`, in pixels."""

  x: float
  y: float
  text: str
  size: int


class Curve(NamedTuple):
  """A line with an arrow head at its end; `width` is in pixels."""

  pieces: list[Bezier]
  colour: str
  width: float


class DrawnNode(NamedTuple):
  """A node; a dashed one is an output that nothing uses."""

  box: Box
  fill: str
  dashed: bool
  text: str
  subscript: str


class Label(NamedTuple):
  """The name of an operation on its edge."""

  box: Box
  text: str
  colour: str


class Picture(NamedTuple):
  """All parts of a drawing, in pixels from the top left.

  Attributes:
    width: of the drawing.
    height: of the drawing.
    headings: the title and the names of the cells.
    curves: all edges, in the order in which they are drawn.
    nodes: of both cells.
    labels: of all operations.
  """

  width: float
  height: float
  headings: list[Heading]
  curves: list[Curve]
  nodes: list[DrawnNode]
  labels: list[Label]


def picture(genotype: AnyGenotype, title: str | None = None) -> Picture:
  """Builds the picture of a genotype: the normal cell above the reduction cell.

  Args:
    genotype: the two cells, or one of NAS-Bench-201.
    title: a line above both, or None.

  Returns:
    A `Picture`.
  """
  headings: list[Heading] = []
  top = _MARGIN
  if title:
    headings.append(Heading(_MARGIN, top + 10, title, _TITLE_SIZE + 2))
    top += _HEADING + 4
  right = 2 * _MARGIN + max((_text_width(h.text, h.size) for h in headings), default=0)
  parts = Picture(right, top, headings, [], [], [])
  if isinstance(genotype, nas_bench_cells.Cell):
    output = nas_bench_cells.EDGES[-1][1]
    concat = (output,) if any(target == output for _, _, target in genotype.edges) else ()
    return _with_cell(parts, 'cell of NAS-Bench-201', genotype.edges, concat, ('k-1',))
  parts = _with_cell(parts, 'normal cell', genotype.normal, genotype.normal_concat)
  return _with_cell(parts, 'reduction cell', genotype.reduce, genotype.reduce_concat)


def arrow_head(x: float, y: float) -> list[tuple[float, float]]:
  """Returns the corners of an arrow head that points right.

  Args:
    x: of its tip, in pixels.
    y: of its tip, in pixels.
  """
  return [(x - _ARROW, y - 3.2), (x, y), (x - _ARROW, y + 3.2)]


def _with_cell(
  parts: Picture,
  name: str,
  edges: Sequence[tuple[str, int, int]],
  concat: Sequence[int],
  inputs: Sequence[str] = ('k-2', 'k-1'),
) -> Picture:
  """Returns a picture with one more cell below everything else; extends the lists of `parts`.

  Args:
    parts: the picture so far.
    name: the heading.
    edges: `(operation, src, dst)`.
    concat: the nodes that the output holds.
    inputs: the indices of the inputs, nodes 0 and so on.
  """
  parts.headings.append(Heading(_MARGIN, parts.height + 10, name, _TITLE_SIZE))
  layout = _cell_layout(edges, concat, len(inputs))
  top = parts.height + _HEADING - _MARGIN
  names = [operation for operation, _, _ in edges]
  # Grey lines come first, so that coloured ones lie above them.
  for pieces in layout.curves[len(edges) :]:
    parts.curves.append(Curve(_moved_down(pieces, top), GREY, 1.0))
  for pieces, operation in zip(layout.curves, names):
    parts.curves.append(Curve(_moved_down(pieces, top), _colour_of(operation), 1.6))
  for box in (*layout.nodes.values(), *layout.labels.values()):
    box.y += top
  for node, box in layout.nodes.items():
    unused = node not in concat and not box.after
    parts.nodes.append(_drawn_node(node, box, unused, inputs))
  for i, box in sorted(layout.labels.items()):
    parts.labels.append(Label(box, names[i], _colour_of(names[i])))
  return parts._replace(width=max(parts.width, layout.width), height=top + layout.height)


def _cell_layout(
  edges: Sequence[tuple[str, int, int]], concat: Sequence[int], num_inputs: int
) -> cell_layout.Layout:
  """Lays out the edges of a cell, and after them the links from `concat` to the output."""
  links: list[tuple[Node, Node]] = [(source, target) for _, source, target in edges]
  links += [(node, _OUTPUT) for node in concat]
  inner = {node for _, source, target in edges for node in (source, target)}
  nodes: list[Node] = [*sorted({*range(num_inputs)} | inner), _OUTPUT]
  wide = {*range(num_inputs), _OUTPUT}
  label_widths: list[float | None] = [_text_width(name, FONT_SIZE) + 8 for name, _, _ in edges]
  label_widths += [None] * len(concat)
  return cell_layout.lay_out(
    links,
    {node: (40.0 if node in wide else 28.0, 28.0) for node in nodes},
    label_widths,
    label_height=_LABEL_HEIGHT,
    margin=_MARGIN,
  )


def _moved_down(pieces: list[Bezier], distance: float) -> list[Bezier]:
  """Returns a curve moved down by a distance in pixels."""
  return [[(x, y + distance) for x, y in piece] for piece in pieces]


def _drawn_node(node: Node, box: Box, unused: bool, inputs: Sequence[str]) -> DrawnNode:
  """Returns the look of a node; one whose output nothing uses is dashed."""
  if node == _OUTPUT:
    return DrawnNode(box, _FILLS['output'], False, 'c', 'k')
  if isinstance(node, int) and node < len(inputs):
    return DrawnNode(box, _FILLS['input'], unused, 'c', inputs[node])
  return DrawnNode(box, _FILLS['node'], unused, str(node), '')


def _colour_of(operation: str) -> str:
  """Returns the colour of an operation's family."""
  for family, colour in _COLOURS.items():
    if operation.startswith(family):
      return colour
  return _OTHER


def _text_width(text: str, size: int) -> float:
  """Returns a little more than the width of a text in a common sans-serif font, in pixels."""
  width = 0.0
  for character in text:
    is_wide = character.isupper() or character in 'mw@%' or ord(character) > 126
    width += 0.95 if is_wide else 0.56
  return size * width
