"""The layout of a drawn cell: nodes, labels and curves that keep clear of each other.

It is a layered drawing (Sugiyama, Tagawa and Toda, 1981). Nodes stand in columns by their depth,
the longest path from an input. Between two columns of nodes is a column for labels. An edge has a
box of its own in every column that it passes; one of these boxes holds its label. The edge runs
level through all its boxes. It climbs only in the gaps between columns, which hold nothing else.
So no label touches a label, a node or another edge, whatever the cell.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from stretchnas_jax.views.boxes import Bezier, Box, Node
from stretchnas_jax.views.coordinates import PORT, curves_of, set_coordinates
from stretchnas_jax.views.crossings import order_columns

_Link = tuple[Node, Node]  # (source, target)


class Layout(NamedTuple):
  """A cell with its parts in place, in pixels from the top left.

  Attributes:
    width: of the drawing.
    height: of the drawing.
    nodes: the box of each node.
    labels: the box of each label, by the index of its link.
    curves: for each link its cubic Bezier pieces.
  """

  width: float
  height: float
  nodes: dict[Node, Box]
  labels: dict[int, Box]
  curves: list[list[Bezier]]


def lay_out(
  links: Sequence[_Link],
  node_sizes: Mapping[Node, tuple[float, float]],
  label_widths: Sequence[float | None],
  *,
  label_height: float,
  margin: float,
) -> Layout:
  """Lays out a graph.

  Args:
    links: `(source, target)` of each link; a node that no link enters has depth 0.
    node_sizes: the width and height of every node, in pixels.
    label_widths: for each link the width of its label, or None for a link without one.
    label_height: the height of all labels, in pixels.
    margin: the free space on all sides, in pixels.

  Returns:
    A `Layout`.
  """
  depths = _longest_paths(links, node_sizes)
  columns: list[list[Box]] = [[] for _ in range(2 * max(depths.values()) + 1)]
  nodes: dict[Node, Box] = {}
  for node, (width, height) in node_sizes.items():
    nodes[node] = Box(2 * depths[node], width, height, node)
    columns[nodes[node].column].append(nodes[node])
  chains = _chain_links(links, nodes, columns, label_widths, label_height)
  order_columns(columns)
  for box in nodes.values():
    box.height = max(box.height, PORT * max(len(box.before), len(box.after)) + 6)
  width, height = set_coordinates(columns, margin)
  passed = [box for chain in chains for box in chain[1:-1]]
  labels = {box.key: box for box in passed if isinstance(box.key, int)}
  return Layout(width, height, nodes, labels, curves_of(chains))


def _longest_paths(links: Sequence[_Link], nodes: Iterable[Node]) -> dict[Node, int]:
  """Returns the length of the longest path to each node, in links."""
  depths = dict.fromkeys(nodes, 0)
  for _ in range(len(depths)):
    for source, target in links:
      depths[target] = max(depths[target], depths[source] + 1)
  return depths


def _chain_links(
  links: Sequence[_Link],
  nodes: Mapping[Node, Box],
  columns: list[list[Box]],
  label_widths: Sequence[float | None],
  label_height: float,
) -> list[list[Box]]:
  """Adds the boxes of each link to the columns, and joins them.

  Returns:
    For each link its boxes, from the source node to the target node.
  """
  labels_in = [0] * len(columns)

  def span(i: int) -> int:
    source, target = links[i]
    return nodes[target].column - nodes[source].column

  chains: dict[int, list[Box]] = {}
  # Short links come first, because they have no choice of a column for their label.
  for i in sorted(range(len(links)), key=span):
    source, target = (nodes[node] for node in links[i])
    between = range(source.column + 1, target.column)
    label_width = label_widths[i]
    label_column = None
    if label_width is not None:
      label_column = min(between[::2], key=lambda column: (labels_in[column], column))
      labels_in[label_column] += 1
    chains[i] = [source]
    for column in between:
      if label_width is not None and column == label_column:
        box = Box(column, label_width, label_height, i)
      else:
        box = Box(column, 0.0, 3.0)
      columns[column].append(box)
      chains[i].append(box)
    chains[i].append(target)
    _join(chains[i])
  return [chains[i] for i in range(len(links))]


def _join(chain: list[Box]) -> None:
  """Makes each box of a chain a neighbour of the next one."""
  for left, right in itertools.pairwise(chain):
    left.after.append(right)
    right.before.append(left)


def points_of(curve: Sequence[Bezier], per_piece: int = 12) -> Float[np.ndarray, 'n 2']:
  """Returns points along a curve.

  Args:
    curve: cubic Bezier pieces.
    per_piece: the number of points of each piece.

  Returns:
    x and y of `n = per_piece * len(curve)` points.
  """
  t = np.linspace(0, 1, per_piece)[:, None]
  weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
  return np.vstack([weights @ np.asarray(piece) for piece in curve])
