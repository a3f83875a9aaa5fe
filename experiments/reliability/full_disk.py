"""Fills real disks, small ones in memory: `python -m experiments.reliability.full_disk` (as root).

First a checkpoint is saved where there is room for 0, 1, 2, ... blocks more, until it fits. Then
whole runs are made on disks of several sizes. Each must end with exit code 2 and one sentence. Once
there is room, the same command must go on, and end as a run that always had room.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from experiments.reliability import failing_saver, file_operations, provenance
from experiments.reliability.programs import Program, left_by, newest
from stretchnas_jax.runs import checkpoint

_BLOCK = 4  # kB
_PLENTY = 64 * 1024  # kB
_NOISE = ('Traceback', 'never retrieved', 'Exception ignored')


@contextlib.contextmanager
def disk(path: pathlib.Path, size: int) -> Iterator[Callable[[int], None]]:
  """Mounts a disk in memory.

  Args:
    path: the folder of the disk; it is made.
    size: in kB.

  Yields:
    A function that changes the size.

  Raises:
    OSError: this process cannot mount a disk.
  """
  path.mkdir()
  _mount('-t', 'tmpfs', '-o', f'size={size}k', 'tmpfs', str(path))
  try:
    yield lambda size: _mount('-o', f'remount,size={size}k', str(path))
  finally:
    subprocess.run(['umount', '-l', path], check=True)


def saves(folder: pathlib.Path, every: int = 1) -> dict[str, Any]:
  """Saves with more and more room, until a save succeeds.

  Args:
    folder: an empty one.
    every: the number of blocks by which the room grows.

  Returns:
    The number of blocks that a save needs, the counted outcomes, and those that are bad.
  """
  states = file_operations.prepare(folder / 'original')
  counts: collections.Counter[str] = collections.Counter()
  bad = []
  answer, blocks = '', 0
  while answer != 'saved':
    answer, result = _save_with_room(folder / f'{blocks}', folder / 'original', states, blocks)
    is_said = 'No space left' in answer or answer == 'saved'
    is_good = result in file_operations.GOOD and is_said
    counts[result if is_good else 'bad'] += 1
    if not is_good:
      bad.append(f'{blocks} blocks: {answer}: {result}')
      print(bad[-1], flush=True)
    blocks += every
  return {'blocks_it_takes': blocks - every, **counts, 'bad': len(bad), 'bad_ones': bad}


def _save_with_room(
  place: pathlib.Path, original: pathlib.Path, states: Mapping[int, Any], blocks: int
) -> tuple[str, str]:
  """Saves where there are only so many blocks left; returns the answer and the verdict."""
  with disk(place, _PLENTY) as resize:
    shutil.copytree(original, place / 'run')
    path, answer = place / 'run' / 'checkpoints', 'saved'
    try:
      with checkpoint.Checkpoints(path, failing_saver.KEEP) as manager:
        resize(_used(place) + _BLOCK * blocks)
        manager.save(failing_saver.NEW, states[failing_saver.NEW], {'identity': {}})
    except checkpoint.SaveFailed as error:
      answer = f'said: {error}'
    except Exception as error:
      answer = f'{type(error).__name__}: {error}'
    resize(_PLENTY)
    return answer, file_operations.verdict(path, states, answer)


def _mount(*words: str) -> None:
  """Runs `mount`; raises OSError where it fails."""
  try:
    done = subprocess.run(['mount', *words], capture_output=True, text=True)
  except FileNotFoundError as error:
    raise OSError('there is no mount') from error
  if done.returncode:
    raise OSError(done.stderr.strip())


def _used(path: pathlib.Path) -> int:
  """Returns the kB that are in use on a disk."""
  state = os.statvfs(path)
  return (state.f_blocks - state.f_bfree) * state.f_frsize // 1024


def _run_with_room(program: Program, place: pathlib.Path, share: float) -> dict[str, Any]:
  """Runs a program on a disk that holds a share of its files, then with plenty of room."""
  files = [file for file in (program.folder / 'whole').rglob('*') if file.is_file()]
  blocks = sum(-(-file.stat().st_size // 4096) for file in files)
  size = round(share * blocks) * _BLOCK
  path = place / 'run'
  with disk(place, size) as resize:
    first = program.finish(path)
    log = pathlib.Path(f'{path}.log').read_text('utf-8', 'replace')
    resize(_PLENTY)
    reached = newest(path)
    second = program.finish(path)
    left = left_by(path) if not second else {}
  noise = [words for words in _NOISE if words in log]
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


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--folder', help='with the programs of the campaign of kills')
  args = parser.parse_args()
  failing_saver.silence()
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    found, runs = saves(folder), []
    _keep(found, runs)
    for kind in 'train', 'search':
      program = Program(kind, pathlib.Path(args.folder or temporary) / kind)
      for share in 0.1, 0.3, 0.5, 0.7, 0.9:
        runs.append(_run_with_room(program, folder / f'{kind}_{share}', share))
        _keep(found, runs)


def _keep(found: Mapping[str, Any], runs: Sequence[dict[str, Any]]) -> None:
  """Writes all that is known so far."""
  good = sum(run['good'] for run in runs)
  provenance.save('full_disk', {'saves': found, 'runs': len(runs), 'runs_good': good}, runs)
  print(found, *runs[-1:], flush=True)


if __name__ == '__main__':
  main()
