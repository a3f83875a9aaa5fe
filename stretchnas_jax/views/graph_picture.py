"""The graph of a cell with all its possible edges, which the script redraws for each epoch.

Nodes stay where they are, so that a reader sees how the cell changes.
"""

from collections.abc import Sequence
from typing import NamedTuple

from stretchnas_jax.cells.graph import Edge
from stretchnas_jax.views import cell_layout
from stretchnas_jax.views.cell_picture import FONT_SIZE, arrow_head
from stretchnas_jax.views.svg import number, path_of
from stretchnas_jax.views.tables import escaped

_MARGIN, _NODE, _LABEL_HEIGHT = 14.0, 28.0, 16.0
# Pixels below which a graph is not shrunk, by its class in the style of the page.
_LEAST = {'wide': 736, 'middle': 480}
_GLYPH = 7.4  # pixels of a letter, roughly

WIDEST = 7.0
"""The width in pixels of the edge with the largest score."""

_FAMILIES = ('sep', 'dil', 'max', 'avg', 'skip')
"""Beginnings of operations' names that have a colour of their own."""


class Look(NamedTuple):
  """The look of one edge.

  Attributes:
    label: the short name of its operation; '' for an edge that is not in the cell.
    width: of its line, in pixels.
    tied: whether its operation is a near tie.
  """

  label: str
  width: float
  tied: bool


def svg(
  name: str, edges: Sequence[Edge], looks: Sequence[Look], letters: int, num_inputs: int = 2
) -> str:
  """Returns the graph of a cell.

  Args:
    name: of the cell type.
    edges: all edges that the cell may have.
    looks: one for each edge.
    letters: of the longest label that an edge may have.
    num_inputs: nodes before this one are inputs.
  """
  nodes = sorted({node for edge in edges for node in edge})
  layout = cell_layout.lay_out(
    list(edges),
    {node: (_NODE + 12 * (node < num_inputs), _NODE) for node in nodes},
    [letters * _GLYPH + 8] * len(edges),
    label_height=_LABEL_HEIGHT,
    margin=_MARGIN,
  )
  width, height = number(layout.width), number(layout.height)
  size = next((f' {name}' for name, least in _LEAST.items() if layout.width > least), '')
  parts = [
    f'<svg class="graph{size}" id="graph-{escaped(name)}" viewBox="0 0 {width} {height}" '
    f'width="{width}" height="{height}" role="img" aria-label="{escaped(name)} cell">'
  ]
  parts += [_edge(layout, e, look) for e, look in enumerate(looks)]
  for node in nodes:
    box = layout.nodes[node]
    kind = 'input' if node < num_inputs else 'node'
    text = f'c k-{num_inputs - node}' if node < num_inputs else str(node)
    x, y = number(box.x - box.width / 2), number(box.y - box.height / 2)
    parts.append(
      f'<rect class="{kind}" x="{x}" y="{y}" width="{number(box.width)}" '
      f'height="{number(box.height)}" rx="6"/><text class="name" x="{number(box.x)}" '
      f'y="{number(box.y + 4.5)}" text-anchor="middle">{text}</text>'
    )
  return ''.join([*parts, '</svg>'])


def _classes_of(look: Look) -> str:
  """Returns the classes of an edge; the script makes the same ones."""
  if not look.label:
    return 'edge gone'
  family = next((name for name in _FAMILIES if look.label.startswith(name)), 'other')
  return f'edge {family}' + (' tie' if look.tied else '')


def _edge(layout: cell_layout.Layout, e: int, look: Look) -> str:
  """Returns the line of an edge, its arrow head and its label."""
  pieces, box = layout.curves[e], layout.labels[e]
  head = ' '.join(f'{number(x)},{number(y)}' for x, y in arrow_head(*pieces[-1][-1]))
  label = look.label + (' ≈' if look.tied and look.label else '')
  return (
    f'<g class="{_classes_of(look)}" data-edge="{e}"><path d="{path_of(pieces)}" '
    f'stroke-width="{look.width:.1f}"/><polygon points="{head}"/>'
    f'<rect x="{number(box.x - box.width / 2)}" y="{number(box.y - box.height / 2)}" '
    f'width="{number(box.width)}" height="{number(box.height)}"/>'
    f'<text x="{number(box.x)}" y="{number(box.y + 0.35 * FONT_SIZE)}" font-size="{FONT_SIZE}" '
    f'text-anchor="middle">{escaped(label)}</text></g>'
  )
