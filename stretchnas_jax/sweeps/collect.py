"""Reads the results of an experiment's runs, beside the figures of the paper."""

import datetime
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import json_files, statistics
from stretchnas_jax.sweeps import jobs, scales
from stretchnas_jax.sweeps.searched import search_histories
from stretchnas_jax.sweeps.spec import EPOCHS, IMAGENET, LAYERS, Experiment, Run
from stretchnas_jax.sweeps.trials import Setting, Trial, is_done, search_name, trials

CLOSE = 0.05  # a number of parameters may differ from the wanted one by this part

_SIZES = ('params', 'channels', 'num_layers', 'macs', 'flops_ptflops')
_MADE_WITH = ('versions', 'machine', 'devices', 'git_commit')

_Result = dict[str, Any]  # the result of one seed
Row = dict[str, Any]


def collect(experiment: Experiment, setting: Setting) -> dict[str, Any]:
  """Returns all that is known of an experiment, as plain values.

  Args:
    experiment: the runs and their comparisons.
    setting: the seeds, the scale and the folder.

  Returns:
    A dict with `rows` (each row by the key of its run), `comparisons`, and `searches` (see
    `searched.search_histories`). The other fields say how they were made: versions, machines,
    configs, seeds.
  """
  rows = {key: _row(experiment, run, setting) for key, run in experiment.runs.items()}
  return {
    'title': experiment.title,
    'measure': experiment.measure,
    'scale': _about(experiment, setting.scale),
    'as_published': setting.scale is scales.PAPER,
    'stand_ins': stand_ins(experiment, setting.scale),
    'layers': {str(paper): ours for paper, ours in setting.scale.layers.items()},
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'seeds': list(setting.seeds),
    'remarks': [*experiment.remarks, *_scale_remarks(setting.scale)],
    'made_with': _take_made_with(rows),
    'rows': rows,
    'comparisons': [compare(rows, *pair) for pair in experiment.comparisons],
    'searches': search_histories(experiment, setting),
  }


def row_title(experiment: Experiment, run: Run, scale: scales.Scale) -> str:
  """Returns the title of a row; it names the search that replaces the paper's, if any.

  Args:
    experiment: the experiment with all searches.
    run: the run of the row.
    scale: the sizes of the searches.
  """
  return run.title + _stand_in(experiment, run, scale)


def _stand_in(experiment: Experiment, run: Run, scale: scales.Scale) -> str:
  """Returns the words in brackets about the search that replaces the paper's, or ''."""
  found = stand_ins(experiment, scale).get(search_name(run.cell, experiment.searches) or '')
  return f' [{found}]' if found else ''


def stand_ins(experiment: Experiment, scale: scales.Scale) -> dict[str, str]:
  """Returns the words about each search that another one replaces at a scale, by its name.

  Args:
    experiment: the experiment with all searches.
    scale: the sizes of the searches.
  """
  return {
    name: scale.stand_ins[search.config][1]
    for name, search in experiment.searches.items()
    if search.config in scale.stand_ins
  }


def compare(rows: Mapping[str, Row], first: str, second: str) -> dict[str, Any]:
  """Returns the difference of two rows on the seeds that both have.

  Args:
    rows: all rows by key.
    first: the key of a row.
    second: the key of the row that is subtracted.
  """
  values = [{result['seed']: result['value'] for result in rows[key]['runs']}
            for key in (first, second)]  # fmt: skip
  seeds, difference = statistics.paired_difference(*values)
  return {'first': first, 'second': second, 'seeds': seeds, **difference._asdict()}


def _about(experiment: Experiment, scale: scales.Scale) -> str:
  """Returns the line about the data set and the length of the runs of an experiment."""
  on_imagenet = any(run.recipe == IMAGENET for run in experiment.runs.values())
  return scale.imagenet_about if on_imagenet else scale.about


def _place(experiment: Experiment, run: Run, scale: scales.Scale) -> float | int | None:
  """Returns the place of a run on the x axis: the number that was used, not that of the paper."""
  if run.x is None or not experiment.x_counts:
    return run.x
  places = {LAYERS: scale.layers.get, EPOCHS: lambda x, _: jobs.scaled_epoch(int(x), scale)}
  return places[experiment.x_counts](int(run.x), run.x)


def _scale_remarks(scale: scales.Scale) -> list[str]:
  """Returns a remark on the numbers in the names of rows, for a scale below the paper's."""
  if scale is scales.PAPER:
    return []
  layers = ', '.join(f'{ours} for {paper}' for paper, ours in scale.layers.items())
  several = f'chosen among {scale.candidates}' if scale.candidates > 1 else 'not chosen, one a seed'
  return [
    f'Names carry the numbers of the paper. Here the layers are {layers}; epoch 50 of a '
    f'search is {scale.epochs}; wanted parameters are {scale.params:g} of those of the paper; '
    f'random cells are {several}.'
  ]


# ---- rows ----------------------------------------------------------------------------------------


def _row(experiment: Experiment, run: Run, setting: Setting) -> Row:
  """Returns one row: the paper's figures, and ours as far as they exist."""
  results, configs = _results_and_configs(experiment, run, setting)
  target = None if run.params is None else run.params * setting.scale.params * 1e6
  top5 = _summary_of(results, 'top5')
  means = (*_SIZES, 'search_hours', 'train_hours')
  return {
    'title': row_title(experiment, run, setting.scale),
    'paper': run.paper._asdict(),
    'cell': run.cell,
    'series': run.series and run.series + _stand_in(experiment, run, setting.scale),
    'x': _place(experiment, run, setting.scale),
    'paper_x': run.x,
    'hollow': _has_layers_of_search(experiment, run),
    'status': _status(run, len(results), len(setting.seeds)),
    **_summary_of(results, 'value')._asdict(),
    'best': _best(results) if experiment.measure == 'test_error_percent' else None,
    'top5': {'mean': top5.mean, 'std': top5.std},
    'target_params': target,
    'params_off': _largest_deviation(results, target),
    **{name: _summary_of(results, name).mean for name in means},
    'runs': results,
    'configs': configs,
  }


def _results_and_configs(
  experiment: Experiment, run: Run, setting: Setting
) -> tuple[list[_Result], dict[str, Any]]:
  """Returns the results of the seeds that are done, and the configs of the first of them."""
  results, configs = [], {}
  if run.cell is None:
    return results, configs
  for trial in trials(experiment, run, setting):
    result = _trial_result(experiment.measure, run, trial)
    if result is not None:
      results.append(result)
      configs = configs or _configs(trial)
  return results, configs


def _summary_of(results: Sequence[_Result], field: str) -> statistics.Summary:
  """Summarizes a field over the seeds that have it."""
  values = (result.get(field) for result in results)
  return statistics.summarize(value for value in values if value is not None)


def _best(results: Sequence[_Result]) -> dict[str, Any] | None:
  """Returns the seed with the lowest value."""
  if not results:
    return None
  best = min(results, key=lambda result: result['value'])
  return {'value': best['value'], 'seed': best['seed']}


def _largest_deviation(results: Sequence[_Result], target: float | None) -> float | None:
  """Returns the largest relative difference from the wanted number of parameters."""
  if target is None:
    return None
  return max((abs(result['params'] / target - 1) for result in results), default=None)


def _status(run: Run, done: int, wanted: int) -> str:
  """Returns how much of a row is done."""
  if run.cell is None:
    return 'of others'
  if done == 0:
    return 'not run'
  return 'run' if done == wanted else f'{done} of {wanted} seeds'


def _has_layers_of_search(experiment: Experiment, run: Run) -> bool:
  """Returns True where the network has as many layers as the search of its cell."""
  name = search_name(run.cell, experiment.searches)
  return name is not None and experiment.searches[name].layers == run.layers


# ---- one seed ------------------------------------------------------------------------------------


def _trial_result(measure: str, run: Run, trial: Trial) -> _Result | None:
  """Returns the result of one seed, or None where it is not done."""
  last = trial.search if run.layers is None else trial.training
  if not is_done(last):
    return None
  with faults.reading(last / 'result.json'):
    return _figures(measure, run, trial, last)


def _figures(measure: str, run: Run, trial: Trial, last: pathlib.Path) -> _Result:
  """Returns the figures of one seed.

  Args:
    measure: the name of the measured value.
    run: the run.
    trial: its seed.
    last: the folder of its result.
  """
  result = json_files.read_object(last / 'result.json')
  found = {'seed': trial.seed, 'value': _value_of(measure, result)}
  if run.layers is not None:
    found |= {name: result[name] for name in _SIZES}
    found['train_hours'] = result['seconds'] / 3600
    found['top5'] = result.get('test_top5_error_percent')
  found |= _search_figures(trial)
  start = json_files.read_object(last / 'run.json')
  return {
    **found,
    'genotype': result['genotype'],
    **{name: start.get(name) for name in _MADE_WITH},
  }


def _search_figures(trial: Trial) -> dict[str, Any]:
  """Returns the hours of search and of the choice of a cell, and the end of the search."""
  found: dict[str, Any] = {}
  folders = [folder for folder in (trial.search, *trial.candidates) if folder is not None]
  if folders:
    results = [json_files.read_object(folder / 'result.json') for folder in folders]
    found['search_hours'] = sum(result['seconds'] for result in results) / 3600
    if trial.search is not None:
      found |= {name: results[0][name] for name in ('val_accuracy', 'penalty')}
  return found


def _value_of(measure: str, result: Mapping[str, Any]) -> float | int:
  """Returns the measured value of a run from its `result.json`."""
  if measure == 'depth':
    cell = genotype_lib.Genotype.from_dict(result['genotype'])
    return genotype_lib.depth(cell.normal)
  return result[measure]


def _configs(trial: Trial) -> dict[str, Any]:
  """Returns the whole configs of a seed's search and training."""
  found = {}
  for name, folder in (('search', trial.search), ('train', trial.training)):
    path = None if folder is None else pathlib.Path(folder, 'config.json')
    if path is not None and path.exists():
      config = json_files.read_object(path)
      found[name] = {field: value for field, value in config.items() if field != 'genotype'}
  return found


def _take_made_with(rows: Mapping[str, Row]) -> list[dict[str, Any]]:
  """Moves versions, machines, devices and commits out of the runs of all rows.

  Returns:
    Each combination once; `made_with` of a run is the index of its combination.
  """
  found = []
  for row in rows.values():
    for result in row['runs']:
      facts = {name: result.pop(name) for name in _MADE_WITH}
      if facts not in found:
        found.append(facts)
      result['made_with'] = found.index(facts)
  return found
