"""The order of boxes within the columns of a layered drawing, chosen so that few links cross."""

import itertools
import math
from collections.abc import Sequence

from stretchnas_jax.views.boxes import Box

_SWEEPS = 24  # passes over all columns, alternately from the left and from the right


def order_columns(columns: Sequence[list[Box]]) -> None:
  """Sorts each column in place so that few links cross.

  Each sweep moves every box towards the mean position of its neighbours (the barycentre method of
  Sugiyama, Tagawa and Toda, 1981), then swaps adjacent boxes. The best order of all sweeps is kept.

  Args:
    columns: the boxes of each column, from top to bottom.
  """
  best = [list(column) for column in columns]
  fewest = math.inf
  seen = []
  for sweep in range(_SWEEPS):
    forward = sweep % 2 == 0
    for column in columns if forward else columns[::-1]:
      _sort_by_neighbours(column, _ranks(columns), forward)
    _swap_adjacent(columns)
    state = (forward, [list(column) for column in columns])
    if state in seen:  # All further sweeps would repeat earlier ones.
      break
    seen.append(state)
    crossings = _count_crossings(columns)
    if crossings < fewest:
      best, fewest = state[1], crossings
    if fewest == 0:
      break
  for column, ordered in zip(columns, best):
    column[:] = ordered


def _ranks(columns: Sequence[list[Box]]) -> dict[Box, int]:
  """Returns the position of each box within its column."""
  return {box: i for column in columns for i, box in enumerate(column)}


def _sort_by_neighbours(column: list[Box], rank: dict[Box, int], forward: bool) -> None:
  """Sorts a column by the mean rank of the neighbours on one side."""
  mean_ranks = {}
  for box in column:
    neighbours = box.before if forward else box.after
    ranks = [rank[other] for other in neighbours] or [rank[box]]
    mean_ranks[box] = sum(ranks) / len(ranks)
  column.sort(key=mean_ranks.__getitem__)


def _swap_adjacent(columns: Sequence[list[Box]]) -> None:
  """Swaps adjacent boxes as long as a swap removes crossings."""
  rank = _ranks(columns)
  for column in columns:
    swapped = True
    while swapped:
      swapped = False
      for i in range(len(column) - 1):
        upper, lower = column[i], column[i + 1]
        if _crossings_of(upper, lower, rank) > _crossings_of(lower, upper, rank):
          column[i], column[i + 1] = lower, upper
          rank[lower], rank[upper] = i, i + 1
          swapped = True


def _crossings_of(upper: Box, lower: Box, rank: dict[Box, int]) -> int:
  """Counts the crossings between the links of two boxes of a column, on both sides."""
  before = itertools.product(upper.before, lower.before)
  after = itertools.product(upper.after, lower.after)
  return sum(rank[a] > rank[b] for a, b in itertools.chain(before, after))


def _count_crossings(columns: Sequence[list[Box]]) -> int:
  """Counts all crossings; each one is seen from both of its columns."""
  rank = _ranks(columns)
  pairs = [pair for column in columns for pair in itertools.combinations(column, 2)]
  return sum(_crossings_of(upper, lower, rank) for upper, lower in pairs)
