"""The coordinates of boxes in ordered columns, and the curves of the links between them."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

from stretchnas_jax.views.boxes import Bezier, Box, Point

PORT = 9.0  # the least distance of two links that meet at a node, in pixels
_SWEEPS = 96  # passes that move boxes up and down
_TALL = 20.0  # a higher box is a node, in pixels


def set_coordinates(columns: Sequence[list[Box]], margin: float) -> tuple[float, float]:
  """Sets x and y of all boxes.

  Args:
    columns: the boxes of each column, from top to bottom.
    margin: the free space on all sides, in pixels.

  Returns:
    The width and the height of the drawing, in pixels.
  """
  _settle(columns)
  return _spread(columns, margin)


# ---- heights -------------------------------------------------------------------------------------


def _settle(columns: Sequence[list[Box]]) -> None:
  """Sets y: each box near the mean of its neighbours, and clear of the next in its column."""
  distances = [_least_distances(column) for column in columns]
  for column, apart in zip(columns, distances):
    _move(column, separate([0.0] * len(column), apart))
  forward = list(zip(columns, distances))
  for sweep in range(_SWEEPS):
    for column, apart in forward if sweep % 2 == 0 else forward[::-1]:
      _move(column, separate(_wishes(column), apart))


def _least_distances(column: list[Box]) -> list[float]:
  """Returns the least distance of the centres of adjacent boxes, in pixels."""
  distances = []
  for upper, lower in itertools.pairwise(column):
    free_space = 12.0 if max(upper.height, lower.height) > _TALL else 5.0
    distances.append((upper.height + lower.height) / 2 + free_space)
  return distances


def _wishes(column: list[Box]) -> list[float]:
  """Returns for each box the weighted mean height of its neighbours.

  Points of the same edge weigh more than nodes, so that the edge runs straight.
  """
  wishes = []
  for box in column:
    neighbours = box.before + box.after
    weights = [1.0 if other.height > _TALL else 12.0 for other in neighbours]
    weighted = sum(weight * other.y for weight, other in zip(weights, neighbours))
    wishes.append(weighted / sum(weights) if neighbours else box.y)
  return wishes


def _move(column: list[Box], heights: list[float]) -> None:
  """Sets y of the boxes of a column."""
  for box, y in zip(column, heights):
    box.y = y


def separate(
  wishes: Sequence[float],
  distances: Sequence[float],
  least: float = -math.inf,
  most: float = math.inf,
) -> list[float]:
  """Returns the values nearest to `wishes`, in least squares, that keep their distances.

  This is isotonic regression, solved by pooling adjacent violators.

  Args:
    wishes: `n` numbers.
    distances: `n - 1` numbers; value `i + 1` exceeds value `i` by at least `distances[i]`.
    least: the lower bound of the values, where there is room.
    most: the upper bound of the values, where there is room.

  Returns:
    `n` numbers in ascending order.
  """
  offsets = [0.0, *itertools.accumulate(distances)]
  sums: list[float] = []  # of values that share one level
  counts: list[int] = []  # the number of these values
  for wish, offset in zip(wishes, offsets):
    sums.append(wish - offset)
    counts.append(1)
    while len(sums) > 1 and sums[-2] / counts[-2] > sums[-1] / counts[-1]:
      last_sum, last_count = sums.pop(), counts.pop()
      sums[-1] += last_sum
      counts[-1] += last_count
  levels = [total / count for total, count in zip(sums, counts) for _ in range(count)]
  highest = most - offsets[-1]
  return [max(min(level, highest), least) + offset for level, offset in zip(levels, offsets)]


def _spread(columns: Sequence[list[Box]], margin: float) -> tuple[float, float]:
  """Sets x, moves all boxes to the top left, and returns the drawing's width and height."""
  top = min(box.y - box.height / 2 for column in columns for box in column)
  x = margin
  for i, column in enumerate(columns):
    width = max(box.width for box in column)
    for box in column:
      box.x = x + width / 2
      box.y = box.y - top + margin
    x += width
    if i < len(columns) - 1:
      x += _room_to_climb(column, top, margin)
  bottom = max(box.y + box.height / 2 for column in columns for box in column)
  return x + margin, bottom + margin


def _room_to_climb(column: list[Box], top: float, margin: float) -> float:
  """Returns the width of the gap after a column; curves that climb more get more room.

  Args:
    column: its boxes; they have been moved to the top already, those of the next column have not.
    top: the upper end of the drawing before the move.
    margin: the upper end of the drawing after the move.
  """
  # This measure holds the move twice. To correct it would change every published drawing.
  climbs = [abs(other.y - box.y + top - margin) for box in column for other in box.after]
  return min(max(20.0, 0.3 * max(climbs, default=0.0)), 60.0)


# ---- curves --------------------------------------------------------------------------------------


def curves_of(chains: Sequence[list[Box]]) -> list[list[Bezier]]:
  """Returns the curve of each link.

  A curve runs level through each column, and climbs in the gaps between columns. Links that meet
  at a node leave and arrive apart, in the order of their paths.

  Args:
    chains: for each link its boxes, from the source node to the target node.

  Returns:
    For each link its cubic Bezier pieces, from left to right.
  """
  starts = _ports(chains, 'source')
  ends = _ports(chains, 'target')
  widths: dict[int, float] = {}
  for box in itertools.chain.from_iterable(chains):
    widths[box.column] = max(widths.get(box.column, 0.0), box.width)
  return [_curve(*link, widths) for link in zip(chains, starts, ends)]


def _curve(chain: list[Box], start: float, end: float, widths: dict[int, float]) -> list[Bezier]:
  """Returns the pieces of one link, which leaves at height `start` and arrives at `end`."""
  source, *passed, target = chain
  points = [(source.x + source.width / 2, start)]
  for box in passed:
    half = widths[box.column] / 2
    points += [(box.x - half, box.y), (box.x + half, box.y)]
  points.append((target.x - target.width / 2, end))
  return [_swing(a, b) for a, b in itertools.pairwise(points)]


def _ports(chains: Sequence[list[Box]], end: Literal['source', 'target']) -> list[float]:
  """Returns the height at which each link leaves its source, or arrives at its target."""
  at, following = (0, 1) if end == 'source' else (-1, -2)
  links_at: dict[Box, list[int]] = {}
  for i, chain in enumerate(chains):
    links_at.setdefault(chain[at], []).append(i)
  heights = [0.0] * len(chains)
  for node, links in links_at.items():
    neighbours = {i: chains[i][following].y for i in links}
    links.sort(key=lambda i: (neighbours[i], i))
    top = node.y - (node.height / 2 - 4)
    bottom = node.y + (node.height / 2 - 4)
    wishes = [min(max(neighbours[i], top), bottom) for i in links]
    levels = separate(wishes, [PORT] * (len(links) - 1), top, bottom)
    for i, height in zip(links, levels):
      heights[i] = height
  return heights


def _swing(start: Point, end: Point) -> Bezier:
  """Returns a cubic Bezier from left to right that begins and ends level."""
  middle = (start[0] + end[0]) / 2
  return [start, (middle, start[1]), (middle, end[1]), end]
