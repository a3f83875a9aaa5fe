"""Reads what the runs of an experiment left, and holds it against the paper."""

import datetime

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.runs import json_files
from stretchnas_jax.sweeps import jobs, scales, searched, statistics

CLOSE = 0.05  # how far a number of parameters may be from the wanted one
SIZES = ('params', 'channels', 'num_layers', 'macs', 'flops_ptflops')


def collect(experiment, setting):
  """All that is known of an experiment, as plain values.

  Args:
    experiment: an `Experiment`.
    setting: a `jobs.Setting`.

  Returns:
    A dict: `rows`, `{key: row}`, `comparisons`, and `searches`, see `searched.collect`, with
    everything that they mean nothing without: versions, machines, configs, seeds.
  """
  rows = {key: row_of(experiment, run, setting) for key, run in experiment.runs.items()}
  return {
    'title': experiment.title,
    'measure': experiment.measure,
    'scale': setting.scale.about,
    'as_published': setting.scale is scales.PAPER,
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'seeds': list(setting.seeds),
    'remarks': [*experiment.remarks, *scaled_down(setting.scale)],
    'made_with': made_with(rows),
    'rows': rows,
    'comparisons': [compare(rows, *pair) for pair in experiment.comparisons],
    'searches': searched.collect(experiment, setting),
  }


def scaled_down(scale):
  """What the numbers in the names of rows stand for at this scale."""
  if scale is scales.PAPER:
    return []
  layers = ', '.join(f'{ours} for {paper}' for paper, ours in scale.layers.items())
  several = f'chosen among {scale.candidates}' if scale.candidates > 1 else 'not chosen, one a seed'
  return [
    f'Names and axes carry the numbers of the paper. Here the layers are {layers}; epoch 50 of a '
    f'search is {scale.epochs}; wanted parameters are {scale.params:g} of those of the paper; '
    f'random cells are {several}.'
  ]


def title_of(experiment, run, scale):
  """What a row is called, with what stands in for the paper's search."""
  name = jobs.search_of(run.cell, experiment.searches) if run.cell else None
  if name is None or (config := experiment.searches[name].config) not in scale.stand_ins:
    return run.title
  return f'{run.title} [{scale.stand_ins[config][1]}]'


def row_of(experiment, run, setting):
  """One row: the paper's figures, and ours as far as they are there."""
  found, settings_ = [], {}
  for trial in jobs.trials(experiment, run, setting) if run.cell else ():
    if (result := trial_result(experiment.measure, run, trial)) is not None:
      found.append(result)
      settings_ = settings_ or configs(trial)
  values = [result['value'] for result in found]
  top5 = statistics.summary(r['top5'] for r in found if r.get('top5') is not None)
  ranked = found if experiment.measure == 'test_error_percent' else ()
  best = min(ranked, key=lambda result: result['value'], default=None)
  target = None if run.params is None else run.params * setting.scale.params * 1e6
  mean = lambda field: (
    statistics.summary([result[field] for result in found if result.get(field) is not None]).mean
  )
  return {
    'title': title_of(experiment, run, setting.scale),
    'paper': run.paper._asdict(),
    'cell': run.cell,
    'series': run.series,
    'x': run.x,
    'hollow': is_consistent(experiment, run),
    'status': status(run, len(found), len(setting.seeds)),
    **statistics.summary(values)._asdict(),
    'best': best and {'value': best['value'], 'seed': best['seed']},
    'top5': {'mean': top5.mean, 'std': top5.std},
    'target_params': target,
    'params_off': target and max((abs(r['params'] / target - 1) for r in found), default=None),
    **{name: mean(name) for name in (*SIZES, 'search_hours', 'train_hours')},
    'runs': found,
    'configs': settings_,
  }


def status(run, done, wanted):
  if run.cell is None:
    return 'of others'
  return 'not run' if not done else 'run' if done == wanted else f'{done} of {wanted} seeds'


def is_consistent(experiment, run):
  """Whether the network has as many layers as the search."""
  name = jobs.search_of(run.cell, experiment.searches) if run.cell else None
  return name is not None and experiment.searches[name].layers == run.layers


def trial_result(measure, run, trial):
  """What one seed came to, or None where it is not done."""
  last = trial.search if run.layers is None else trial.training
  if not jobs.is_done(last):
    return None
  result, start = read(last / 'result.json'), read(last / 'run.json')
  found = {'seed': trial.seed, 'value': value_of(measure, result)}
  if run.layers is not None:
    found |= {name: result[name] for name in SIZES}
    found |= {'train_hours': result['seconds'] / 3600}
    found |= {'top5': result.get('test_top5_error_percent')}
  if trial.search or trial.candidates:
    folders = [*((trial.search,) if trial.search else ()), *trial.candidates]
    seconds = [read(folder / 'result.json')['seconds'] for folder in folders]
    found['search_hours'] = sum(seconds) / 3600
  if trial.search:
    search = read(trial.search / 'result.json')
    found |= {name: search[name] for name in ('val_accuracy', 'penalty')}
  names = ('versions', 'machine', 'devices', 'git_commit')
  return {**found, 'genotype': result['genotype'], **{name: start.get(name) for name in names}}


def value_of(measure, result):
  if measure == 'depth':
    cell = genotype_lib.Genotype.from_dict(result['genotype'])
    return genotype_lib.depth(cell.normal)
  return result[measure]


def configs(trial):
  """The whole configs of a seed's search and training."""
  folders = {'search': trial.search, 'train': trial.training}
  found = {}
  for name, folder in folders.items():
    if folder is not None and (folder / 'config.json').exists():
      found[name] = {k: v for k, v in read(folder / 'config.json').items() if k != 'genotype'}
  return found


def made_with(rows):
  """Versions, machines, devices and commits of all runs, each combination once."""
  found = []
  for row in rows.values():
    for run in row['runs']:
      facts = {name: run.pop(name) for name in ('versions', 'machine', 'devices', 'git_commit')}
      if facts not in found:
        found.append(facts)
      run['made_with'] = found.index(facts)
  return found


def compare(rows, first, second):
  """The difference of two rows on the seeds that both have."""
  by_seed = lambda key: {result['seed']: result['value'] for result in rows[key]['runs']}
  seeds, found = statistics.paired(by_seed(first), by_seed(second))
  return {'first': first, 'second': second, 'seeds': seeds, **found._asdict()}


def read(path):
  return json_files.read_object(path)
