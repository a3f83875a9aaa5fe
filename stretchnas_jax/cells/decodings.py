"""The decodings of published methods, each a rule for `derive_cell`, `make_search` and `get_parts`.

All rank an operation on an edge by its strength times the score of the edge. A topology without
rows has scores of 1, and then the strength alone counts.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from stretchnas_jax.cells import space as space_lib
from stretchnas_jax.cells import topology
from stretchnas_jax.cells.decoding import Decoding, top_k, with_strongest
from stretchnas_jax.cells.space import CellEdge

_Found = tuple[Sequence[CellEdge], Sequence[str]]


def strongest_edges(k: int = 2, by: str = 'target') -> Decoding:
  """Builds DARTS' rule over products: each node keeps the k edges with the largest product.

  PC-DARTS decodes so, with the softmax over edges as scores (Xu et al. 2020). `none` never counts.

  Args:
    k: how many edges of a node stay.
    by: 'target' for the in-edges of each node, 'source' for its out-edges.

  Returns:
    The rule.

  Example:
    >>> from stretchnas_jax.cells.decoding import derive_cell
    >>> space = snas.darts_space(2)
    >>> strength = np.random.default_rng(0).random((5, 7))
    >>> table = snas.topology.none(space.graph)
    >>> edges, _, _ = derive_cell(space, table, strength, None, decoding=strongest_edges(k=1))
    >>> edges[-2:]
    (('skip_connect', 1, 2), ('dil_conv_3x3', 1, 3))
  """

  def decode(
    space: space_lib.SearchSpace,
    strength: Float[np.ndarray, 'E O'],
    edge_scores: Float[np.ndarray, ' E'],
    beta: Float[np.ndarray, 'R K'] | None,
    table: topology.TopologyTable,
    allowed: Bool[np.ndarray, 'E O'],
  ) -> _Found:
    del beta, table
    kept = top_k(space, strength * edge_scores[:, None], k, by, allowed)
    return with_strongest(space, strength, kept, allowed), []

  return decode


def pairs(k: int = 2) -> Decoding:
  """Builds GDAS' rule: each node keeps the k strongest pairs of an edge and an operation.

  Two of them may stand on the same edge, which is then there twice (Dong and Yang 2019). Of equal
  pairs the first stays, by edge and then by operation.

  Args:
    k: how many pairs of a node stay.

  Returns:
    The rule.

  Example:
    >>> from stretchnas_jax.cells.decoding import derive_cell
    >>> space = snas.darts_space(2)
    >>> strength = np.random.default_rng(0).random((5, 7))
    >>> table = snas.topology.none(space.graph)
    >>> edges, _, _ = derive_cell(space, table, strength, None, decoding=pairs())
    >>> edges[-2:]
    (('dil_conv_3x3', 1, 3), ('dil_conv_5x5', 1, 3))
  """

  def decode(
    space: space_lib.SearchSpace,
    strength: Float[np.ndarray, 'E O'],
    edge_scores: Float[np.ndarray, ' E'],
    beta: Float[np.ndarray, 'R K'] | None,
    table: topology.TopologyTable,
    allowed: Bool[np.ndarray, 'E O'],
  ) -> _Found:
    del beta, table
    ranked = np.where(allowed, strength * edge_scores[:, None], -np.inf)
    kept = []
    for node in range(space.graph.num_inputs, space.graph.num_nodes):
      places = [(e, o) for e in space.graph.in_edges(node) for o in np.flatnonzero(allowed[e])]
      kept += sorted(places, key=lambda place: -ranked[place])[:k]
    edges = space.graph.edges
    return [(space.primitives[o], *edges[e]) for e, o in sorted(kept)], []

  return decode


def all_edges() -> Decoding:
  """Builds SNAS' rule: each edge keeps its strongest operation, and `none` means no edge.

  A node has any number of inputs (Xie et al. 2019). If no edge from an input of the cell stays, the
  one that lost against `none` by the least is taken.

  Returns:
    The rule.

  Example:
    >>> from stretchnas_jax.cells.decoding import derive_cell
    >>> space = snas.darts_space(2)
    >>> strength = np.random.default_rng(0).random((5, 7))
    >>> table = snas.topology.none(space.graph)
    >>> edges, _, _ = derive_cell(space, table, strength, None, decoding=all_edges())
    >>> edges[-2:]
    (('dil_conv_3x3', 1, 3), ('dil_conv_3x3', 2, 3))
  """

  def decode(
    space: space_lib.SearchSpace,
    strength: Float[np.ndarray, 'E O'],
    edge_scores: Float[np.ndarray, ' E'],
    beta: Float[np.ndarray, 'R K'] | None,
    table: topology.TopologyTable,
    allowed: Bool[np.ndarray, 'E O'],
  ) -> _Found:
    del edge_scores, beta, table
    best = np.where(allowed, strength, -np.inf).max(1)
    names = list(space.primitives)
    none = strength[:, names.index('none')] if 'none' in names else np.full(len(best), -np.inf)
    kept, notes = _with_an_input(space, best >= none, np.where(best > -np.inf, best - none, best))
    return with_strongest(space, strength, kept, allowed), notes

  return decode


def threshold(least: float = 0.85, k: int = 2) -> Decoding:
  """Builds Fair DARTS' rule: of DARTS' k edges of a node those stay that are strong enough.

  A node may lose all its inputs, and then leaves the cell (Chu et al. 2020). If no edge from an
  input of the cell stays, the strongest one is taken.

  Args:
    least: the smallest product of strength and score.
    k: how many edges of a node may stay.

  Returns:
    The rule.

  Example:
    >>> from stretchnas_jax.cells.decoding import derive_cell
    >>> space = snas.darts_space(2)
    >>> strength = np.random.default_rng(0).random((5, 7))
    >>> table = snas.topology.none(space.graph)
    >>> edges, _, _ = derive_cell(space, table, strength, None, decoding=threshold(least=0.9))
    >>> edges[-2:]
    (('skip_connect', 1, 2), ('dil_conv_3x3', 1, 3))
  """

  def decode(
    space: space_lib.SearchSpace,
    strength: Float[np.ndarray, 'E O'],
    edge_scores: Float[np.ndarray, ' E'],
    beta: Float[np.ndarray, 'R K'] | None,
    table: topology.TopologyTable,
    allowed: Bool[np.ndarray, 'E O'],
  ) -> _Found:
    del beta, table
    ranked = strength * edge_scores[:, None]
    best = np.where(allowed, ranked, -np.inf).max(1)
    kept = top_k(space, ranked, k, 'target', allowed) & (best >= least)
    kept, notes = _with_an_input(space, kept, best)
    return with_strongest(space, strength, kept, allowed), notes

  return decode


def capped(most: int = 2, k: int = 2) -> Decoding:
  """Builds P-DARTS' rule: DARTS' rule with at most so many skips in a cell (Chen et al. 2019).

  While a cell has more skips, its weakest one is struck off and the cell is decoded again. An edge
  that has no other operation leaves the cell then.

  Args:
    most: how many skips stay.
    k: how many edges of a node stay.

  Returns:
    The rule.

  Example:
    >>> from stretchnas_jax.cells.decoding import derive_cell
    >>> space = snas.darts_space(2)
    >>> strength = np.random.default_rng(0).random((5, 7))
    >>> table = snas.topology.none(space.graph)
    >>> edges, _, _ = derive_cell(space, table, strength, None, decoding=capped(most=0))
    >>> edges[-2:]
    (('max_pool_3x3', 0, 3), ('dil_conv_3x3', 1, 3))
  """
  plain = strongest_edges(k)

  def decode(
    space: space_lib.SearchSpace,
    strength: Float[np.ndarray, 'E O'],
    edge_scores: Float[np.ndarray, ' E'],
    beta: Float[np.ndarray, 'R K'] | None,
    table: topology.TopologyTable,
    allowed: Bool[np.ndarray, 'E O'],
  ) -> _Found:
    allowed, struck = allowed.copy(), []
    while True:
      edges, _ = plain(space, strength, edge_scores, beta, table, allowed)
      skips = [space.graph.edges.index(edge[1:]) for edge in edges if edge[0] == 'skip_connect']
      if len(skips) <= most:
        break
      skip = space.primitives.index('skip_connect')
      weakest = min(skips, key=lambda e: strength[e, skip] * edge_scores[e])
      allowed[weakest, skip] = False
      struck.append(space.graph.edges[weakest])
    shown = ', '.join(f'{src}->{dst}' for src, dst in struck)
    notes = [f'at most {most} skips may stay, so these were struck off: {shown}'] if struck else []
    return edges, notes

  return decode


def _with_an_input(
  space: space_lib.SearchSpace, kept: Bool[np.ndarray, ' E'], rank: Float[np.ndarray, ' E']
) -> tuple[Bool[np.ndarray, ' E'], Sequence[str]]:
  """Keeps the first edge by rank from an input of the cell where none stays; adds a note."""
  from_input = np.array([src < space.graph.num_inputs for src, _ in space.graph.edges])
  if (kept & from_input & (rank > -np.inf)).any():
    return kept, []
  best = int(np.where(from_input, rank, -np.inf).argmax())
  kept = kept.copy()
  kept[best] = True
  src, dst = space.graph.edges[best]
  return kept, [f'no edge from an input was left, so the best one was taken: {src}->{dst}']
