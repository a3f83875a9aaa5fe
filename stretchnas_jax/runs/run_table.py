"""A table of all runs below a folder."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from stretchnas_jax.config import names
from stretchnas_jax.runs import fields as fields_lib
from stretchnas_jax.runs import json_files, overview
from stretchnas_jax.views import tables

# The columns, and whether the largest value comes first when they sort.
_COLUMNS = {
  'name': False, 'state': False, 'kind': False, 'config': False, 'seed': False, 'epoch': True,
  'accuracy': True, 'params': False,
}  # fmt: skip
_WIDTH = 60  # characters of the fields that differ, in a row on a terminal
# Fields that say nothing about the run itself.
_APART = ('seed', 'log.', 'parallel.', 'checkpoint.', 'start_from.step', 'start_from.weights')


def rows_of(folder: pathlib.Path | str, sort: str = 'name') -> list[dict[str, Any]]:
  """Returns a row for each run below a folder.

  Args:
    folder: where the runs are.
    sort: the name of a column. Accuracies and epochs begin with the largest.

  Returns:
    Dicts with `name state kind config seed epoch epochs accuracy params differs path note`. The
    dict `differs` has the fields of the config in which runs of the same kind are not all equal.

  Raises:
    ValueError: there is no such column.
    FileNotFoundError: there is no such folder.
  """
  if sort not in _COLUMNS:
    hint = names.did_you_mean(sort, _COLUMNS) or f'it must be one of {", ".join(_COLUMNS)}'
    raise ValueError(f'--sort is {sort!r}; {hint}')
  top = pathlib.Path(folder).expanduser().absolute()
  runs = overview.below(top)
  rows = [_row(top, run, other) for run, other in zip(runs, differing(runs))]
  return sorted(rows, key=lambda row: _order(row[sort], _COLUMNS[sort]))


def text(rows: Sequence[dict[str, Any]]) -> str:
  """Returns the rows as a table for a terminal."""
  if not rows:
    return 'no runs'
  shown = [[*map(row.get, _COLUMNS), short(row['differs'])] for row in rows]
  epoch = list(_COLUMNS).index('epoch')
  for line, row in zip(shown, rows):
    line[epoch] = f'{row["epoch"]}/{"?" if row["epochs"] is None else row["epochs"]}'
  lines = [tables.text([*_COLUMNS, 'fields that differ'], shown)]
  lines += [f'{row["name"]}: {row["note"]}' for row in rows if row['note']]
  return '\n'.join(lines)


def differing(runs: Sequence[overview.Overview]) -> list[dict[str, Any]]:
  """Returns for each run the fields in which the runs of its kind are not all equal.

  Args:
    runs: searches and trainings; a field that a run lacks is None.
  """
  flat = [_counting(run) for run in runs]
  found: list[dict[str, Any]] = [{} for _ in runs]
  for kind in {run.kind for run in runs if run.config}:
    places = [i for i, run in enumerate(runs) if run.kind == kind and run.config]
    for name in sorted(set().union(*(flat[i] for i in places))):
      values = [flat[i].get(name) for i in places]
      if len({json.dumps(value, sort_keys=True) for value in values}) > 1:
        for i, value in zip(places, values):
          found[i][name] = value
  return found


def short(differs: dict[str, Any]) -> str:
  """Returns as many fields as fit a row, as `name=value`, and the number of the others."""
  items = [f'{name}={value}' for name, value in differs.items()]
  for count in range(len(items), 0, -1):
    more = len(items) - count
    text = ' '.join(items[:count]) + (f' and {more} more' if more else '')
    if len(text) <= _WIDTH:
      return text
  return f'{len(items)} fields' if items else ''


def _counting(run: overview.Overview) -> dict[str, Any]:
  """Returns the fields that say something about a run, without its cell."""
  fields = fields_lib.flatten(dict(run.config))
  found = {
    name: value
    for name, value in fields.items()
    if not name.startswith(_APART) and not name.startswith('genotype')
  }
  if isinstance(source := found.get('start_from.run'), str):
    # Each seed starts from the same seed of the other run.
    found['start_from.run'] = source.removesuffix(f'/seed_{run.seed}')
  return found


def _row(top: pathlib.Path, run: overview.Overview, differs: dict[str, Any]) -> dict[str, Any]:
  inside = run.path.relative_to(top)
  return {
    'name': run.path.name if inside == pathlib.Path() else str(inside),
    'state': run.state,
    'kind': run.kind,
    'config': run.named_config,
    'seed': run.seed,
    'epoch': run.epoch,
    'epochs': run.epochs,
    'accuracy': run.accuracy,
    'params': run.params,
    'differs': json_files.plain(differs),
    'path': str(run.path),
    'note': run.note,
  }


def _order(value: Any, largest_first: bool) -> tuple[bool, Any]:
  if value is None:
    return True, 0
  return False, -value if largest_first else value
