"""Several runs that differ in nothing but their seed, as one result."""

import statistics

FIGURES = ('test_accuracy', 'test_error_percent', 'last_val_accuracy', 'best_val_accuracy')
SAME = ('epochs', 'params', 'macs', 'flops_ptflops', 'channels', 'num_layers', 'genotype')


def parse(text):
  """`'0,1,2'` -> (0, 1, 2)"""
  words = [word.strip() for word in text.split(',')]
  if not all(word.isdecimal() and word.isascii() for word in words):
    raise ValueError(f'--seeds is {text!r}; it must be whole numbers with commas, as 0,1,2')
  seeds = tuple(int(word) for word in words)
  if len(set(seeds)) < len(seeds):
    raise ValueError(f'--seeds is {text!r}; a seed is in it twice')
  return seeds


def summary(seeds, results):
  """Means of the figures of `results`, with deviations (n - 1, None for one run) under `*_std`."""
  found = {}
  for name in FIGURES:
    values = [result[name] for result in results if result.get(name) is not None]
    if values:
      found[name] = statistics.fmean(values)
      found[f'{name}_std'] = statistics.stdev(values) if len(values) > 1 else None
  found |= {'n': len(results), 'seeds': list(seeds)}
  found['seconds'] = sum(result['seconds'] for result in results)
  return {**found, **{name: results[0][name] for name in SAME}, 'runs': list(results)}


def report(path, summary):
  """The last words of several runs."""
  lines = []
  for name in FIGURES:
    if name in summary:
      spread = summary[f'{name}_std']
      lines.append(f'{name} {summary[name]:.4f}' + ('' if spread is None else f' +- {spread:.4f}'))
  return f'{", ".join(lines)}; n = {summary["n"]}; all of it is in {path}'
