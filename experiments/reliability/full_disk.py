"""Fills real disks, small ones in memory: `python -m experiments.reliability.full_disk` (as root).

First a checkpoint is saved where there is room for 0, 1, 2, ... blocks more, up to what it takes.
Then whole runs are made on disks of several sizes; each must end with exit code 2 and one sentence,
and, once there is room, go on by the same command and end as a run that always had room.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

from experiments.reliability import file_operations, kills, provenance
from stretchnas_jax.runs import checkpoint

BLOCK, PLENTY = 4, 64 * 1024  # in kB


@contextlib.contextmanager
def disk(path, size):
  """A disk of `size` kB at `path`; gives a function that changes its size. OSError without one."""
  path.mkdir()
  mount('-t', 'tmpfs', '-o', f'size={size}k', 'tmpfs', path)
  try:
    yield lambda size: mount('-o', f'remount,size={size}k', path)
  finally:
    subprocess.run(['umount', '-l', path], check=True)


def mount(*words):
  try:
    done = subprocess.run(['mount', *map(str, words)], capture_output=True, text=True)
  except FileNotFoundError as error:
    raise OSError('there is no mount') from error
  if done.returncode:
    raise OSError(done.stderr.strip())


def used(path):
  """The kB that are taken on a disk."""
  state = os.statvfs(path)
  return (state.f_blocks - state.f_bfree) * state.f_frsize // 1024


def save_with_room(place, original, states, blocks):
  """What comes of a save where there are only so many blocks left."""
  with disk(place, PLENTY) as resize:
    shutil.copytree(original, place / 'run')
    path, answer = place / 'run' / 'checkpoints', 'saved'
    try:
      with checkpoint.Checkpoints(path, file_operations.KEEP) as manager:
        resize(used(place) + BLOCK * blocks)
        manager.save(file_operations.NEW, states[file_operations.NEW], {'identity': {}})
    except checkpoint.SaveFailed as error:
      answer = f'said: {error}'
    except Exception as error:
      answer = f'{type(error).__name__}: {error}'
    resize(PLENTY)
    return answer, file_operations.verdict(path, states, answer)


def saves(folder, every=1):
  """Saves with more and more room, until one succeeds; returns what came of them."""
  states, counts, bad = file_operations.prepare(folder / 'original'), collections.Counter(), []
  answer, blocks = '', 0
  while answer != 'saved':
    answer, result = save_with_room(folder / f'{blocks}', folder / 'original', states, blocks)
    good = result in file_operations.GOOD and ('No space left' in answer or answer == 'saved')
    counts[result if good else 'bad'] += 1
    if not good:
      bad.append(f'{blocks} blocks: {answer}: {result}')
      print(bad[-1], flush=True)
    blocks += every
  return {'blocks_it_takes': blocks - every, **counts, 'bad': len(bad), 'bad_ones': bad}


def run_with_room(program, place, share):
  """Runs a program on a disk that holds a share of what it takes, then with plenty of room."""
  whole = program.folder / 'whole'
  takes = sum(-(-file.stat().st_size // 4096) for file in whole.rglob('*') if file.is_file())
  size = round(share * takes) * BLOCK
  with disk(place, size) as resize:
    first = program.finish(place / 'run')
    log = pathlib.Path(f'{place}/run.log').read_text('utf-8', 'replace')
    resize(PLENTY)
    reached = kills.newest(place / 'run')
    second = program.finish(place / 'run')
    left = kills.left_by(place / 'run') if not second else {}
  noise = [words for words in ('Traceback', 'never retrieved', 'Exception ignored') if words in log]
  said = [line for line in log.splitlines() if line.startswith('error: ')]
  return {
    'kind': program.kind,
    'kilobytes': size,
    'codes': [first, second],
    'newest_checkpoint': reached,
    'said': [line.replace(str(place), '') for line in said],
    'noise': noise,
    'good': [first, second] == [2, 0] and left == program.left and len(said) == 1 and not noise,
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--folder', help='with the programs of the campaign of kills')
  args = parser.parse_args()
  file_operations.silence()
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    found, runs = saves(folder), []
    keep(found, runs)
    for kind in 'train', 'search':
      program = kills.Program(kind, pathlib.Path(args.folder or temporary) / kind)
      for share in 0.1, 0.3, 0.5, 0.7, 0.9:
        runs.append(run_with_room(program, folder / f'{kind}_{share}', share))
        keep(found, runs)


def keep(found, runs):
  """Writes what is known so far."""
  good = sum(run['good'] for run in runs)
  provenance.save('full_disk', {'saves': found, 'runs': len(runs), 'runs_good': good}, runs)
  print(found, *runs[-1:], flush=True)


if __name__ == '__main__':
  main()
