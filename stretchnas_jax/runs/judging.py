"""How decided a search was after each of its epochs, from its history."""

from stretchnas_jax.cells import decidedness
from stretchnas_jax.cells.decidedness import Judgement
from stretchnas_jax.cells.search_course import Epoch
from stretchnas_jax.runs.history import History


def judgement(history: History, i: int = -1) -> Judgement | None:
  """Returns how decided a search was after one of its epochs; None where it kept no scores.

  Args:
    history: of the search.
    i: the place of the epoch in the history.
  """
  facts = history.facts
  if facts is None or not history.strength:
    return None
  at = lambda values: {cell: array[i] for cell, array in values.items()}
  return decidedness.judge(
    facts.edges,
    facts.primitives,
    facts.table,
    at(history.strength),
    at(history.edge_scores),
    at(history.beta),
    history.genotypes[i],
  )


def course(history: History, epochs: int) -> list[Epoch]:
  """Returns the facts about all epochs of a search by which it is judged.

  Args:
    history: of the search.
    epochs: of the whole search, also those to come.
  """
  return [
    epoch_of(line, epochs, history.genotypes[i], judgement(history, i))
    for i, line in enumerate(history.lines)
  ]


def epoch_of(line: dict, epochs: int, cell: dict, found: Judgement | None) -> Epoch:
  """Returns the facts about one epoch.

  Args:
    line: its line of metrics.
    epochs: of the whole search.
    cell: the decoded cell, as `Genotype.to_dict` has it.
    found: how decided it is.
  """
  values = (line.get(name) for name in ('penalty', 'val_accuracy', 'cell_accuracy'))
  numbers = (value if isinstance(value, int | float) else None for value in values)
  return Epoch(line['epoch'], epochs, cell, found, *numbers)
