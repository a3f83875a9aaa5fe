"""All that is asked of a GPU, in one command that goes on where it stopped.

    python -m experiments.benchmarks.gpu --data-path=CIFAR --out=FOLDER --minutes=9

A lent machine is there for minutes: each figure is on the disk as soon as it is known, and the same
command again asks for what is not there yet. CIFAR is a folder of `train/` and `test/` with class
folders of images. `--rehearse` does all of it on a CPU, with tiny networks. `gpu.md` in the folder
shows what is known so far; `runs/` there holds the searches and trainings under way.
"""

import argparse
import json
import math
import pathlib
import shlex
import signal
import subprocess
import sys
import time

from experiments.benchmarks import gpu_runs, gpu_tables, processes
from experiments.benchmarks import gpu_stages as stages
from stretchnas_jax.machine import files

REHEARSED = 'A rehearsal: tiny networks on a CPU, whatever the titles say.\n\n'
STAGES = ('tests', 'compile', 'steps', 'profile', 'searches', 'retrain', 'summary')


# ---- what is known -------------------------------------------------------------------------------


class Record:
  """What a stage has found: a JSON file that is whole at any time."""

  def __init__(self, path):
    self.path, self.called = path, False
    self.content = {'calls': [], 'entries': {}}
    if path.exists():
      self.content = json.loads(path.read_text('utf-8'))

  def lacks(self, name, again=False):
    """Whether it is still to be done: never, broken off, or with `again` failed."""
    entry = self.content['entries'].get(name, {'done': False})
    return not entry.get('done', True) or (again and 'error' in entry)

  def add(self, name, entry, words=()):
    if not self.called:
      self.content['calls'].append(processes.facts() | {'words': list(words)})
      self.called = True
    # A later call may be on another machine.
    entry = entry | {'call': len(self.content['calls']) - 1}
    self.content['entries'][name] = entry
    files.replace(self.path, (json.dumps(self.content, indent=1) + '\n').encode())


class Clock:
  """The minutes of this call."""

  def __init__(self, minutes=None):
    self.end = math.inf if minutes is None else time.monotonic() + 60 * minutes

  def left(self):
    return max(0.0, self.end - time.monotonic())


def attempt(work):
  """What a piece of work comes to; that it fails is worth knowing too."""
  begin = time.monotonic()
  try:
    return work()
  except (RuntimeError, ValueError, OSError, IndexError, subprocess.TimeoutExpired) as error:
    text = f'{type(error).__name__}: {error}'
    return {'error': text[-3000:], 'seconds': time.monotonic() - begin}


def go_on(stage, units, args, clock):
  """Does what a stage lacks, until the time is up; returns whether all is done.

  Args:
    stage: its name.
    units: pairs of a name and a function that returns a dict, `'done': False` in it if it was
      broken off.
    args: of the command line.
    clock: a `Clock`.
  """
  record = Record(args.out / f'{stage}.json')
  for name, work in units:
    # What is compiled chooses by itself.
    wanted = stage == 'compile' or not args.only or any(text in name for text in args.only)
    if not (wanted and record.lacks(name, args.again)):
      continue
    if not clock.left():
      return False
    print(f'{stage}: {name} ...', file=sys.stderr, flush=True)
    entry = attempt(work)
    record.add(name, entry, args.words)
    print(f'  {gpu_tables.one_line(entry)}', file=sys.stderr, flush=True)
  return True


# ---- the program ---------------------------------------------------------------------------------


def parse(argv=None):
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
  parser.add_argument('--again', action='store_true', help='do again what has failed')
  parser.add_argument('--rehearse', action='store_true', help='tiny, on a CPU')
  args = parser.parse_args(argv)
  args.words = list(sys.argv[1:] if argv is None else argv)
  args.stages, args.only = args.stages.split(','), list(filter(None, args.only.split(',')))
  args.ours, args.out = shlex.split(args.ours), args.out.resolve()
  if unknown := [name for name in args.stages if name not in STAGES]:
    parser.error(f'--stages has {unknown[0]!r}; there are {", ".join(STAGES)}')
  if min(args.rounds, args.steps, args.epochs) < 1:
    parser.error('--rounds, --steps and --epochs must be at least 1')
  if not (args.data_path / 'train').is_dir():
    parser.error(f'--data-path is {str(args.data_path)!r}; it has no folder train')
  return args


def check_kind(args):
  """A folder holds a rehearsal or figures, never both."""
  mark = args.out / 'rehearsal'
  if args.rehearse and not list(args.out.glob('*.json')):
    mark.touch()
  if mark.exists() != args.rehearse:
    raise SystemExit(f'{args.out} is {"" if mark.exists() else "not "}of a rehearsal')


def main(argv=None):
  args = parse(argv)
  needs = {'tests': 'pytest', 'steps': 'torch'}
  processes.require(*(needs[stage] for stage in args.stages if stage in needs))
  clock = Clock(args.minutes)
  # A run under way is ended with this program, whoever asks for it.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  args.out.mkdir(parents=True, exist_ok=True)
  check_kind(args)
  units = {
    'tests': lambda: stages.test_units(args),
    'compile': lambda: stages.compile_units(args),
    'steps': lambda: stages.step_units(args),
    'profile': lambda: stages.profile_units(args),
    'searches': lambda: gpu_runs.search_units(args, clock),
    'retrain': lambda: gpu_runs.retrain_units(args, clock),
    'summary': lambda: (),  # is written after every call
  }
  try:
    for stage in STAGES:
      if stage in args.stages and not go_on(stage, units[stage](), args, clock):
        print(f'the time is up in {stage}; the same command goes on', file=sys.stderr)
        break
  finally:
    found = {stage: Record(args.out / f'{stage}.json').content for stage in STAGES}
    text = REHEARSED * args.rehearse + gpu_tables.markdown(found, stages.ROWS, stages.SIDES)
    files.replace(args.out / 'gpu.md', text.encode())
  print(text)


if __name__ == '__main__':
  main()
