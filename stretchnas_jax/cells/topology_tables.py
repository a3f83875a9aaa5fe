"""Tables of topology codes, one for each topology model (Eq. 3-13).

A row of a table belongs to a node that chooses among the codes of its row. A code says which of the
node's out-edges, or in-edges, exist. Tables are built once in NumPy. For a topology model of your
own, fill the fields of `TopologyTable`.

Letters: R rows, K codes of the longest row, E edges.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from stretchnas_jax.cells import graph as graph_lib
from stretchnas_jax.cells.arrays import AnyArray

SIDES = ('source', 'target')
"""The values of `by`: the source of an edge chooses it, or its target does."""

# Codes x edges; 10 intermediate nodes with all subsets of out-edges take 0.7 million.
_MAX_ENTRIES = 50_000_000


class TopologyTable(NamedTuple):
  """The codes from which each node can choose.

  Attributes:
    codes: 1 where a code has an edge, else 0; float32.
    mask: which codes are real; the others fill up the shorter rows.
    scale: the factors of the merged probabilities, float32; 0 where no code has the edge.
    by: 'source' if a row chooses its node's out-edges, 'target' if it chooses the in-edges.
    k: of a table without rows, how many edges of a node stay.

  Example:
    >>> graph = snas.CellGraph(1)  # two edges into one node
    >>> one = np.eye(2, dtype=np.float32)[None]  # a row that chooses one of them
    >>> table = TopologyTable(one, np.ones((1, 2), bool), np.ones(2, np.float32), 'target')
    >>> snas.topology.edge_scores(jnp.zeros((1, 2)), table).tolist()
    [0.5, 0.5]
  """

  codes: Float[AnyArray, 'R K E']
  mask: Bool[AnyArray, 'R K']
  scale: Float[AnyArray, ' E']
  by: str = 'source'
  k: int = 2

  @property
  def has_rows(self) -> bool:
    """Returns whether any node chooses. Without rows the topology is read off alpha."""
    return len(self.mask) > 0


def _flatten(table: TopologyTable) -> tuple[tuple[AnyArray, ...], tuple[str, int]]:
  return table[:3], table[3:]


def _unflatten(static: tuple[str, int], arrays: tuple[Any, ...]) -> TopologyTable:
  return TopologyTable(*arrays, *static)  # pyrefly: ignore[bad-argument-count]


# `by` and `k` are part of the structure: a table can also be an argument of a jitted function.
jax.tree_util.register_pytree_node(TopologyTable, _flatten, _unflatten)


def none(graph: graph_lib.CellGraph, by: str = 'target', k: int = 2) -> TopologyTable:
  """Builds a table without rows: every edge scores 1, and the topology is read off alpha (DARTS).

  Args:
    graph: the graph of the cells.
    by: the edges among which the strongest stay: each node's in-edges ('target', DARTS), or its
      out-edges ('source', the paper's Table 5).
    k: how many of them stay; 2 in DARTS.

  Returns:
    The table.

  Raises:
    ValueError: no node has k such edges.

  Example:
    >>> from stretchnas_jax import CellGraph
    >>> none(CellGraph(2)).scale
    array([1., 1., 1., 1., 1.], dtype=float32)
  """
  _check_k(graph, k, by)
  edges = len(graph.edges)
  codes, mask = np.zeros((0, 0, edges), np.float32), np.zeros((0, 0), bool)
  return TopologyTable(codes, mask, np.ones(edges, np.float32), by, k)


def input_pairs(graph: graph_lib.CellGraph) -> TopologyTable:
  """Builds the table of two in-edges for each node (Eq. 3-6).

  Example:
    >>> from stretchnas_jax import CellGraph
    >>> input_pairs(CellGraph(4)).mask.sum(1)  # pairs of 2, 3, 4 and 5 in-edges
    array([ 1,  3,  6, 10])
  """
  return k_subsets(graph, 2, by='target')


def output_pairs(graph: graph_lib.CellGraph) -> TopologyTable:
  """Builds the table of two out-edges for each node with at least two (Eq. 7-10), "w/o SC".

  Example:
    >>> from stretchnas_jax import CellGraph
    >>> int(output_pairs(CellGraph(4)).mask.sum())
    16
  """
  return k_subsets(graph, 2)


def output_subsets(
  graph: graph_lib.CellGraph, include_empty: bool = True, unit_scale: bool = False
) -> TopologyTable:
  """Builds the table of any out-edges of each node (Eq. 11-13): stretchable cells.

  The scale of a node with n edges is the printed one, (2^n - 1) / 2^(n-1). With the empty code a
  score then begins at 1 - 2^-n, so that nodes with few out-edges begin with smaller scores.

  Args:
    graph: the graph of the cells.
    include_empty: whether a node may choose no out-edge.
    unit_scale: whether every score is 1 where all codes are equally probable; without the empty
      code the printed scale does the same.

  Returns:
    The table.

  Example:
    >>> from stretchnas_jax import CellGraph
    >>> output_subsets(CellGraph(4)).mask.sum(1)  # all subsets of 4, 4, 3, 2 and 1 out-edges
    array([16, 16,  8,  4,  2])
  """
  first = 0 if include_empty else 1

  def sizes(n: int) -> range:
    return range(first, n + 1)

  def scale(n: int) -> float:
    return (2**n - (first if unit_scale else 1)) / 2 ** (n - 1)

  return _build(graph, 'source', sizes, scale)


def k_subsets(graph: graph_lib.CellGraph, k: int, by: str = 'source') -> TopologyTable:
  """Builds the table of exactly k edges of each node (Fig. 5).

  By source the scale is C(n, k) / C(n-1, k-1), with which every score is 1 where all codes are
  equally probable; by target there is none (Eq. 6). With one in-edge each it is PC-DARTS' edge
  softmax. By source a node with fewer than k out-edges has no row, and so no out-edge. By target
  a node with fewer than k in-edges keeps them all, as in `decoding.top_k`: its row has one code.

  Args:
    graph: the graph of the cells.
    k: the number of edges.
    by: 'source' for out-edges, 'target' for in-edges.

  Returns:
    The table.

  Raises:
    ValueError: no node has k such edges.

  Example:
    >>> from stretchnas_jax import CellGraph
    >>> k_subsets(CellGraph(4), 3).mask.sum(1)  # nodes with fewer than 3 out-edges have no row
    array([4, 4, 1])
  """
  _check_k(graph, k, by)

  def sizes(n: int) -> list[int]:
    if by == 'target':
      return [min(k, n)]
    return [k] if n >= k else []

  def scale(n: int) -> float:
    return math.comb(n, k) / math.comb(n - 1, k - 1) if by == 'source' else 1.0

  return _build(graph, by, sizes, scale)


def check_table(table: TopologyTable, graph: graph_lib.CellGraph) -> None:
  """Raises ValueError unless the arrays of a table fit each other and the graph.

  Args:
    table: any table, for example a researcher's own.
    graph: the graph of the cells.

  Example:
    >>> table = output_subsets(snas.CellGraph(2))
    >>> check_table(table, snas.CellGraph(3))
    Traceback (most recent call last):
    ValueError: the codes of the table have the shape [3, 4, 5]; ...
  """
  edges, codes = len(graph.edges), np.shape(table.codes)
  mask, scale = np.shape(table.mask), np.shape(table.scale)
  if len(codes) != 3 or codes[2] != edges:
    raise ValueError(
      f'the codes of the table have the shape {list(codes)}; for this graph they must be '
      f'[R, K, {edges}]'
    )
  if mask != codes[:2]:
    raise ValueError(
      f'the mask of the table has the shape {list(mask)}; with codes of {list(codes)} it must be '
      f'{list(codes[:2])}'
    )
  if scale != (edges,):
    raise ValueError(
      f'the scale of the table has the shape {list(scale)}; for this graph it must be [{edges}]'
    )
  _check_by(table.by)


def _build(
  graph: graph_lib.CellGraph,
  by: str,
  sizes: Callable[[int], Sequence[int]],
  scale: Callable[[int], float],
) -> TopologyTable:
  """Builds the table of all subsets, of the sizes `sizes(n)`, of every node's n edges.

  `scale(n)` is the factor of an edge whose node has n edges.
  """
  edges_of = graph.out_edges if by == 'source' else graph.in_edges
  groups = [edges_of(node) for node in range(graph.num_nodes)]
  groups = [edges for edges in groups if edges and len(sizes(len(edges)))]
  counts = [sum(math.comb(len(edges), k) for k in sizes(len(edges))) for edges in groups]
  shape = (len(groups), max(counts, default=0), len(graph.edges))
  if math.prod(shape) > _MAX_ENTRIES:
    raise ValueError(
      f'num_intermediate is {graph.num_intermediate}; that gives a node {shape[1]} codes to '
      f'choose from, and a table of at most {_MAX_ENTRIES} entries is allowed'
    )
  codes, mask = np.zeros(shape, np.float32), np.zeros(shape[:2], bool)
  scales = np.zeros(shape[2], np.float32)
  for r, edges in enumerate(groups):
    subsets = (s for k in sizes(len(edges)) for s in itertools.combinations(edges, k))
    for k, subset in enumerate(subsets):
      codes[r, k, list(subset)] = 1
    mask[r, : counts[r]] = True
    scales[list(edges)] = scale(len(edges))
  return TopologyTable(codes, mask, scales, by)


def _check_k(graph: graph_lib.CellGraph, k: int, by: str) -> None:
  _check_by(by)
  graph_lib.whole_number('k', k)
  most = graph.num_intermediate + (graph.num_inputs - 1) * (by == 'target')
  if k > most:
    raise ValueError(f'k is {k}; by {by}, no node of this graph has more than {most} edges')


def _check_by(by: str) -> None:
  if by not in SIDES:
    raise ValueError(f'by is {by!r}; allowed are {", ".join(SIDES)}')
