"""The lines that a run shows at the end of an epoch: a row of numbers, changes, and warnings."""

import contextlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from stretchnas_jax.cells import decidedness, genotype, search_course
from stretchnas_jax.cells.genotype import AnyGenotype
from stretchnas_jax.cells.search_course import Epoch
from stretchnas_jax.learning import evaluation
from stretchnas_jax.learning.state import SearchState
from stretchnas_jax.runs import history, judging
from stretchnas_jax.runs.metrics import Row

CELL = 'cell'
"""The name of the evaluation of the decoded cell."""

_Arrays = Mapping[str, Any]
_COLUMNS_OF_SCREEN = 100
_COLUMNS = '{:>9} {:>11} {:>8} {:>9} {:>8} {:>8}  {:11}'.format


def cell_accuracy(run: Any, state: SearchState, epoch: int, cell: AnyGenotype) -> dict[str, float]:
  """Measures the decoded cell with the weights of the supernet, in the epochs where it is due.

  Args:
    run: the `runner.Run` of a search.
    state: of the search, on the devices.
    epoch: that has ended.
    cell: the decoded cell.

  Returns:
    The entry 'cell_accuracy' of the line of metrics, or nothing.
  """
  config = run.plan.config
  every = config.log.cell_every
  if not every or epoch % every:
    return {}
  mixture = evaluation.mixture_of(run.now.objects.net.space, cell.to_dict())
  mixture = run.plan.settings.devices.replicate(mixture)
  return {'cell_accuracy': run.measure('val', state._replace(arch=mixture), CELL)['accuracy']}


def search_row(
  run: Any, line: dict, cell: AnyGenotype, scores: tuple[_Arrays, _Arrays, _Arrays]
) -> Row:
  """Returns the row of an epoch of a search, and keeps the facts about the epoch.

  Args:
    run: the `runner.Run`; its `course` is continued, or read from its folder.
    line: of metrics, without the figures of the clock.
    cell: the decoded cell.
    scores: by cell type, strengths of operations, edge scores, and beta.
  """
  objects = run.now.objects
  space, cell_edges = objects.net.space, cell.to_dict()
  found = decidedness.judge(space.graph.edges, space.primitives, objects.table, *scores, cell_edges)
  epochs, before = run.plan.settings.epochs, _course(run, line['epoch'])
  last = before[-1].cell if before else None
  before.append(judging.epoch_of(line, epochs, cell_edges, found))
  changed = () if last is None else search_course.changes(last, cell_edges)
  remarks = genotype.summary(cell).split('\n') if last is None else _listed(changed)
  remarks += [f'warning: {text}' for text in search_course.crossed(before)]
  header = _COLUMNS('epoch', 'train loss', 'accuracy', 'val loss', 'accuracy', 'decided', 'cell')
  text = _COLUMNS(
    f'{line["epoch"]}/{epochs}',
    *map(_number, (line.get(name) for name in _SHOWN)),
    f'{found.decided:.0%}',
    'new' if last is None else search_course.counted(changed),
  )
  return Row(header, text, [line for remark in remarks for line in _wrapped(remark)])


_SHOWN = ('train_loss', 'train_accuracy', 'val_loss', 'val_accuracy')


def training_row(line: dict, epochs: int) -> Row:
  """Returns the row of an epoch of a training.

  Args:
    line: of metrics, without the figures of the clock.
    epochs: of the whole training.
  """
  names = (*_SHOWN, 'test_loss', 'test_accuracy')
  titles = ('train loss', 'accuracy', 'val loss', 'accuracy', 'test loss', 'accuracy')
  shown = [i for i, name in enumerate(names) if name in line]
  row = lambda first, values: (
    f'{first:>9}'
    + ''.join(f' {value:>11}' if i == 0 else f' {value:>9}' for i, value in zip(shown, values))
  )
  header = row('epoch', [titles[i] for i in shown])
  return Row(header, row(f'{line["epoch"]}/{epochs}', [_number(line[names[i]]) for i in shown]))


def last_words(run: Any) -> list[str]:
  """Returns how decided the result of a search is, and the warnings that hold at its end."""
  course = _course(run, run.plan.settings.epochs + 1)
  found = course[-1].judgement if course else None
  words = decidedness.sentences(found) if found is not None else ()
  return [*words, *(f'warning: {text}' for text in search_course.warnings(course).values())]


def _course(run: Any, epoch: int) -> list[Epoch]:
  """Returns the facts about the epochs before one, from the folder where the run has resumed."""
  if not run.course and epoch > 1:
    with contextlib.suppress(ValueError, OSError):  # lines that are damaged end no run
      found = judging.course(history.load_history(run.folder.path), run.plan.settings.epochs)
      run.course += [one for one in found if one.epoch < epoch]
  return run.course


def _listed(changed: Sequence[search_course.Change]) -> list[str]:
  return list(search_course.listed(changed, genotype.SHORT_NAMES))


def _wrapped(remark: str) -> list[str]:
  """Returns a remark below a row, in lines that fit the screen."""
  first = ' ' * 10
  return textwrap.wrap(
    remark, _COLUMNS_OF_SCREEN, initial_indent=first, subsequent_indent=first * 2
  )


def _number(value: float | None) -> str:
  """Returns a loss or an accuracy in four digits; a dash for none."""
  if value is None:
    return '-'
  return f'{value:.4f}' if abs(value) < 10 else f'{value:.4g}'
