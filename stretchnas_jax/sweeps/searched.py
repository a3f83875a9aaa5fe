"""The searches behind an experiment: their cells, and the history of their epochs."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import json_files
from stretchnas_jax.sweeps.spec import Experiment, Run
from stretchnas_jax.sweeps.trials import (
  Setting,
  canonical_run,
  is_done,
  search_at_scale,
  search_name,
  trials,
)
from stretchnas_jax.views.charts import CurvePoint

# The metrics of an epoch that are kept, with their names on axes.
HISTORY = {
  'penalty': 'r(beta)',
  'none_weight_mean': 'weight of none, mean over edges',
  'none_weight_max': 'weight of none, largest',
}
_PLOTTED = ('penalty', 'none_weight_max')


def search_histories(experiment: Experiment, setting: Setting) -> dict[str, dict[str, Any]]:
  """Returns every search of which a seed is done, by name, in the order of the runs.

  Args:
    experiment: the searches, and the runs that use them.
    setting: the seeds, the scale and the folder.

  Returns:
    A dict for each search with `layers`, `epochs` and `runs`. A run has `seed`, `val_accuracy`,
    `depth` and `edges` of the normal cell, `zero_from`, and `history`: the values of all epochs by
    metric.
  """
  found: dict[str, dict[str, Any]] = {}
  for run in experiment.runs.values():
    name = _search_of(experiment, run, setting)
    if name is None or name in found:
      continue
    folders = [trial.search for trial in trials(experiment, run, setting)]
    runs = [_searched_seed(folder) for folder in folders if is_done(folder)]
    if runs:
      layers = search_at_scale(experiment.searches[name], setting.scale).layers
      found[name] = {'layers': layers, 'epochs': setting.scale.epochs, 'runs': runs}
  return found


def zero_from(penalties: Sequence[float | int]) -> int | None:
  """Returns the epoch from which r(beta) stays 0, or None where the last one is not 0.

  Args:
    penalties: r(beta) of each epoch.
  """
  epoch = len(penalties)
  while epoch and penalties[epoch - 1] == 0:
    epoch -= 1
  return None if epoch == len(penalties) else epoch + 1


def mean_curves(
  searches: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, list[CurvePoint]]]:
  """Returns the mean over seeds of each plotted metric, by epoch and search.

  A search whose penalty is always 0, such as one without topology variables, has no such curve.

  Args:
    searches: the result of `search_histories`.

  Returns:
    The points of each search, by metric.
  """
  found: dict[str, dict[str, list[CurvePoint]]] = {}
  for metric in _PLOTTED:
    for search, row in searches.items():
      histories = [run['history'][metric] for run in row['runs'] if metric in run['history']]
      is_always_zero = not any(any(values) for values in histories)
      if not histories or (metric == 'penalty' and is_always_zero):
        continue
      means = [sum(values) / len(values) for values in zip(*histories)]
      points = [CurvePoint(epoch, mean) for epoch, mean in enumerate(means, 1)]
      found.setdefault(metric, {})[search] = points
  return found


def search_title(name: str, results: Mapping[str, Any]) -> str:
  """Returns the name of a search; it says where another one stands in for the paper's.

  Args:
    name: of the search.
    results: the result of `collect.collect`.
  """
  found = results['stand_ins'].get(name)
  return f'{name} [{found}]' if found else name


def _search_of(experiment: Experiment, run: Run, setting: Setting) -> str | None:
  """Returns the name of the search whose cell a run uses, or None."""
  if run.cell is None:
    return None
  run = canonical_run(experiment, run, setting.scale)
  return search_name(run.cell, experiment.searches)


def _searched_seed(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the cell and the history of one seed of a search."""
  with faults.reading(folder / 'result.json'):
    return _cell_and_history(folder)


def _cell_and_history(folder: pathlib.Path) -> dict[str, Any]:
  result = json_files.read_object(folder / 'result.json')
  normal = genotype_lib.Genotype.from_dict(result['genotype']).normal
  lines = json_files.read_lines(folder / 'metrics.jsonl')
  history = {name: [line[name] for line in lines] for name in HISTORY if name in lines[-1]}
  return {
    'seed': result['seed'],
    'val_accuracy': result['val_accuracy'],
    'depth': genotype_lib.depth(normal),
    'edges': len(normal),
    'zero_from': zero_from(history['penalty']),
    'history': {
      name: [_four_figures(value) for value in values] for name, values in history.items()
    },
  }


def _four_figures(value: float | int) -> float:
  return float(f'{value:.4g}')
