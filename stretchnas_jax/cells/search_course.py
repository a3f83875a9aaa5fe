"""The course of a search from epoch to epoch: how its cell changes, and lines that it crosses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from stretchnas_jax.cells.decidedness import Judgement
from stretchnas_jax.cells.space import CELL_TYPES

SKIPS = 0.5
"""The part of a cell's edges above which skip connections have taken over."""

_STILL = 10
"""Epochs without a change after which a cell counts as settled."""

_TIED = 0.5
"""The part of near ties that is too much in the second half of a search."""

_GAP = 0.2
"""How far the decoded cell may fall behind the supernet, as a difference of accuracies."""

_WIDTH = 88  # characters of a line of changes


class Epoch(NamedTuple):
  """The facts about one epoch by which a search is judged.

  Attributes:
    epoch: its number, from 1.
    epochs: of the whole search.
    cell: the decoded cell, as `Genotype.to_dict` has it.
    judgement: how decided it is; None where no scores were kept.
    penalty: r(beta), or None.
    accuracy: of the supernet on the validation images, or None.
    cell_accuracy: of the decoded cell with the supernet's weights; None where nobody measured it.
  """

  epoch: int
  epochs: int
  cell: Mapping[str, Any]
  judgement: Judgement | None = None
  penalty: float | None = None
  accuracy: float | None = None
  cell_accuracy: float | None = None


class Change(NamedTuple):
  """An edge on which two cells differ.

  Attributes:
    cell: the cell type.
    edge: `(src, dst)`.
    before: the operations there before; empty where there was no edge.
    after: the operations there now.
  """

  cell: str
  edge: tuple[int, int]
  before: tuple[str, ...]
  after: tuple[str, ...]


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
  """Returns the edges on which two genotypes differ, in the order of the edges.

  Args:
    before: a genotype as `Genotype.to_dict` has it.
    after: another one.
  """
  found = []
  for cell in CELL_TYPES:
    old, new = by_edge(before.get(cell, ())), by_edge(after.get(cell, ()))
    for edge in sorted(old.keys() | new.keys(), key=lambda ends: ends[::-1]):
      one, other = old.get(edge, ()), new.get(edge, ())
      if one != other:
        found.append(Change(cell, edge, one, other))
  return tuple(found)


def counted(found: Sequence[Change]) -> str:
  """Returns changes as counts: '+2 -1 ~3', edges that came, went, and changed; '=' for none."""
  came = sum(not change.before for change in found)
  went = sum(not change.after for change in found)
  other = len(found) - came - went
  counts = {'+': came, '-': went, '~': other}
  return ' '.join(f'{sign}{count}' for sign, count in counts.items() if count) or '='


def listed(found: Sequence[Change], short: Mapping[str, str] | None = None) -> tuple[str, ...]:
  """Returns changes in words, a line for each cell type that has some.

  Args:
    found: the changes.
    short: shorter names of operations.
  """
  named = lambda ops: '+'.join((short or {}).get(op, op) for op in ops)
  lines = []
  for cell in CELL_TYPES:
    words = []
    for change in (change for change in found if change.cell == cell):
      place = f'{change.edge[0]}->{change.edge[1]}'
      if not change.before:
        words.append(f'+{place} {named(change.after)}')
      elif not change.after:
        words.append(f'-{place}')
      else:
        words.append(f'{place} {named(change.before)} > {named(change.after)}')
    lines += [f'{cell:6} {_fitting(words)}'] if words else []
  return tuple(lines)


def _fitting(words: Sequence[str]) -> str:
  """Joins as many words as fit a line, and counts the others."""
  for count in range(len(words), 1, -1):
    left = len(words) - count
    text = ', '.join(words[:count]) + (f', and {left} more' if left else '')
    if len(text) <= _WIDTH:
      return text
  return words[0] + (f', and {len(words) - 1} more' if len(words) > 1 else '')


def warnings(course: Sequence[Epoch]) -> dict[str, str]:
  """Returns the warnings that hold after the last of some epochs: sentences by their kind.

  Args:
    course: all epochs so far, in order.
  """
  if not course:
    return {}
  found = {
    'skips': _skips(course[-1]),
    'still': _still(course),
    'ties': _ties(course[-1]),
    'penalty': _penalty(course),
    'gap': _gap(course),
  }
  return {kind: sentence for kind, sentence in found.items() if sentence}


def crossed(course: Sequence[Epoch]) -> tuple[str, ...]:
  """Returns the warnings that did not hold an epoch before.

  Args:
    course: all epochs so far, in order.
  """
  before = warnings(course[:-1])
  return tuple(text for kind, text in warnings(course).items() if kind not in before)


# ---- one line after the other --------------------------------------------------------------------


def _skips(last: Epoch) -> str:
  """Returns the warning of DARTS' collapse: most edges of the normal cell are skip connections."""
  edges = list(last.cell.get('normal', ()))
  skips = sum(op == 'skip_connect' for op, *_ in edges)
  if not edges or skips <= SKIPS * len(edges):
    return ''
  return (
    f'skip connections take over: {skips} of {len(edges)} edges of the normal cell; an earlier '
    'epoch may have a better cell'
  )


def _still(course: Sequence[Epoch]) -> str:
  if len(course) <= _STILL or course[-1].epoch == course[-1].epochs:
    return ''
  cells = [epoch.cell for epoch in course[-_STILL - 1 :]]
  if any(changes(one, other) for one, other in zip(cells, cells[1:])):
    return ''
  return f'the cell has not changed for {_STILL} epochs'


def _ties(last: Epoch) -> str:
  if last.judgement is None or 2 * last.epoch < last.epochs:
    return ''
  choices, ties = last.judgement.choices, last.judgement.ties
  if len(ties) <= _TIED * len(choices):
    return ''
  return (
    f'{len(ties)} of {len(choices)} choices are near ties in the second half of the search: the '
    'cell depends on chance'
  )


def _penalty(course: Sequence[Epoch]) -> str:
  values = [epoch.penalty for epoch in course]
  if len(values) < 2 or not values[-1] or 0 not in values[:-1]:
    return ''
  return f'r(beta) has left 0: it is {values[-1]:.3g}, and the best codes do not reach every node'


def _gap(course: Sequence[Epoch]) -> str:
  last = next((epoch for epoch in reversed(course) if epoch.cell_accuracy is not None), course[-1])
  if last.accuracy is None or last.cell_accuracy is None or 2 * last.epoch < last.epochs:
    return ''
  if last.accuracy - last.cell_accuracy < _GAP:
    return ''
  return (
    f'the supernet is right on {last.accuracy:.1%} of the validation images, and its decoded cell '
    f'with the same weights on {last.cell_accuracy:.1%}'
  )


def by_edge(edges: Iterable[Sequence[Any]]) -> dict[tuple[int, int], tuple[str, ...]]:
  """Returns the operations of a cell by their edge, which may have several.

  Args:
    edges: `(operation, src, dst)`.
  """
  found: dict[tuple[int, int], tuple[str, ...]] = {}
  for op, src, dst in edges:
    found[src, dst] = tuple(sorted((*found.get((src, dst), ()), op)))
  return found
