"""Asks everything of a GPU in one command that goes on where it stopped.

    python -m experiments.benchmarks.gpu --data-path=CIFAR --out=FOLDER --minutes=9

A lent machine is there for minutes. So each figure is on the disk as soon as it is known, and the
same command asks only for figures that are missing. CIFAR is a folder of `train/` and `test/` with
class folders of images. `--rehearse` does all of it on a CPU, with tiny networks. `gpu.md` in the
folder shows the figures that are known so far; `runs/` there holds the searches and trainings.
"""

import argparse
import json
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from experiments.benchmarks import gpu_runs, gpu_tables, processes
from experiments.benchmarks import gpu_stages as stages
from experiments.benchmarks.gpu_runs import Clock
from stretchnas_jax.machine import files

STAGES = ('tests', 'compile', 'steps', 'profile', 'searches', 'retrain', 'summary')

_REHEARSED = 'A rehearsal: tiny networks on a CPU, whatever the titles say.\n\n'


# ---- known figures -------------------------------------------------------------------------------


class Record:
  """The results of a stage, in a JSON file that is whole at any time.

  Attributes:
    content: `calls`, the facts of the machine of each call, and `entries`, the results by name.
  """

  def __init__(self, path: pathlib.Path) -> None:
    """Reads the file, if it is there."""
    self._path = path
    self._is_noted = False  # True when this call is among the calls
    self.content: dict[str, Any] = {'calls': [], 'entries': {}}
    if path.exists():
      self.content = json.loads(path.read_text('utf-8'))

  def lacks(self, name: str, again: bool = False) -> bool:
    """Returns True where a unit was never done, or was broken off.

    Args:
      name: of the unit.
      again: True counts a failure as missing too.
    """
    entry = self.content['entries'].get(name, {'done': False})
    return not entry.get('done', True) or (again and 'error' in entry)

  def add(self, name: str, entry: dict[str, Any], words: Sequence[str] = ()) -> None:
    """Adds a result and writes the file.

    Args:
      name: of the unit.
      entry: its result.
      words: the command line of this call.
    """
    if not self._is_noted:
      self.content['calls'].append(processes.facts() | {'words': list(words)})
      self._is_noted = True
    # A later call may run on another machine, so each entry names its call.
    self.content['entries'][name] = entry | {'call': len(self.content['calls']) - 1}
    files.replace(self._path, (json.dumps(self.content, indent=1) + '\n').encode())


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
  """Returns the result of a unit, or its failure as a result."""
  begin = time.monotonic()
  try:
    return work()
  except (RuntimeError, ValueError, OSError, IndexError, subprocess.TimeoutExpired) as error:
    text = f'{type(error).__name__}: {error}'
    return {'error': text[-3000:], 'seconds': time.monotonic() - begin}


def go_on(stage: str, units: Iterable[stages.Unit], args: argparse.Namespace, clock: Clock) -> bool:
  """Does the missing units of a stage until the time is up.

  Args:
    stage: its name.
    units: names and functions; a result with `'done': False` was broken off.
    args: the command line.
    clock: the time that is left.

  Returns:
    True where nothing is missing.
  """
  record = Record(args.out / f'{stage}.json')
  for name, work in units:
    # The stage `compile` chooses among its sides by itself.
    is_wanted = stage == 'compile' or not args.only or any(text in name for text in args.only)
    if not is_wanted or not record.lacks(name, args.again):
      continue
    if not clock.left():
      return False
    print(f'{stage}: {name} ...', file=sys.stderr, flush=True)
    entry = attempt(work)
    record.add(name, entry, args.words)
    print(f'  {gpu_tables.one_line(entry)}', file=sys.stderr, flush=True)
  return True


# ---- the program ---------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads and checks the command line; None stands for that of the process."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data-path', type=pathlib.Path, required=True, help='train/ and test/')
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--stages', default=','.join(STAGES), help='by commas (default: all)')
  parser.add_argument('--only', default='', help='parts of names, by commas: do these alone')
  parser.add_argument('--minutes', type=float, help='begin nothing more after these')
  parser.add_argument('--rounds', type=int, default=2)
  parser.add_argument('--steps', type=int, default=10)
  parser.add_argument('--epochs', type=int, default=20, help='of a retraining')
  parser.add_argument('--ours', default='', help='further words for whole runs, in quotes')
  parser.add_argument('--again', action='store_true', help='do again those that failed')
  parser.add_argument('--rehearse', action='store_true', help='tiny, on a CPU')
  args = parser.parse_args(argv)
  args.words = list(sys.argv[1:] if argv is None else argv)
  args.stages = args.stages.split(',')
  args.only = [text for text in args.only.split(',') if text]
  args.ours = shlex.split(args.ours)
  args.out = args.out.resolve()
  unknown = [name for name in args.stages if name not in STAGES]
  if unknown:
    parser.error(f'--stages has {unknown[0]!r}; there are {", ".join(STAGES)}')
  if min(args.rounds, args.steps, args.epochs) < 1:
    parser.error('--rounds, --steps and --epochs must be at least 1')
  if not (args.data_path / 'train').is_dir():
    parser.error(f'--data-path is {str(args.data_path)!r}; it has no folder train')
  return args


def check_kind(args: argparse.Namespace) -> None:
  """Raises SystemExit unless the folder holds only rehearsals, or only figures, as asked."""
  mark = args.out / 'rehearsal'
  if args.rehearse and not list(args.out.glob('*.json')):
    mark.touch()
  if mark.exists() != args.rehearse:
    raise SystemExit(f'{args.out} is {"" if mark.exists() else "not "}of a rehearsal')


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  args = parse(argv)
  needs = {'tests': 'pytest', 'steps': 'torch'}
  processes.require(*(needs[stage] for stage in args.stages if stage in needs))
  clock = Clock(args.minutes)
  # A run under way ends with this program, whoever asks for it.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  args.out.mkdir(parents=True, exist_ok=True)
  check_kind(args)
  try:
    for stage in STAGES:
      if stage in args.stages and not go_on(stage, _units(stage, args, clock), args, clock):
        print(f'the time is up in {stage}; the same command goes on', file=sys.stderr)
        break
  finally:
    text = _summary(args)
    files.replace(args.out / 'gpu.md', text.encode())
  print(text)


def _units(stage: str, args: argparse.Namespace, clock: Clock) -> Iterable[stages.Unit]:
  """Returns the units of a stage."""
  if stage == 'searches':
    return gpu_runs.search_units(args, clock)
  if stage == 'retrain':
    return gpu_runs.retrain_units(args, clock)
  if stage == 'summary':  # is written after every call
    return ()
  makers = {
    'tests': stages.test_units,
    'compile': stages.compile_units,
    'steps': stages.step_units,
    'profile': stages.profile_units,
  }
  return makers[stage](args)


def _summary(args: argparse.Namespace) -> str:
  """Returns the page of all that is known."""
  found = {stage: Record(args.out / f'{stage}.json').content for stage in STAGES}
  page = gpu_tables.markdown(found, stages.ROWS, stages.SIDES)
  return _REHEARSED + page if args.rehearse else page


if __name__ == '__main__':
  main()
