"""Compares this package with PyTorch in one run: `python -m experiments.benchmarks.compare`.

Every figure is of a fresh process. In each round three sides take turns: ours, plain and tuned.
Ratios are taken within a round, so that a machine that slows down slows all three. Nothing else may
run meanwhile. Plain is the arithmetic of the published code, tuned is PyTorch at its best; both are
in `torch_darts`. They get random images that are ready to use. Ours gathers and augments its own
images, and starts with an empty compilation cache every time.
"""

import argparse
import json
import os
import pathlib
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.benchmarks import processes, tables

_TUNED = ('--lean', '--layout=nhwc')


class Row(NamedTuple):
  """One line of the table: the same work, in the words of either side.

  Attributes:
    title: the name of the line.
    ours: words of our benchmark.
    peer: words of `torch_darts`.
    tuned: further words of the tuned side.
  """

  title: str
  ours: tuple[str, ...]
  peer: tuple[str, ...]
  tuned: tuple[str, ...] = _TUNED


def _training(batch: int) -> Row:
  """Returns the training of DARTS_V2 at a size of the batch."""
  size = '--channels=36', '--layers=20', f'--batch={batch}', '--auxiliary', '--drop-path=0.2'
  return Row(
    f'training of DARTS_V2: C 36, 20 layers, auxiliary head, drop path, batch {batch}',
    ('--config=train_cifar10', '--genotype=DARTS_V2', f'--config.train.batch_size={batch}'),
    ('train', '--genotype=DARTS_V2', *size),
    ('--layout=nhwc',),
  )


# Ours shares one validation part between alpha and beta, because PyTorch's DARTS has no beta.
ROWS = {
  'search_7ops': Row(
    'search, 7 operations: C 16, 8 layers, S 4, batch 16',
    (
      '--config=configs/darts_wo_sc_cifar10.py', '--config.data.split=two_way',
      '--config.search.batch_size=16',
    ),
    ('search', '--ops=7', '--channels=16', '--layers=8', '--nodes=4', '--batch=16'),
  ),
  'search_8ops': Row(
    'search, 8 operations: C 16, 8 layers, S 4, batch 16',
    ('--config=configs/darts_cifar10.py:first', '--config.search.batch_size=16'),
    ('search', '--ops=8', '--channels=16', '--layers=8', '--nodes=4', '--batch=16'),
  ),
  'stretchable': Row(
    'stretchable cells, mixed level: C 16, 8 layers, S 6, batch 8',
    (
      '--config=configs/milenas_sc_cifar10.py:8', '--config.data.split=two_way',
      '--config.search.batch_size=8',
    ),
    ('search', '--ops=7', '--channels=16', '--layers=8', '--nodes=6', '--batch=8', '--rule=mixed'),
  ),
  'pc_darts': Row(
    'PC-DARTS, K 4, 8 operations: C 16, 8 layers, S 4, batch 16',
    (
      '--config=configs/pc_darts_cifar10.py', '--config.search.batch_size=16',
      '--config.search.warmup_epochs=0',  # else alpha and beta would rest in the steps timed
    ),
    (
      'search', '--ops=8', '--channels=16', '--layers=8', '--nodes=4', '--batch=16', '--partial=4',
    ),
  ),
  'digits': Row(
    'digits of 16x16: C 8, 5 layers, S 4, batch 64',
    (
      '--config=configs/digits.py', '--config.data.image_size=16', '--config.data.split=two_way',
      '--config.space.num_intermediate=4', '--config.model.num_layers=5',
      '--config.rule.kind=first_order', '--config.penalty.zero_one=0',
    ),
    (
      'search', '--ops=7', '--channels=8', '--layers=5', '--nodes=4', '--batch=64',
      '--image-size=16', '--colours=1',
    ),
  ),
  'nas_bench_201': Row(
    'NAS-Bench-201, 5 operations, 16x16 pixels: C 8, N 1, batch 64',
    (
      '--config=configs/nas_bench_201.py:darts_first', '--config.model.channels=8',
      '--config.model.num_layers=1', '--config.data.image_size=16', '--config.data.crop_padding=2',
      '--config.search.batch_size=64',
    ),
    (
      'search', '--space=nas_bench_201', '--channels=8', '--layers=1', '--batch=64',
      '--image-size=16',
    ),
  ),
  'train': _training(8),
  'train_64': _training(64),
  'train_96': _training(96),
}  # fmt: skip
_START = 'second_start'
_START_TITLE = f'from the start of the process to the first step ({ROWS["search_7ops"].title})'


def measure(
  row: Row, rounds: int, steps: int, ours: Sequence[str], peer: Sequence[str]
) -> dict[str, Any]:
  """Runs the processes of a row one after another; each round begins with another side.

  Args:
    row: the work.
    rounds: the number of processes of each side.
    steps: the number of timed steps in each process.
    ours: further words of our benchmark.
    peer: further words of `torch_darts`.

  Returns:
    See `tables.summary`.
  """
  sides = _sides(row, steps, ours, peer)
  found = []
  for i in range(rounds):
    names = list(sides)
    entry = {}
    for name in names[i % 3 :] + names[: i % 3]:
      entry[name] = sides[name]()
      print(f'{i + 1}/{rounds} {name}: {entry[name]["median_step_seconds"]:.4g} s', file=sys.stderr)
    found.append(entry)
  return tables.summary(row.title, found)


def _sides(
  row: Row, steps: int, ours: Sequence[str], peer: Sequence[str]
) -> dict[str, Callable[[], dict[str, Any]]]:
  """Returns for each side a function that runs its process."""
  steps_word = f'--steps={steps}'
  plain = [*row.peer, steps_word, f'--threads={os.cpu_count()}', *peer]

  def run_ours() -> dict[str, Any]:
    return processes.benchmark([*row.ours, steps_word, '--noevaluation', *ours])

  def run_plain() -> dict[str, Any]:
    return processes.run('experiments.benchmarks.torch_darts', plain)

  def run_tuned() -> dict[str, Any]:
    return processes.run('experiments.benchmarks.torch_darts', [*plain, *row.tuned])

  return {'ours': run_ours, 'plain': run_plain, 'tuned': run_tuned}


def measure_starts(rounds: int, ours: Sequence[str]) -> dict[str, Any]:
  """Starts our benchmark twice on one cache folder that is empty at first.

  Args:
    rounds: the number of such pairs.
    ours: further words of our benchmark.

  Returns:
    See `tables.start_summary`.
  """
  words = [*ROWS['search_7ops'].ours, '--steps=1', '--noevaluation', *ours]
  found = []
  for _ in range(rounds):
    with tempfile.TemporaryDirectory() as cache:
      runs = [processes.benchmark(words, cache) for _ in range(2)]
    first, second = (run['first_step_at'] - run['started_at'] for run in runs)
    found.append({'first': first, 'second': second})
    print(f'first {first:.1f} s, second {second:.1f} s', file=sys.stderr)
  return tables.start_summary(_START_TITLE, found)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads and checks the command line; None stands for that of the process."""
  names = [*ROWS, _START]
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', default=','.join(names), help='which, by commas (default: all)')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--steps', type=int, default=5)
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/benchmarks')
  parser.add_argument('--ours', default='', help='further words for our benchmark, in quotes')
  parser.add_argument('--peer', default='', help='further words for torch_darts, in quotes')
  args = parser.parse_args(argv)
  args.rows = args.rows.split(',')
  unknown = [name for name in args.rows if name not in names]
  if unknown:
    parser.error(f'--rows has {unknown[0]!r}; there are {", ".join(names)}')
  if min(args.rounds, args.steps) < 1:
    parser.error('--rounds and --steps must be at least 1')
  return args


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  args = parse(argv)
  if args.rows != [_START]:
    processes.require('torch')
  ours, peer = shlex.split(args.ours), shlex.split(args.peer)
  results = processes.facts() | {'ours': ours, 'peer': peer, 'rows': {}}
  for name in args.rows:
    print(f'{name} ...', file=sys.stderr)
    if name == _START:
      results['rows'][name] = measure_starts(args.rounds, ours)
    else:
      results['rows'][name] = measure(ROWS[name], args.rounds, args.steps, ours, peer)
    _write(args.out, results)  # after every row, so that an interruption loses little
  print(tables.markdown(results))


def _write(folder: pathlib.Path, results: Mapping[str, Any]) -> None:
  """Writes the figures and their table."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'compare.json').write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
  (folder / 'compare.md').write_text(tables.markdown(results), 'utf-8')


if __name__ == '__main__':
  main()
