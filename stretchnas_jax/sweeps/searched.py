"""What the searches behind an experiment came to: their cells, and how they got there."""

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.runs import json_files
from stretchnas_jax.sweeps import jobs

# Of an epoch's line of metrics, what is kept -> what it is called.
HISTORY = {
  'penalty': 'r(beta)',
  'none_weight_mean': 'weight of none, mean over edges',
  'none_weight_max': 'weight of none, largest',
}
PLOTTED = ('penalty', 'none_weight_max')


def collect(experiment, setting):
  """`{name: row}` of every search of which a seed is done, in the order of the runs.

  Args:
    experiment: an `Experiment`.
    setting: a `jobs.Setting`.

  Returns:
    Rows with `layers`, `epochs` and `runs`; a run has `seed`, `val_accuracy`, `depth` and `edges`
    of the normal cell, `zero_from` and `history`, `{name: [value of an epoch]}`.
  """
  found = {}
  for run in experiment.runs.values():
    shared = run if run.cell is None else jobs.shared(experiment, run, setting.scale)
    name = shared.cell and jobs.search_of(shared.cell, experiment.searches)
    if name is None or name in found:
      continue
    folders = [trial.search for trial in jobs.trials(experiment, run, setting)]
    runs = [run_of(folder) for folder in folders if jobs.is_done(folder)]
    if runs:
      layers = jobs.resolved(experiment.searches[name], setting.scale).layers
      found[name] = {'layers': layers, 'epochs': setting.scale.epochs, 'runs': runs}
  return found


def run_of(folder):
  """What one seed of a search came to."""
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
    'history': {name: [float(f'{v:.4g}') for v in values] for name, values in history.items()},
  }


def zero_from(penalties):
  """The epoch from which r(beta) is 0 to the end, or None where it is not 0 at the end."""
  epoch = len(penalties)
  while epoch and penalties[epoch - 1] == 0:
    epoch -= 1
  return None if epoch == len(penalties) else epoch + 1


def curves(rows):
  """Means over seeds by epoch: `{name: {search: [(epoch, mean, None, False)]}}`, for plots.

  A penalty that is never other than 0, as of searches without topology variables, is left out.
  """
  found = {}
  for search, row in rows.items():
    for name in PLOTTED:
      runs = [run['history'][name] for run in row['runs'] if name in run['history']]
      if runs and (name != 'penalty' or any(map(any, runs))):
        means = [sum(values) / len(values) for values in zip(*runs)]
        points = [(epoch, mean, None, False) for epoch, mean in enumerate(means, 1)]
        found.setdefault(name, {})[search] = points
  return found
