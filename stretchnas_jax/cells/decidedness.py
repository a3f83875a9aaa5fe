"""How decided a search is: the lead of each choice over its rival, ties, and a few sentences.

A decoded cell is the outcome of choices: which edges stay, and which operation stands on each. A
choice with a small lead may fall the other way with another seed, or an epoch later.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from stretchnas_jax.cells import choices as choices_lib
from stretchnas_jax.cells import topology
from stretchnas_jax.cells.arrays import AnyArray
from stretchnas_jax.cells.choices import OPERATION, Choice
from stretchnas_jax.cells.graph import Edge

_NAMED = 3  # ties that a sentence names


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
    found += choices_lib.of_cell(
      cell,
      edges,
      primitives,
      table,
      strength[cell],
      edge_scores[cell],
      beta[cell],
      cells[cell],
    )
  return Judgement(tuple(found))


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
