"""The part of a finished search that is kept: one line of JSON, without accuracies of the table.

The lines stand in one file. A search whose line is there is not run again, so that a run goes on
where its folder is gone, and on other machines.
"""

import hashlib
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.nas_bench_201.plan import Trial
from experiments.nas_bench_201.rows import ROWS
from experiments.nas_bench_201.scales import Scale
from stretchnas_jax.cells import genotype, nas_bench_201
from stretchnas_jax.machine import faults, files
from stretchnas_jax.runs import json_files
from stretchnas_jax.runs.history import History, load_history

Line = dict[str, Any]

Ranking = dict[str, Any]
"""`codes` of random cells, and `accuracies`, by epoch, of these cells with a supernet."""

RANKING = 'ranking.json'
"""The file in the folder of a search with its `Ranking`."""

_CURVES = ('train_accuracy', 'val_accuracy', 'penalty', 'alpha_entropy', 'beta_entropy')
_DIGITS = 4


def read(path: pathlib.Path) -> list[Line]:
  """Returns the lines of a file; none where there is no file."""
  return json_files.read_lines(path) if path.exists() else []


def identity(line: Mapping[str, Any]) -> tuple[str, int]:
  """Returns the row and the seed of a line."""
  return line['row'], line['seed']


def add(path: pathlib.Path, trials: Sequence[Trial], scale: Scale) -> list[Line]:
  """Adds the searches that are finished to a file, and returns all its lines.

  Args:
    path: of the file.
    trials: searches, finished or not.
    scale: their sizes.

  Raises:
    Fault (a ValueError): a search had other images than those in the file.
  """
  known = read(path)
  found = {identity(line): line for line in known}
  for trial in trials:
    if not trial.job.finished:
      continue
    line = found.get((trial.key, trial.seed)) or of_search(trial, scale)
    found[trial.key, trial.seed] = line | {'ranking': _joined(line['ranking'], _ranking(trial))}
  images = sorted({line['images'] for line in found.values() if line['images'] is not None})
  if len(images) > 1:
    raise faults.Fault(
      f'{path} holds searches on other images than those of {trials[-1].folder}; choose another '
      '--out for these'
    )
  order = {key: i for i, key in enumerate(ROWS)}
  lines = sorted(
    found.values(), key=lambda line: (order.get(line['row'], len(order)), line['seed'])
  )
  if lines != known:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    files.replace(path, text.encode())
  return lines


def of_search(trial: Trial, scale: Scale) -> Line:
  """Returns the line of a finished search.

  Args:
    trial: the search.
    scale: its sizes.
  """
  with faults.reading(trial.folder):
    history = load_history(trial.folder)
    config = json_files.read_object(trial.folder / 'config.json')
    result = json_files.read_object(trial.folder / 'result.json')
    start = json_files.read_object(trial.folder / 'run.json')
    data = json_files.read_object(trial.folder / 'identity.json')['data']
  steps = history.lines[-1]['step']
  return {
    'row': trial.key,
    'seed': trial.seed,
    'cells': [genotype.from_fields(cell).code for cell in history.genotypes],
    'six_edges': _with_all_edges(history),
    **{name: [_rounded(line[name]) for line in history.lines] for name in _CURVES},
    'alpha_options': len(history.facts.primitives),
    'alpha_rate': config['alpha']['learning_rate'],
    'beta_rate': config['beta']['learning_rate'],
    'split': config['data']['split'],
    'images': hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16],
    'steps': steps,
    'image_passes': image_passes(config, steps, len(history.lines)),
    'seconds': round(result['seconds'], 1),
    'supernet_params': result['supernet_params'],
    'ranking': None,
    'alpha': _rounded(np.asarray(history.strength['normal'][-1])),
    'beta': _rounded(history.beta['normal'][-1]),
    'versions': start['versions'],
    'machine': start['machine'],
    'devices': start['devices'],
    'git_commit': start['git_commit'],
  }


def _ranking(trial: Trial) -> Ranking | None:
  """Returns the accuracies of random cells with the supernets of a search, where measured."""
  path = trial.folder / RANKING
  return json_files.read_object(path) if path.exists() else None


def _joined(known: Ranking | None, new: Ranking | None) -> Ranking | None:
  """Returns the accuracies of two measurements; the later one counts if their cells differ."""
  if known is None or new is None or known['codes'] != new['codes']:
    return new or known
  return new | {'accuracies': {**known['accuracies'], **new['accuracies']}}


def image_passes(config: Mapping[str, Any], steps: int, epochs: int) -> int:
  """Returns how many images a search has passed forward and back.

  Args:
    config: its whole config.
    steps: its steps.
    epochs: its epochs; alpha and beta may rest in the first of them.
  """
  parts = 2 if config['data']['split'] == 'three_way' else 1
  of_arch = {
    'first_order': parts,
    'mixed': 1 + parts,
    'one_level': 0,
    'second_order': 1 + 3 * parts,
    'exact_second_order': 1 + 3 * parts,
  }[config['rule']['kind']]
  search = config['search']
  moving = steps * max(0, epochs - search['warmup_epochs']) // epochs
  return search['batch_size'] * (steps + of_arch * moving // search['arch_every'])


def _with_all_edges(history: History) -> list[int]:
  """Returns the cell of each epoch with the strongest operation on all six edges, no `none`."""
  names = history.facts.primitives
  real = [o for o, name in enumerate(names) if name != 'none']
  codes = []
  for strength in np.asarray(history.strength['normal']):
    if strength.ndim == 3:  # weights of each layer
      strength = strength.mean(0)
    chosen = strength[:, real].argmax(1)
    edges = [(names[real[o]], *edge) for o, edge in zip(chosen, history.facts.edges)]
    codes.append(nas_bench_201.from_edges(edges).code)
  return codes


def _rounded(value: Any) -> Any:
  """Returns numbers with few digits; minus infinity, where a row has no code, is None."""
  if isinstance(value, np.ndarray):
    return [_rounded(one) for one in value]
  return round(float(value), _DIGITS) if math.isfinite(value) else None
