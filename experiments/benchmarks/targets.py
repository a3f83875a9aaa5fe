"""Compiles whole steps for chips that are not here: `python -m experiments.benchmarks.targets`.

Each figure is a count or a bound of a compiled program, see `docs/targets.md`. Other work on the
machine changes only the seconds of compilation. The program writes targets.json and targets.md
after each compilation, and goes on from a targets.json of the same commit.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.benchmarks import gpu_tables, processes, tables

ROWS = {
  'search': (
    'search, 7 operations: C 16, 8 layers, S 4, batch 64',
    ('--config=darts_wo_sc_cifar10',),
  ),
  'search_in_turn': (
    'the same with search.passes=in_turn',
    ('--config=darts_wo_sc_cifar10', '--config.search.passes=in_turn'),
  ),
  'search_unrolled': (
    'the same with search.unroll',
    ('--config=darts_wo_sc_cifar10', '--config.search.unroll=True'),
  ),
  'search_remat': (
    'the same with model.remat',
    ('--config=darts_wo_sc_cifar10', '--config.model.remat=True'),
  ),
  'search_128': (
    'the same at batch 128',
    ('--config=darts_wo_sc_cifar10', '--config.search.batch_size=128'),
  ),
  'search_bfloat16': (
    'the same in bfloat16',
    ('--config=darts_wo_sc_cifar10', '--config.model.dtype=bfloat16'),
  ),
  'stretchable': (
    'stretchable cells, mixed level: C 16, 8 layers, S 6, batch 64',
    ('--config=milenas_sc_cifar10:8',),
  ),
  'training': (
    'training of DARTS_V2: C 36, 20 layers, batch 96',
    ('--config=train_cifar10', '--genotype=DARTS_V2'),
  ),
}
_TARGETS = ('h100', 'v5e')
_HEAD = (
  'work', 'chips', 'kernels', 'copies', 'GB moved', 'TFLOP', 'temporary, MiB', 'whole, MiB',
  'largest batch', 'a step, s, at least', 'hours, at least', 'trace + compile, s', 'CPU s',
)  # fmt: skip


def measure(words: Sequence[str], target: str, limit: float) -> dict[str, Any]:
  """Returns the figures of a step, or why there are none, as `failed`.

  Args:
    words: of the benchmark.
    target: the chips.
    limit: the most seconds of the compilation.
  """
  try:
    return processes.benchmark([*words, f'--target={target}'], timeout=limit)
  except subprocess.TimeoutExpired:
    return {'failed': f'not done after {limit:g} s'}
  except RuntimeError as error:
    return {'failed': gpu_tables.last_line(str(error))}


def markdown(results: Mapping[str, Any]) -> str:
  """Returns the page of the file that this program writes.

  Args:
    results: the facts of the machine, and `rows`: by name the figures of each target.
  """
  lines = [tables.table_line(_HEAD), tables.table_line(['---'] * len(_HEAD))]
  for name, by_target in results['rows'].items():
    for target, found in by_target.items():
      lines.append(tables.table_line(_texts(ROWS[name][0], target, found)))
  notes = (
    'Nothing ran: counts and bounds of compiled programs. The seconds at least name the limit that '
    'binds. Seconds of compilation depend on other work here, CPU seconds less so.'
  )
  return '\n'.join([tables.made_with(results), '', notes, '', *lines, ''])


def _texts(title: str, target: str, found: Mapping[str, Any]) -> list[str]:
  """Returns the texts of one line of the table."""
  if 'failed' in found:
    return [title, target, found['failed'], *'-' * (len(_HEAD) - 3)]
  level, memory = found['optimization_level'], found['memory_mb']
  chips = f'{target}{f" at {level}" if level else ""}'
  if found['kernels'] is None:
    whole = f'{memory["total"]:,.0f}, no room'
    return [title, chips, *'-' * 5, whole, *'-' * (len(_HEAD) - 8)]
  hours, seconds = found['hours_at_least'], found['step_seconds_at_least']
  return [
    title,
    chips,
    f'{found["kernels"]:,}',
    f'{found["copies"]:,}',
    f'{found["bytes"] / 1e9:,.1f}',
    f'{found["flops"] / 1e12:,.2f}',
    f'{memory["temporary"]:,.0f}',
    f'{memory["total"]:,.0f}' + ('' if found['fits'] else ', no room'),
    f'{found["largest_batch_that_fits"]:,}',
    f'{seconds:.3g} ({found["step_bound_by"]})',
    '-' if hours is None else f'{hours:.2g}',
    f'{found["trace_seconds"]:.0f} + {found["compile_seconds"]:.0f}',
    f'{found["compile_cpu_seconds"]:.0f}',
  ]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads and checks the command line; None stands for that of the process."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', default=','.join(ROWS), help='which, by commas (default: all)')
  parser.add_argument(
    '--targets', default=','.join(_TARGETS), help='by commas (default: %(default)s)'
  )
  parser.add_argument('--limit', type=float, default=3600, help='seconds for each (default: 3600)')
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/benchmarks')
  args = parser.parse_args(argv)
  args.rows, args.targets = args.rows.split(','), args.targets.split(',')
  unknown = [name for name in args.rows if name not in ROWS]
  if unknown:
    parser.error(f'--rows has {unknown[0]!r}; there are {", ".join(ROWS)}')
  return args


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  args = parse(argv)
  path, results = args.out / 'targets.json', processes.facts() | {'rows': {}}
  if path.exists():
    before = json.loads(path.read_text('utf-8'))
    results = before if before['git_commit'] == results['git_commit'] else results
  args.out.mkdir(parents=True, exist_ok=True)
  for name in args.rows:
    for target in args.targets:
      rows = results['rows'].setdefault(name, {})
      if target in rows and 'failed' not in rows[target]:
        continue
      print(f'{ROWS[name][0]}, {target} ...', file=sys.stderr)
      rows[target] = measure(ROWS[name][1], target, args.limit)
      rows[target].pop('started_at', None)
      path.write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
      (args.out / 'targets.md').write_text(markdown(results), 'utf-8')
  print(markdown(results))


if __name__ == '__main__':
  main()
