"""The whole searches and trainings of `gpu`. They stop when its time is up, and go on later."""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.benchmarks import gpu_stages, processes
from stretchnas_jax.machine import files

_STOPPING = 90  # the seconds in which a run that is asked to stop can save its state
_RUNS = {'darts_wo_sc': gpu_stages.WO_SC, 'milenas_sc_l8': gpu_stages.SC}
_KEPT = ('genotype.json', 'metrics.jsonl', 'result.json')
_TINY_RUN = (*gpu_stages.TINY_STEP, '--config.data.fraction=0.02')


class Clock:
  """The minutes of a call."""

  def __init__(self, minutes: float | None = None) -> None:
    """Starts the clock; None stands for any number of minutes."""
    self._end = float('inf') if minutes is None else time.monotonic() + 60 * minutes

  def left(self) -> float:
    """Returns the seconds that are left."""
    return max(0.0, self._end - time.monotonic())


def search_units(args: argparse.Namespace, clock: Clock) -> Iterator[gpu_stages.Unit]:
  """Yields the searches.

  Args:
    args: the command line of `gpu`.
    clock: the time that is left.
  """
  for name, config in _RUNS.items():
    words = [f'--config={config}']
    if args.rehearse:
      words += [*_TINY_RUN, *gpu_stages.TINY_SEARCH, '--config.search.epochs=1']
    yield name, functools.partial(_run_whole, 'search', name, words, args, clock)


def retrain_units(args: argparse.Namespace, clock: Clock | None) -> Iterator[gpu_stages.Unit]:
  """Yields the trainings of a published cell, and of the cells that are found by now.

  Args:
    args: the command line of `gpu`.
    clock: the time that is left.
  """
  found = {name: args.out / 'kept' / name / 'genotype.json' for name in _RUNS}
  cells = {name: str(path) for name, path in found.items() if path.exists()}
  cells['DARTS_V2'] = 'DARTS_V2'
  for name, cell in cells.items():
    words = ['--config=configs/train_cifar10.py', f'--genotype={cell}']
    words += ['--config.model.num_layers=8', f'--config.train.epochs={args.epochs}']
    if args.rehearse:
      words += [*_TINY_RUN, '--config.train.epochs=1', '--config.train.batch_size=32']
    work = functools.partial(_run_whole, 'train', f'train_{name}', words, args, clock)
    yield f'train_{name}', work


def _run_whole(
  program: str, name: str, words: Sequence[str], args: argparse.Namespace, clock: Clock
) -> dict[str, Any]:
  """Runs a program to its end, or until the time is up; then it saves, and goes on next time.

  Args:
    program: 'search' or 'train'.
    name: the name of the run.
    words: its command line, without the data and the workdir.
    args: the command line of `gpu`.
    clock: the time that is left.
  """
  folder = args.out / 'runs' / name
  folder.parent.mkdir(exist_ok=True)
  command = [
    sys.executable, '-m', f'stretchnas_jax.{program}', f'--workdir={folder}', *words,
    '--config.data.name=folder', f'--config.data.path={args.data_path.resolve()}',
    '--config.data.image_size=32', *args.ours,
  ]  # fmt: skip
  spent = folder.with_suffix('.seconds')
  parts = spent.read_text('utf-8').split() if spent.exists() else []
  begin = time.monotonic()
  with open(folder.with_suffix('.log'), 'ab') as log:
    environment = os.environ | gpu_stages.environment(args)
    process = subprocess.Popen(
      command, cwd=processes.ROOT, stdout=log, stderr=log, env=environment
    )  # fmt: skip
    stopped = False
    try:
      process.wait(min(clock.left(), 86400))
    except subprocess.TimeoutExpired:
      stopped = True
    finally:
      _end(process)
      parts.append(f'{time.monotonic() - begin:.1f}')
      files.replace(spent, ' '.join(parts).encode())
  seconds = [float(part) for part in parts]
  return _result_of(folder, args.out / 'kept' / name, seconds, process.returncode, stopped)


def _end(process: subprocess.Popen) -> None:
  """Asks a process to stop, and ends it if it does not."""
  process.terminate()
  with contextlib.suppress(subprocess.TimeoutExpired):
    process.wait(_STOPPING)
  process.kill()
  process.wait()


def _result_of(
  folder: pathlib.Path, kept: pathlib.Path, seconds: Sequence[float], code: int, stopped: bool
) -> dict[str, Any]:
  """Returns the state of a run, and copies its small files.

  Args:
    folder: the folder of the run.
    kept: the folder of the copies.
    seconds: of all calls.
    code: the exit code of the last call.
    stopped: True where its time was up.
  """
  kept.mkdir(parents=True, exist_ok=True)
  for file in _KEPT:
    if (folder / file).exists():
      shutil.copyfile(folder / file, kept / file)
  metrics = kept / 'metrics.jsonl'
  text = metrics.read_text('utf-8') if metrics.exists() else ''
  lines = [json.loads(line) for line in text.splitlines()]
  found = {
    'seconds': sum(seconds),
    'parts': list(seconds),
    'epochs': len(lines),
    'code': code,
    'last': lines[-1] if lines else None,
    'done': code == 0,
  }
  if code == 0:
    found['result'] = json.loads((kept / 'result.json').read_text('utf-8'))
  elif not stopped:
    log = folder.with_suffix('.log').read_text('utf-8', errors='replace')
    found |= {'error': log[-3000:], 'done': True}
  return found
