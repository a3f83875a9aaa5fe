"""The part of a finished search that is kept: one line of JSON, without accuracies of the table.

The lines stand in one file. A search whose line is there is not run again, so that a run goes on
where its folder is gone, and on other machines.
"""

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

RANKING = 'ranking.json'
"""The file in the folder of a search with Kendall's tau of its supernets."""

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
  """
  found = {identity(line): line for line in read(path)}
  for trial in trials:
    if not trial.job.finished:
      continue
    known = found.get((trial.key, trial.seed)) or of_search(trial, scale)
    taus = {**(known['tau'] or {}), **_taus(trial)}
    found[trial.key, trial.seed] = {**known, 'tau': taus or None}
  order = list(ROWS)
  lines = sorted(found.values(), key=lambda line: (order.index(line['row']), line['seed']))
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
  steps = history.lines[-1]['step']
  return {
    'row': trial.key,
    'seed': trial.seed,
    'cells': [genotype.from_fields(cell).code for cell in history.genotypes],
    'six_edges': _with_all_edges(history),
    **{name: [_rounded(line[name]) for line in history.lines] for name in _CURVES},
    'alpha_options': len(history.facts.primitives),
    'rate': scale.rate,
    'split': config['data']['split'],
    'steps': steps,
    'image_passes': image_passes(config, steps, len(history.lines)),
    'seconds': round(result['seconds'], 1),
    'supernet_params': result['supernet_params'],
    'tau': None,
    'alpha': _rounded(np.asarray(history.strength['normal'][-1])),
    'beta': _rounded(history.beta['normal'][-1]),
    'versions': start['versions'],
    'machine': start['machine'],
    'devices': start['devices'],
    'git_commit': start['git_commit'],
  }


def _taus(trial: Trial) -> dict[str, float]:
  """Returns Kendall's tau of the supernets of a search, by epoch, as far as they are measured."""
  path = trial.folder / RANKING
  return json_files.read_object(path)['tau'] if path.exists() else {}


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
