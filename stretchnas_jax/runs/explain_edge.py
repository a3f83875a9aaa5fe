"""One edge of a search: its history, its rivals, and the cost of its removal."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stretchnas_jax.cells import choices as choices_lib
from stretchnas_jax.cells import decidedness
from stretchnas_jax.cells.choices import Choice
from stretchnas_jax.cells.space import CELL_TYPES
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import judging, supernet_accuracy
from stretchnas_jax.runs.scores import Scores
from stretchnas_jax.views import tables

_EDGE = re.compile(r'(?:(normal|reduce)[ :])?\s*(\d{1,4})\s*(?:->|-|,|:)\s*(\d{1,4})')
_MOST_EPOCHS = 12  # in a table for a person


class Moment(NamedTuple):
  """An edge after one epoch.

  Attributes:
    epoch: counted from 1.
    first: the strongest operation.
    weight: its weight.
    second: the next one; '' where there is none.
    rival: the weight of the next one.
    score: the merged score of the edge.
    kept: the operations that the decoded cell has there; empty where it has no such edge.
  """

  epoch: int
  first: str
  weight: float
  second: str
  rival: float
  score: float
  kept: tuple[str, ...]


class Removal(NamedTuple):
  """The cost of leaving an edge out.

  Attributes:
    network: 'supernet', or 'cell' for the decoded cell alone.
    accuracy: with the edge.
    without: the accuracy without it.
    loss: with the edge.
    loss_without: without it.
  """

  network: str
  accuracy: float
  without: float
  loss: float
  loss_without: float


class Explained(NamedTuple):
  """The facts about an edge in one cell type.

  Attributes:
    cell: the cell type.
    edge: `(src, dst)`.
    moments: one for each epoch.
    choices: how decided its operation is, and the edges of the node that chose it.
    removals: where they were measured.
  """

  cell: str
  edge: tuple[int, int]
  moments: tuple[Moment, ...]
  choices: tuple[Choice, ...]
  removals: tuple[Removal, ...] = ()


def parse(text: str) -> tuple[tuple[str, ...], tuple[int, int]]:
  """Returns the cell types and the edge that a text names: '0-3', '0->3' or 'normal:0-3'.

  Raises:
    ValueError: it names no edge.
  """
  found = _EDGE.fullmatch(text.strip())
  if found is None:
    raise ValueError(
      f'EDGE is {text[:100]!r}; it must be like 0-3, or normal:0-3 for one cell type'
    )
  cells = (found[1],) if found[1] else CELL_TYPES
  return cells, (int(found[2]), int(found[3]))


def explain(found: Scores, cells: Sequence[str], edge: tuple[int, int]) -> tuple[Explained, ...]:
  """Returns the facts about an edge that the scores of a search tell.

  Args:
    found: the scores.
    cells: the cell types.
    edge: `(src, dst)`.

  Raises:
    ValueError: the search has no such edge, or kept no scores.
  """
  if not found.has_scores:
    raise ValueError(found.note or f'{found.path} holds no scores yet')
  edges = found.facts.edges
  if edge not in edges:
    least, most = min(edges[0]), max(dst for _, dst in edges)
    raise ValueError(
      f'the search has no edge {edge[0]}->{edge[1]}; its edges lead from {least}->{edges[0][1]} to '
      f'{edges[-1][0]}->{most}'
    )
  known = [cell for cell in cells if cell in found.cells]
  if not known:
    raise ValueError(f'the search has no {cells[0]} cell; its only type is {found.cells[0]}')
  return tuple(_explained(found, cell, edge) for cell in known)


def measured(
  explained: Sequence[Explained], run: pathlib.Path | str, trust: bool = False
) -> tuple[tuple[Explained, ...], str]:
  """Returns the facts with the cost of each removal, and a sentence where it cannot be measured.

  Args:
    explained: the facts about an edge.
    run: the folder of the search.
    trust: run the program of the search's own parts.
  """
  try:
    with supernet_accuracy.opened(run, trust) as net:
      return tuple(one._replace(removals=_removals(net, one)) for one in explained), ''
  except (ValueError, OSError) as error:
    return tuple(explained), f'the cost of its removal is not known: {faults.one_line(error)}'


def _removals(net: supernet_accuracy.Supernet, one: Explained) -> tuple[Removal, ...]:
  place = net.saved.objects.net.space.graph.edges.index(one.edge)
  whole = net.mixture()
  pairs = [('supernet', whole, supernet_accuracy.without_edge(whole, one.cell, place))]
  if one.moments[-1].kept:
    cell = net.mixture_of(net.cell())
    pairs.append(('cell', cell, supernet_accuracy.without_edge(cell, one.cell, place)))
  found = []
  for name, whole, less in pairs:
    before, after = net.of(whole), net.of(less)
    found.append(Removal(name, before.accuracy, after.accuracy, before.loss, after.loss))
  return tuple(found)


def _explained(found: Scores, cell: str, edge: tuple[int, int]) -> Explained:
  count = len(found.history.strength[cell])  # a checkpoint has scores of the last epoch alone
  moments = [_moment(found, cell, edge, i - count) for i in range(count)]
  judged = judging.judgement(found.history)
  side = 0 if found.facts.table.by == 'source' else 1
  node = f'{("out of", "into")[side]} node {edge[side]}'
  places = (f'{edge[0]}->{edge[1]}', node)
  choices = tuple(
    choice
    for choice in (judged.choices if judged is not None else ())
    if choice.cell == cell and choice.place in places
  )
  return Explained(cell, edge, tuple(moments), choices)


def _moment(found: Scores, cell: str, edge: tuple[int, int], i: int) -> Moment:
  e, names = found.facts.edges.index(edge), found.facts.primitives
  kept = found.history.genotypes[i].get(cell) or ()
  strength = found.strength(cell, i)
  found_shares, _ = choices_lib.rivals(found.facts.edges, names, found.facts.table, strength, kept)
  shares = found_shares[e]
  first, *rest = np.argsort(-shares, kind='stable')
  second = rest[0] if rest and shares[rest[0]] > 0 else None
  return Moment(
    int(found.history.epochs[i]),
    names[first],
    float(shares[first]),
    '' if second is None else names[second],
    0.0 if second is None else float(shares[second]),
    float(found.edge_scores(cell, i)[e]),
    tuple(str(op) for op, *ends in kept if tuple(ends) == edge),
  )


# ---- for a person and for programs ---------------------------------------------------------------


def text(explained: Sequence[Explained], notes: Sequence[str]) -> str:
  """Returns the facts for a terminal.

  Args:
    explained: the facts, by cell type.
    notes: sentences on missing parts.
  """
  lines = []
  for one in explained:
    lines += [f'{one.cell} cell, edge {one.edge[0]}->{one.edge[1]}: {_summary(one)}']
    lines += [f'  {decidedness.describe(choice)}' for choice in one.choices]
    for found in one.removals:
      lines.append(
        f'  without it the accuracy of the {_NETWORKS[found.network]} goes from '
        f'{found.accuracy:.4f} to {found.without:.4f}, the loss from {found.loss:.4f} to '
        f'{found.loss_without:.4f}'
      )
    table = tables.text(
      ['epoch', 'strongest', 'weight', 'next', 'weight', 'edge score', 'in the cell'],
      [[*moment[:6], ', '.join(moment.kept) or None] for moment in _spread(one.moments)],
    )
    lines += [f'  {line}' for line in table.split('\n')]
  return '\n'.join([*lines, *(note for note in notes if note)])


_NETWORKS = {'supernet': 'supernet', 'cell': "decoded cell with the supernet's weights"}


def to_dict(explained: Sequence[Explained], notes: Sequence[str]) -> dict[str, Any]:
  """Returns the facts as JSON holds them.

  Args:
    explained: the facts, by cell type.
    notes: sentences on missing parts.
  """
  cells = {
    one.cell: {
      'edge': list(one.edge),
      'history': [moment._asdict() for moment in one.moments],
      'choices': [
        {**choice._asdict(), 'margin': choice.margin, 'decided': choice.decided}
        for choice in one.choices
      ],
      'removals': [found._asdict() for found in one.removals],
    }
    for one in explained
  }
  return {**cells, 'notes': [note for note in notes if note]}


def _summary(one: Explained) -> str:
  """Returns since when an edge is in the cell, or that it is not."""
  last = one.moments[-1]
  same = 0
  for moment in reversed(one.moments):
    if moment.kept != last.kept:
      break
    same += 1
  since = one.moments[-same].epoch
  held = f'{" and ".join(last.kept)} in the cell' if last.kept else 'not in the cell'
  return f'{held} after epoch {last.epoch}, the same since epoch {since}'


def _spread(moments: Sequence[Moment]) -> list[Moment]:
  """Returns some moments from the first to the last, at even distances."""
  count = min(len(moments), _MOST_EPOCHS)
  places = np.linspace(0, len(moments) - 1, count).round().astype(int)
  return [moments[i] for i in dict.fromkeys(places.tolist())]
