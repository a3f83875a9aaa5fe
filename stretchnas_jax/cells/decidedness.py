"""How decided a search is: the lead of each choice over its rival, ties, and a few sentences.

A decoded cell is the outcome of choices: which edges stay, and which operation stands on each. A
choice with a small lead may fall the other way with another seed, or an epoch later.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

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

_NAMED = 3  # ties that a sentence names


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


class Judgement(NamedTuple):
  """All choices behind a pair of cells.

  Attributes:
    choices: of both cell types.
  """

  choices: tuple[Choice, ...]

  @property
  def decided(self) -> float:
    """The part of the choices that is decided, from 0 to 1; 1 without choices."""
    return float(np.mean([choice.decided for choice in self.choices] or [1.0]))

  @property
  def margin(self) -> float:
    """The median lead of the operations; 0 without any."""
    return float(np.median([c.margin for c in self.of(OPERATION)] or [0.0]))

  @property
  def ties(self) -> tuple[Choice, ...]:
    """The near ties, the closest first."""
    return tuple(sorted((c for c in self.choices if c.tied), key=lambda c: c.margin))

  def of(self, kind: str) -> tuple[Choice, ...]:
    """Returns the choices of a kind, `OPERATION` or `EDGES`."""
    return tuple(choice for choice in self.choices if choice.kind == kind)


def judge(
  edges: Sequence[Edge],
  primitives: Sequence[str],
  table: topology.TopologyTable,
  strength: Mapping[str, Float[AnyArray, '*L E O']],
  edge_scores: Mapping[str, Float[AnyArray, ' E']],
  beta: Mapping[str, Float[AnyArray, 'R K']],
  cells: Mapping[str, Iterable[Sequence]],
) -> Judgement:
  """Judges both cells of a decoding.

  Args:
    edges: `(src, dst)` in the order of the arrays.
    primitives: names of the operations.
    table: the topology table.
    strength: by cell type, the numbers by which operations are ranked.
    edge_scores: by cell type.
    beta: topology logits by cell type; unused for a table without rows.
    cells: by cell type, the edges of the decoded cell, `(operation, src, dst)`.

  Returns:
    The choices. Edges that were pruned, and their nodes, do not count.
  """
  found: list[Choice] = []
  for cell in strength:
    kept = [(str(op), int(src), int(dst)) for op, src, dst in cells[cell] if op != 'none']
    shares = shares_of(strength[cell], primitives)
    found += _operations(cell, edges, primitives, shares, kept)
    chosen = {(src, dst) for _, src, dst in kept}
    if table.has_rows and _follow_codes(edges, table, beta[cell], chosen):
      found += _codes(cell, edges, table, beta[cell], chosen)
    else:
      scores = shares.max(1) * np.asarray(edge_scores[cell], float)
      found += _entries(cell, edges, scores, table.by, chosen)
  return Judgement(tuple(found))


def shares_of(
  strength: Float[AnyArray, '*L E O'], primitives: Sequence[str]
) -> Float[np.ndarray, 'E O']:
  """Returns strengths as shares from 0 to 1, without that of `none`.

  Args:
    strength: the numbers by which operations are ranked. Layers are averaged. Where some are not
      in 0 .. 1, a softmax over each edge makes shares of them.
    primitives: names of the operations.

  Returns:
    A share for each operation; 0 for `none`, which no derived cell holds.
  """
  values = np.asarray(strength, float)
  values = values.mean(0) if values.ndim == 3 else values
  real = np.array([name != 'none' for name in primitives])
  if not ((values >= 0) & (values <= 1.0001)).all():
    values = _softmax(values)
  return np.where(real, values, 0.0)


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


def sentences(judgement: Judgement) -> tuple[str, ...]:
  """Returns a few plain sentences about how decided a result is."""
  choices, ties = judgement.choices, judgement.ties
  if not choices:
    return ('nothing is known about how decided this cell is',)
  decided = sum(choice.decided for choice in choices)
  words = [
    f'{decided} of {len(choices)} choices are decided ({judgement.decided:.0%}); '
    f'the median lead of an operation is {judgement.margin:.2f}'
  ]
  if ties:
    named = '; '.join(describe(choice) for choice in ties[:_NAMED])
    more = f'; and {len(ties) - _NAMED} more' if len(ties) > _NAMED else ''
    are = 'near tie' if len(ties) == 1 else 'near ties'
    words.append(f'{len(ties)} {are}: {named}{more}')
  else:
    words.append('no choice is a near tie')
  return (*words, verdict(judgement))


def verdict(judgement: Judgement) -> str:
  """Returns one sentence: whether small changes of the scores would change the cell."""
  if judgement.decided >= 0.9 and not judgement.ties:
    return 'the cell is decided: small changes of the scores would not change it'
  if judgement.decided >= 0.9:
    return 'nearly all of the cell is decided: small changes of the scores would change few choices'
  if judgement.decided >= 0.5:
    return 'the cell is decided in part: small changes of the scores may change the rest'
  return 'the cell is not decided: another seed, or another epoch, may well give another cell'


def describe(choice: Choice) -> str:
  """Returns a choice in words: 'normal 0->2: sep_conv_3x3 0.164, skip_connect 0.155'."""
  way = {'out': 'to ', 'int': 'from '}.get(choice.place[:3], '')
  first, second = (ends.replace(', ', ' and ') for ends in (choice.first, choice.second))
  rival = f', {way}{second} {choice.rival:.3f}' if second else ''
  return f'{choice.cell} {choice.place}: {way}{first} {choice.share:.3f}{rival}'


# ---- the choices of one cell ---------------------------------------------------------------------


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
    others = {op: share[op] for op in share if op not in chosen and op != 'none' and share[op] > 0}
    second = max(others, key=lambda op: others[op], default='')
    place = f'{edge[0]}->{edge[1]}'
    found.append(
      Choice(cell, OPERATION, place, first, second, share[first], others.get(second, 0.0))
    )
  return found


def _follow_codes(
  edges: Sequence[Edge],
  table: topology.TopologyTable,
  beta: Float[AnyArray, 'R K'],
  chosen: set[Edge],
) -> bool:
  """Tells whether the edges of a cell are those of the most probable codes, after pruning."""
  best = np.where(table.mask, np.asarray(beta), -np.inf).argmax(1)
  codes = np.asarray(table.codes)[np.arange(len(best)), best].any(0)
  found = [('', *edge) for edge, stays in zip(edges, codes) if stays]
  pruned, _ = decoding.prune(found, min(dst for _, dst in edges))
  return {(src, dst) for _, src, dst in pruned} == chosen


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
