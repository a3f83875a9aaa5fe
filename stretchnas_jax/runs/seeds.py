"""Several runs that differ in their seed alone, as one result."""

import pathlib
import statistics
from collections.abc import Sequence

from stretchnas_jax.config import FIELDS, ConfigDict
from stretchnas_jax.runs import json_files
from stretchnas_jax.runs import workdir as workdir_lib

_FIGURES = (
  'test_accuracy', 'test_error_percent', 'test_top5_accuracy', 'test_top5_error_percent',
  'last_val_accuracy', 'best_val_accuracy', 'val_accuracy',
)  # fmt: skip
_SEED = FIELDS['search']['seed'].check


def parse(text: str) -> tuple[int, ...]:
  """Returns the seeds in a text: `'0,1,2'` gives (0, 1, 2).

  Raises:
    ValueError: the text holds something else, or a seed twice.
  """
  words = [word.strip() for word in text.split(',')]
  if not all(word.isdecimal() and word.isascii() for word in words):
    raise ValueError(f'--seeds is {text!r}; it must be whole numbers with commas, such as 0,1,2')
  seeds = tuple(int(word) for word in words)
  if len(set(seeds)) < len(seeds):
    raise ValueError(f'--seeds is {text!r}; a seed is in it twice')
  check(seeds)
  return seeds


def check(seeds: Sequence[int]) -> None:
  """Raises ValueError for no seeds, for one that comes twice, and for one that no config takes."""
  for seed in seeds:
    if not _SEED.passes(seed):
      raise ValueError(f'one of the seeds is {seed!r}; it must be {_SEED.allowed}')
  if not seeds or len(set(seeds)) < len(seeds):
    shown = ','.join(map(str, seeds))
    raise ValueError(f'the seeds are {shown!r}; give at least one, and none of them twice')


def with_seed(config: ConfigDict, seed: int) -> ConfigDict:
  """Returns a copy of a config with another seed.

  Args:
    config: of a run.
    seed: the other seed.
  """
  config = config.copy_and_resolve_references()
  config.seed = seed
  return config


def finished(folder: workdir_lib.Workdir, seeds: Sequence[int]) -> bool:
  """Tells if the result in a folder comes from these seeds, and from no others.

  Args:
    folder: of several runs.
    seeds: in order.
  """
  path = folder.path / 'result.json'
  return folder.finished and json_files.read_object(path).get('seeds') == list(seeds)


def summary(seeds: Sequence[int], results: Sequence[dict], same: Sequence[str]) -> dict:
  """Returns means of figures, with deviations (n - 1; None for one run) under `*_std`.

  Args:
    seeds: whole numbers.
    results: the content of `result.json` of each seed.
    same: fields that keep their values where the results agree; else they are figures too.
  """
  found: dict = {}
  for name in _FIGURES:
    values = [result[name] for result in results if result.get(name) is not None]
    if values:
      found |= _spread(name, values)
  found |= {'n': len(results), 'seeds': list(seeds)}
  found['seconds'] = sum(result['seconds'] for result in results)
  for name in same:
    values = [result[name] for result in results]
    found |= _spread(name, values) if values != values[:1] * len(values) else {name: values[0]}
  return {**found, 'runs': list(results)}


def _spread(name: str, values: Sequence[float | int]) -> dict[str, float | None]:
  """Returns the mean of a figure, and its deviation under `*_std`."""
  deviation = statistics.stdev(values) if len(values) > 1 else None
  return {name: statistics.fmean(values), f'{name}_std': deviation}


def report(path: pathlib.Path, summary: dict) -> str:
  """Returns the last words of several runs.

  Args:
    path: their folder.
    summary: see `summary`.
  """
  lines = []
  for name in _FIGURES:
    if name in summary:
      spread = summary[f'{name}_std']
      lines.append(f'{name} {summary[name]:.4f}' + ('' if spread is None else f' +- {spread:.4f}'))
  return f'{", ".join(lines)}; n = {summary["n"]}; all of it is in {path}'
