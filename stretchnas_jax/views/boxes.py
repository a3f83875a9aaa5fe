"""The boxes that a drawing of a cell is made of."""

from __future__ import annotations

import dataclasses

Node = int | str  # the number of a node, or the name of the output
Point = tuple[float, float]  # (x, y)
Bezier = list[Point]  # the four control points of one cubic piece


@dataclasses.dataclass(eq=False)
class Box:
  """A node, a label, or the point at which an edge passes a column.

  Attributes:
    column: the index of its column, from the left.
    width: in pixels.
    height: in pixels.
    key: the node, or the index of the link that the label names; None for a passing edge.
    x: the centre, in pixels from the left.
    y: the centre, in pixels from the top.
    before: the boxes in the column before it that link to it.
    after: the boxes in the column after it that it links to.
  """

  column: int
  width: float
  height: float
  key: Node | None = None
  x: float = 0.0
  y: float = 0.0
  before: list[Box] = dataclasses.field(default_factory=list)
  after: list[Box] = dataclasses.field(default_factory=list)
