"""The checks of a genotype's edges and concatenated nodes."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from stretchnas_jax.cells import genotype_text
from stretchnas_jax.cells.space import CellEdge


def edges_of(cell: str, edges: Any) -> tuple[CellEdge, ...]:
  """Returns the edges of a cell, stably sorted by destination.

  Args:
    cell: the type of the cell, for an error.
    edges: `(operation, src, dst)` each.

  Raises:
    ValueError: an edge is wrong, or there is none.
  """
  checked = [_checked_edge(cell, edge) for edge in _items(cell, edges)]
  if not checked:
    raise ValueError(f'{cell} is empty; a cell needs at least one edge')
  fed = {0, 1} | {dst for _, _, dst in checked}
  for edge in checked:
    if edge[1] not in fed:
      raise ValueError(
        f'{cell} has the edge {genotype_text.shorten(edge)}, but node {edge[1]} has no input'
      )
  return tuple(sorted(checked, key=lambda edge: edge[2]))


def _checked_edge(cell: str, edge: Any) -> CellEdge:
  """Returns one edge; ValueError where it is none."""
  where = f'{cell} has the edge {genotype_text.shorten(edge)}'
  if not isinstance(edge, (tuple, list)) or len(edge) != 3:
    raise ValueError(f'{where}; an edge is (operation, src, dst)')
  op, src, dst = edge[0], _node(where, edge[1]), _node(where, edge[2])
  if not isinstance(op, str) or op in ('', 'none'):
    raise ValueError(f'{where}; the operation must be a name other than none')
  if not (0 <= src < dst and dst >= 2):
    raise ValueError(f'{where}; src must be at least 0 and less than dst, and dst at least 2')
  return op, src, dst


def concat_of(field: str, nodes: Any, edges: Sequence[CellEdge]) -> tuple[int, ...]:
  """Returns the nodes of a concat.

  Args:
    field: its name, for an error.
    nodes: the numbers of the nodes.
    edges: of the cell, checked.

  Raises:
    ValueError: a node is wrong, or there is none.
  """
  fed = {dst for _, _, dst in edges}
  checked: dict[int, bool] = {}
  for value in _items(field, nodes):
    where = f'{field} holds {genotype_text.shorten(value)}'
    node = _node(where, value)
    if node not in fed:
      raise ValueError(f'{where}; allowed are nodes that an edge of the cell enters')
    if node in checked:
      raise ValueError(f'{where} more than once')
    checked[node] = True
  if not checked:
    raise ValueError(f'{field} is empty; it must name at least one node')
  return tuple(checked)


def _items(field: str, values: Any) -> Iterable[Any]:
  """Returns values that can be listed; ValueError for text, a dict or a single value."""
  if isinstance(values, (str, bytes, dict)) or not hasattr(values, '__iter__'):
    raise ValueError(f'{field} is {genotype_text.shorten(values)}; it must be a list')
  return values


def _node(where: str, value: Any) -> int:
  """Returns a node's number as an int; ValueError for bool, float and text."""
  try:
    if isinstance(value, bool):
      raise TypeError
    return operator.index(value)
  except TypeError:
    raise ValueError(f'{where}; node numbers are whole numbers') from None
