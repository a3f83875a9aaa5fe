"""Where the parts of a drawn cell go: nodes, labels and curves that keep clear of each other.

A layered drawing (Sugiyama, Tagawa, Toda 1981). Nodes stand in columns by their depth, the longest
path from an input; between two columns of nodes is one for labels. An edge has a place of its own
in every column that it passes, in one of them large enough for its label, and runs level through
all of them. It swings only in the gaps between columns, where nothing else is: so no label touches
a label, a node or another edge, whatever the cell.
"""

import dataclasses
import itertools
import math
from typing import Any, NamedTuple

import numpy as np

PORT = 9.0  # least distance of two edges that meet at a node
SWEEPS = 24  # of ordering
SETTLE = 96  # of y
TALL = 20.0  # what is higher is a node


@dataclasses.dataclass(eq=False)
class Place:
  """A node, a label, or the point where an edge passes a column; x and y are its centre."""

  column: int
  width: float
  height: float
  key: Any = None  # the node, or the index of the link whose label this is
  x: float = 0.0
  y: float = 0.0
  before: list = dataclasses.field(default_factory=list)
  after: list = dataclasses.field(default_factory=list)


class Layout(NamedTuple):
  """A cell with its parts in place, in pixels from the top left."""

  width: float
  height: float
  nodes: dict[Any, Place]
  labels: dict[int, Place]  # by index of the link
  curves: list  # for each link cubic Beziers in a row: [[(x, y), ...]] of 4 points each


def place(links, node_size, label_widths, *, label_height, margin):
  """Lays out a graph.

  Args:
    links: `((src, dst), ...)`; each src is the dst of a link, or has depth 0.
    node_size: `node -> (width, height)`, of every node.
    label_widths: for each link the width of its label, or None for a link without one.
    label_height: of all labels.
    margin: free space on all sides.

  Returns:
    A `Layout`.
  """
  depth = depths(links, node_size)
  columns = [[] for _ in range(2 * max(depth.values()) + 1)]
  nodes = {}
  for node, (width, height) in node_size.items():
    nodes[node] = Place(2 * depth[node], width, height, node)
    columns[2 * depth[node]].append(nodes[node])
  chains = thread(links, nodes, columns, label_widths, label_height)
  order(columns)
  for node in nodes.values():
    node.height = max(node.height, PORT * max(len(node.before), len(node.after)) + 6)
  settle(columns)
  width, height = spread(columns, margin)
  labels = {p.key: p for chain in chains for p in chain[1:-1] if p.key is not None}
  return Layout(width, height, nodes, labels, trace(chains))


def depths(links, nodes):
  """The longest path to each node, in links."""
  depth = dict.fromkeys(nodes, 0)
  for _ in nodes:
    for src, dst in links:
      depth[dst] = max(depth[dst], depth[src] + 1)
  return depth


def thread(links, nodes, columns, label_widths, label_height):
  """Gives each link its places: chains `[src, ..., dst]`, by index of the link."""
  chains = [None] * len(links)
  labels_in = [0] * len(columns)
  span = lambda i: nodes[links[i][1]].column - nodes[links[i][0]].column
  # Short links first: they have no choice where their label goes.
  for i in sorted(range(len(links)), key=lambda i: (span(i), i)):
    src, dst = (nodes[n] for n in links[i])
    between = range(src.column + 1, dst.column)
    chosen = None
    if label_widths[i] is not None:
      chosen = min(between[::2], key=lambda c: (labels_in[c], c))
      labels_in[chosen] += 1
    chain = [src]
    for c in between:
      is_label = c == chosen
      size = (label_widths[i], label_height) if is_label else (0.0, 3.0)
      chain.append(Place(c, *size, i if is_label else None))
      columns[c].append(chain[-1])
    chain.append(dst)
    for a, b in itertools.pairwise(chain):
      a.after.append(b)
      b.before.append(a)
    chains[i] = chain
  return chains


# ---- the order within columns --------------------------------------------------------------------


def order(columns):
  """Orders the places of each column so that few links cross."""
  best, fewest = [list(c) for c in columns], math.inf
  for sweep in range(SWEEPS):
    forward = sweep % 2 == 0
    for column in columns if forward else columns[::-1]:
      rank = ranks(columns)
      sides = [p.before if forward else p.after for p in column]
      means = [
        sum(rank[q] for q in side) / len(side) if side else float(rank[p])
        for p, side in zip(column, sides)
      ]
      column[:] = [p for _, _, p in sorted(zip(means, itertools.count(), column))]
    exchange(columns)
    crossings = count_crossings(columns)
    if crossings < fewest:
      best, fewest = [list(c) for c in columns], crossings
  for column, ordered in zip(columns, best):
    column[:] = ordered


def ranks(columns):
  return {p: i for column in columns for i, p in enumerate(column)}


def exchange(columns):
  """Swaps neighbours while that removes crossings."""
  rank = ranks(columns)
  for column in columns:
    swapped = True
    while swapped:
      swapped = False
      for i in range(len(column) - 1):
        a, b = column[i : i + 2]
        if crossings_of(a, b, rank) > crossings_of(b, a, rank):
          column[i : i + 2] = b, a
          rank[a], rank[b] = i + 1, i
          swapped = True


def crossings_of(upper, lower, rank):
  """How often the links of two neighbours cross, on both sides."""
  return sum(
    rank[p] > rank[q]
    for side in ('before', 'after')
    for p in getattr(upper, side)
    for q in getattr(lower, side)
  )


def count_crossings(columns):
  rank = ranks(columns)
  return sum(
    crossings_of(a, b, rank) for column in columns for a, b in itertools.combinations(column, 2)
  )


# ---- coordinates ---------------------------------------------------------------------------------


def settle(columns):
  """Sets y: each place near the mean of its neighbours, and clear of the next in its column."""
  for column in columns:
    set_y(column, [0.0] * len(column))
  for sweep in range(SETTLE):
    for column in columns if sweep % 2 == 0 else columns[::-1]:
      set_y(column, [wish(p) for p in column])


def wish(place):
  """Where a place would like to be. Points of the same edge pull more, so that it runs straight."""
  near = place.before + place.after
  weights = [1.0 if q.height > TALL else 12.0 for q in near]
  return sum(w * q.y for w, q in zip(weights, near)) / sum(weights) if near else place.y


def set_y(column, wishes):
  gaps = [(a.height + b.height) / 2 + gap(a, b) for a, b in itertools.pairwise(column)]
  for p, y in zip(column, separate(wishes, gaps)):
    p.y = y


def gap(a, b):
  return 12.0 if max(a.height, b.height) > TALL else 5.0


def separate(wishes, gaps, least=-math.inf, most=math.inf):
  """The values nearest to `wishes` (least squares) of which each is `gaps` above the one before.

  Isotonic regression by pooling adjacent violators, within bounds where there is room.
  """
  offsets = [0.0, *itertools.accumulate(gaps)]
  pools = []  # [sum, count]: places that stand as close as they may
  for value in (w - o for w, o in zip(wishes, offsets)):
    pools.append([value, 1])
    while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
      total, count = pools.pop()
      pools[-1][0] += total
      pools[-1][1] += count
  levels = [total / count for total, count in pools for _ in range(count)]
  return [max(min(v, most - offsets[-1]), least) + o for v, o in zip(levels, offsets)]


def spread(columns, margin):
  """Sets x, moves all to the top left, and says how large the drawing is."""
  top = min(p.y - p.height / 2 for column in columns for p in column)
  x = margin
  for i, column in enumerate(columns):
    width = max(p.width for p in column)
    for p in column:
      p.x, p.y = x + width / 2, p.y - top + margin
    steepest = max((abs(q.y - p.y + top - margin) for p in column for q in p.after), default=0.0)
    # A curve that climbs needs room.
    x += width + (min(max(20.0, 0.3 * steepest), 60.0) if i < len(columns) - 1 else 0.0)
  bottom = max(p.y + p.height / 2 for column in columns for p in column)
  return x + margin, bottom + margin


def trace(chains):
  """The curves of all chains; at a node they leave and arrive apart, in the order of their ways."""
  outs, ins = ports(chains, 0), ports(chains, -1)
  width = {}
  for chain in chains:
    for p in chain:
      width[p.column] = max(width.get(p.column, 0.0), p.width)
  curves = []
  for i, chain in enumerate(chains):
    left = lambda p: p.x - width[p.column] / 2
    right = lambda p: p.x + width[p.column] / 2
    points = [(chain[0].x + chain[0].width / 2, outs[i])]
    for p in chain[1:-1]:
      points += [(left(p), p.y), (right(p), p.y)]
    points.append((chain[-1].x - chain[-1].width / 2, ins[i]))
    curves.append([swing(a, b) for a, b in itertools.pairwise(points)])
  return curves


def ports(chains, end):
  """For each chain the y at its first (0) or last (-1) node."""
  found = [0.0] * len(chains)
  following = 1 if end == 0 else -2
  key = lambda i: id(chains[i][end])
  groups = {}
  for i in range(len(chains)):
    groups.setdefault(key(i), []).append(i)
  for group in groups.values():
    node = chains[group[0]][end]
    group.sort(key=lambda i: (chains[i][following].y, i))
    half = node.height / 2 - 4
    wishes = [min(max(chains[i][following].y, node.y - half), node.y + half) for i in group]
    levels = separate(wishes, [PORT] * (len(group) - 1), node.y - half, node.y + half)
    for i, y in zip(group, levels):
      found[i] = y
  return found


def swing(start, end):
  """A cubic Bezier from left to right that begins and ends level."""
  (x0, y0), (x1, y1) = start, end
  middle = (x0 + x1) / 2
  return [start, (middle, y0), (middle, y1), end]


def points_of(curve, per_piece=12):
  """Points `[n, 2]` along a curve."""
  t = np.linspace(0, 1, per_piece)[:, None]
  weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
  return np.vstack([weights @ np.asarray(piece) for piece in curve])
