"""Measures ways to mix operations: `python -m experiments.benchmarks.mixed_operations`.

All are searches with 8 operations, C 16, 8 layers, S 4. They differ in what an edge computes: all
operations on all channels, on a part of them (PC-DARTS), or only one sampled operation (GDAS).
Every figure is of a fresh process with an empty compilation cache. In each round all take turns.
The program writes mixed_operations.json and mixed_operations.md.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence

from experiments.benchmarks import compare, forms, processes

_PARTIAL = compare.ROWS['pc_darts']
WAYS = {
  'all operations, all channels': ('--config.model.partial_channels=1',),
  'K = 2': ('--config.model.partial_channels=2',),
  'K = 4': ('--config.model.partial_channels=4',),
  'one sampled operation': (
    '--config.model.partial_channels=1', '--config.relaxation.kind=gdas',
  ),
  'one sampled operation, K = 4': ('--config.relaxation.kind=gdas',),
}  # fmt: skip
"""Ways to mix operations, in further words of the benchmark."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads and checks the command line; None stands for that of the process."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--ways', default=';'.join(WAYS), help='which, by ; (default: all)')
  parser.add_argument('--form', default='auto', help='of the supernet (default: auto)')
  parser.add_argument('--rounds', type=int, default=2)
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--limit', type=float, default=300, help='seconds for each (default: 300)')
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/benchmarks')
  args = parser.parse_args(argv)
  args.ways = args.ways.split(';')
  unknown = [name for name in args.ways if name not in WAYS]
  if unknown:
    parser.error(f'--ways has {unknown[0]!r}; there are {"; ".join(WAYS)}')
  if min(args.rounds, args.steps) < 1:
    parser.error('--rounds and --steps must be at least 1')
  return args


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  args = parse(argv)
  words = {name: (*WAYS[name], f'--config.model.form={args.form}') for name in args.ways}
  title = 'PC-DARTS and its neighbours, 8 operations: C 16, 8 layers, S 4, batch 16'
  found, failed = forms.measure(_PARTIAL, words, args.rounds, args.steps, args.limit)
  row = {'title': title, 'forms': found, 'failed': failed}
  results = processes.facts() | {'rows': {'mixed_operations': row}}
  text = forms.markdown(results)
  args.out.mkdir(parents=True, exist_ok=True)
  (args.out / 'mixed_operations.json').write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
  (args.out / 'mixed_operations.md').write_text(text, 'utf-8')
  print(text)


if __name__ == '__main__':
  main()
