"""Several runs that differ in nothing but their seed, as one result."""

import statistics

from stretchnas_jax.runs import json_files
from stretchnas_jax.runs import workdir as workdir_lib

FIGURES = (
  'test_accuracy', 'test_error_percent', 'test_top5_accuracy', 'test_top5_error_percent',
  'last_val_accuracy', 'best_val_accuracy', 'val_accuracy',
)  # fmt: skip
TRAINED = ('epochs', 'params', 'macs', 'flops_ptflops', 'channels', 'num_layers', 'genotype')
SEARCHED = ('epochs', 'supernet_params')


def parse(text):
  """`'0,1,2'` -> (0, 1, 2)"""
  words = [word.strip() for word in text.split(',')]
  if not all(word.isdecimal() and word.isascii() for word in words):
    raise ValueError(f'--seeds is {text!r}; it must be whole numbers with commas, as 0,1,2')
  seeds = tuple(int(word) for word in words)
  if len(set(seeds)) < len(seeds):
    raise ValueError(f'--seeds is {text!r}; a seed is in it twice')
  return seeds


def with_seed(config, seed):
  """A copy of a config with another seed."""
  config = config.copy_and_resolve_references()
  config.seed = seed
  return config


def open_folder(workdir, fields, seeds, argv, free):
  """The folder of several runs; it may have been made with other seeds, but not for one run."""
  path, fields = workdir / 'config.json', {**fields}
  del fields['seed']
  known = path.exists() and 'seeds' in json_files.read_object(path)
  return workdir_lib.Workdir.open(
    workdir, {**fields, 'seeds': list(seeds)}, argv=argv, ignore=(*free, *('seeds',) * known)
  )


def finished(folder, seeds):
  """Whether these seeds, and no others, are what the folder's result is made of."""
  path = folder.path / 'result.json'
  return folder.finished and json_files.read_object(path).get('seeds') == list(seeds)


def summary(seeds, results, same=TRAINED):
  """Means of the figures of `results`, with deviations (n - 1, None for one run) under `*_std`.

  Args:
    seeds: whole numbers.
    results: of each seed, what its `result.json` holds.
    same: fields in which the results agree.
  """
  found = {}
  for name in FIGURES:
    values = [result[name] for result in results if result.get(name) is not None]
    if values:
      found[name] = statistics.fmean(values)
      found[f'{name}_std'] = statistics.stdev(values) if len(values) > 1 else None
  found |= {'n': len(results), 'seeds': list(seeds)}
  found['seconds'] = sum(result['seconds'] for result in results)
  return {**found, **{name: results[0][name] for name in same}, 'runs': list(results)}


def report(path, summary):
  """The last words of several runs."""
  lines = []
  for name in FIGURES:
    if name in summary:
      spread = summary[f'{name}_std']
      lines.append(f'{name} {summary[name]:.4f}' + ('' if spread is None else f' +- {spread:.4f}'))
  return f'{", ".join(lines)}; n = {summary["n"]}; all of it is in {path}'
