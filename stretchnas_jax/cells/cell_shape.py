"""Depth and width of a cell."""

from collections.abc import Sequence

from stretchnas_jax.cells.space import CellEdge


def depth(edges: Sequence[CellEdge]) -> int:
  """Counts the edges on the longest path from an input of a cell."""
  longest = {0: 0, 1: 0}
  for _, src, dst in sorted(edges, key=lambda edge: edge[2]):
    longest[dst] = max(longest.get(dst, 0), longest[src] + 1)
  return max(longest.values())


def width(edges: Sequence[CellEdge], concat: Sequence[int]) -> float:
  """Counts the nodes of a concat, each by the part of its edges that come from the cell's inputs.

  This is the width of Shu et al. (2020), whose wide cells train fast. It is 4 for a DARTS cell
  whose nodes stand side by side, and 1.75 for a chain of them.

  Args:
    edges: the edges of the cell.
    concat: its concatenated nodes.

  Returns:
    The width.
  """
  total = 0.0
  for node in concat:
    sources = [src for _, src, dst in edges if dst == node]
    total += sum(src < 2 for src in sources) / len(sources)
  return total
