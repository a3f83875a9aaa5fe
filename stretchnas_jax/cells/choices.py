"""The choices behind a decoded cell: which edges stay, and which operation stands on each.

The rule of a search is not known here. The cell shows which numbers its rule compared.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from stretchnas_jax.cells import decoding, topology
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.graph import Edge
from stretchnas_jax.cells.space import CellEdge

CLEAR = 0.1
"""The lead, in shares from 0 to 1, with which a choice counts as decided."""

CLOSE = 0.9
"""A rival that has this part of the winner's share, or more, makes a near tie."""

OPERATION, EDGES = 'operation', 'edges'
"""The kinds of choices: an operation of an edge, or the edges of a node."""


class Choice(NamedTuple):
  """One choice of a decoding.

  Attributes:
    cell: the cell type.
    kind: `OPERATION` or `EDGES`.
    place: where, for a person: '0->2', 'out of node 3' or 'into node 4'.
    first: the winner: an operation, or the other ends of edges, '2, 5'.
    second: the strongest rival; '' where there is none.
    share: of the winner, from 0 to 1.
    rival: the share of the rival; 0 where there is none.
  """

  cell: str
  kind: str
  place: str
  first: str
  second: str
  share: float
  rival: float

  @property
  def margin(self) -> float:
    """The lead of the winner. It is negative where a rule took another than the strongest."""
    return self.share - self.rival

  @property
  def decided(self) -> bool:
    """Whether the winner leads clearly, or has no rival."""
    return not self.second or self.margin >= CLEAR

  @property
  def tied(self) -> bool:
    """Whether the rival is nearly as strong as the winner, or stronger."""
    return bool(self.second) and self.rival >= CLOSE * self.share


def of_cell(
  cell: str,
  edges: Sequence[Edge],
  primitives: Sequence[str],
  table: topology.TopologyTable,
  strength: Float[AnyArray, '*L E O'],
  edge_scores: Float[AnyArray, ' E'],
  beta: Float[AnyArray, 'R K'],
  derived: Iterable[Sequence],
) -> list[Choice]:
  """Returns the choices behind one cell.

  Args:
    cell: the cell type.
    edges: `(src, dst)` in the order of the arrays.
    primitives: names of the operations.
    table: the topology table.
    strength: the numbers by which operations are ranked.
    edge_scores: of the edges.
    beta: the topology logits; unused for a table without rows.
    derived: the edges of the decoded cell, `(operation, src, dst)`.

  Returns:
    The choices. Edges that were pruned, and their nodes, do not count.
  """
  kept = [(str(op), int(src), int(dst)) for op, src, dst in derived if op != 'none']
  chosen = {(src, dst) for _, src, dst in kept}
  shares, none_competes = rivals(edges, primitives, table, strength, kept)
  found = _operations(cell, edges, primitives, shares, kept)
  if none_competes:
    return found + _lost_to_none(cell, edges, primitives, shares, chosen)
  if table.has_rows and _follow_codes(edges, table, beta, chosen):
    return found + _codes(cell, edges, table, beta, chosen)
  scores = shares.max(1) * np.asarray(edge_scores, float)
  return found + _entries(cell, edges, scores, table.by, chosen)


def rivals(
  edges: Sequence[Edge],
  primitives: Sequence[str],
  table: topology.TopologyTable,
  strength: Float[AnyArray, '*L E O'],
  derived: Iterable[Sequence],
) -> tuple[Float[np.ndarray, 'E O'], bool]:
  """Returns the shares of the operations that the rule of a cell compared.

  Args:
    edges: `(src, dst)` in the order of the arrays.
    primitives: names of the operations.
    table: the topology table.
    strength: the numbers by which operations are ranked.
    derived: the edges of the decoded cell, `(operation, src, dst)`.

  Returns:
    The shares; and whether `none` was compared. It was where the cell lacks just the edges on which
    `none` is the strongest, as after `decodings.all_edges`. Otherwise its share is 0.
  """
  shares = shares_of(strength)
  chosen = {(int(src), int(dst)) for op, src, dst in derived if op != 'none'}
  if _none_competes(edges, primitives, table, shares, chosen):
    return shares, True
  return shares * np.array([name != 'none' for name in primitives]), False


def shares_of(strength: Float[AnyArray, '*L E O']) -> Float[np.ndarray, 'E O']:
  """Returns strengths as shares from 0 to 1.

  Args:
    strength: the numbers by which operations are ranked. Layers are averaged. Where some are not
      in 0 .. 1, a softmax over each edge makes shares of them.
  """
  values = np.asarray(strength, float)
  values = values.mean(0) if values.ndim == 3 else values
  return values if ((values >= 0) & (values <= 1.0001)).all() else _softmax(values)


def code_shares(
  beta: Float[AnyArray, 'R K'], table: topology.TopologyTable
) -> Float[np.ndarray, 'R K']:
  """Returns the probabilities of the codes as `topology.code_probs` does, without a device.

  Args:
    beta: the topology logits.
    table: a table with rows.
  """
  return _softmax(np.where(np.asarray(table.mask), np.asarray(beta, float), -np.inf))


def _softmax(values: Float[np.ndarray, 'N M']) -> Float[np.ndarray, 'N M']:
  powers = np.exp(values - values.max(1, keepdims=True))
  return powers / powers.sum(1, keepdims=True)


def _none_competes(
  edges: Sequence[Edge],
  primitives: Sequence[str],
  table: topology.TopologyTable,
  shares: Float[np.ndarray, 'E O'],
  chosen: set[Edge],
) -> bool:
  """Tells whether a cell has just the edges on which `none` is not the strongest, after pruning."""
  if table.has_rows or 'none' not in primitives:
    return False
  none = list(primitives).index('none')
  stays = np.delete(shares, none, 1).max(1) >= shares[:, none]
  return _pruned(edges, stays) == chosen


def _pruned(edges: Sequence[Edge], stays: Bool[np.ndarray, ' E']) -> set[Edge]:
  """Returns the edges that are left of those that stay, after pruning."""
  found = [('', *edge) for edge, kept in zip(edges, stays) if kept]
  pruned, _ = decoding.prune(found, min(dst for _, dst in edges))
  return {(src, dst) for _, src, dst in pruned}


# ---- the kinds of choices ------------------------------------------------------------------------


def _operations(
  cell: str,
  edges: Sequence[Edge],
  primitives: Sequence[str],
  shares: Float[np.ndarray, 'E O'],
  kept: Sequence[CellEdge],
) -> list[Choice]:
  """Returns the choice of an operation on each edge of the decoded cell."""
  found = []
  for e, edge in enumerate(edges):
    chosen = {op for op, *ends in kept if tuple(ends) == edge and op in primitives}
    if not chosen:
      continue
    share = dict(zip(primitives, map(float, shares[e])))
    first = min(chosen, key=lambda op: share[op])
    others = {op: share[op] for op in share if op not in chosen and share[op] > 0}
    second = max(others, key=lambda op: others[op], default='')
    place = f'{edge[0]}->{edge[1]}'
    found.append(
      Choice(cell, OPERATION, place, first, second, share[first], others.get(second, 0.0))
    )
  return found


def _lost_to_none(
  cell: str,
  edges: Sequence[Edge],
  primitives: Sequence[str],
  shares: Float[np.ndarray, 'E O'],
  chosen: set[Edge],
) -> list[Choice]:
  """Returns the choice of `none` on each edge that left a node of the cell and went."""
  reached = {*range(min(dst for _, dst in edges)), *(dst for _, dst in chosen)}
  found = []
  for e, (src, dst) in enumerate(edges):
    share = dict(zip(primitives, map(float, shares[e])))
    if src not in reached or (src, dst) in chosen:
      continue
    second = max((op for op in share if op != 'none'), key=lambda op: share[op])
    place = f'{src}->{dst}'
    found.append(Choice(cell, EDGES, place, 'none', second, share['none'], share[second]))
  return found


def _follow_codes(
  edges: Sequence[Edge],
  table: topology.TopologyTable,
  beta: Float[AnyArray, 'R K'],
  chosen: set[Edge],
) -> bool:
  """Tells whether the edges of a cell are those of the most probable codes, after pruning."""
  best = np.where(table.mask, np.asarray(beta), -np.inf).argmax(1)
  return _pruned(edges, np.asarray(table.codes)[np.arange(len(best)), best].any(0)) == chosen


def _codes(
  cell: str,
  edges: Sequence[Edge],
  table: topology.TopologyTable,
  beta: Float[AnyArray, 'R K'],
  chosen: set[Edge],
) -> list[Choice]:
  """Returns the choice of a code by each node of the decoded cell."""
  inputs = range(min(dst for _, dst in edges))
  found, reached = [], {*inputs, *(dst for _, dst in chosen)}
  probs = code_shares(beta, table)
  side, direction = (0, 'out of') if table.by == 'source' else (1, 'into')
  for codes, mask, row in zip(np.asarray(table.codes), np.asarray(table.mask), probs):
    own = np.flatnonzero(codes.any(0))
    if np.sum(mask) < 2 or not len(own) or edges[own[0]][side] not in reached:
      continue  # nothing to choose, or a node that was pruned
    order = np.argsort(-np.where(mask, row, -1.0), kind='stable')
    first, second = (_ends(edges, codes[k], 1 - side) for k in order[:2])
    place = f'{direction} node {edges[own[0]][side]}'
    share, rival = map(float, row[order[:2]])
    found.append(Choice(cell, EDGES, place, first, second, share, rival))
  return found


def _ends(edges: Sequence[Edge], code: Float[np.ndarray, ' E'], side: int) -> str:
  """Returns the far ends of the edges of a code: '2, 5'."""
  return ', '.join(str(edges[e][side]) for e in np.flatnonzero(code).tolist()) or 'no edge'


def _entries(
  cell: str,
  edges: Sequence[Edge],
  scores: Float[np.ndarray, ' E'],
  by: str,
  chosen: set[Edge],
) -> list[Choice]:
  """Returns, for each node, the choice of its weakest edge over the strongest one that went."""
  found, side = [], 0 if by == 'source' else 1
  direction = 'out of' if by == 'source' else 'into'
  for node in sorted({edge[side] for edge in chosen}):
    own = [e for e, edge in enumerate(edges) if edge[side] == node]
    kept = [e for e in own if edges[e] in chosen]
    gone = [e for e in own if edges[e] not in chosen]
    if not gone or not kept:
      continue
    first, second = min(kept, key=lambda e: scores[e]), max(gone, key=lambda e: scores[e])
    names = str(edges[first][1 - side]), str(edges[second][1 - side])
    shares = float(scores[first]), float(scores[second])
    found.append(Choice(cell, EDGES, f'{direction} node {node}', *names, *shares))
  return found
