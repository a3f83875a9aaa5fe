"""Kills or stops one process of a job: `python -m experiments.reliability.lost --how=dead`.

Three processes train a tiny cell together. At a random instant one of them is killed (kill -9,
`dead`) or stopped (SIGSTOP, `stuck`). The others must name it and end, each with an exit code that
is not 0. A stopped process that is woken later must end too. Then the same command goes on. After
five losses it may end, and its files must be those of a job that lost nobody, bit for bit. A
campaign of the same commit goes on from its file of results.
"""

import argparse
import json
import pathlib
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from experiments.reliability import jobs, programs, provenance

_PROCESSES = 3
_LOSSES_PER_RUN = 5
_LIMITS = {'dead': 30.0, 'stuck': 60.0}  # seconds until all others have ended
_SIGNALS = {'dead': signal.SIGKILL, 'stuck': signal.SIGSTOP}

CONFIG = """
from stretchnas_jax import config as config_lib

def get_config():
  config = config_lib.train_config()
  config.data.name, config.data.image_size, config.data.crop_padding = 'digits', 8, 1
  config.data.fraction, config.data.cutout = 0.3, 2
  config.model.channels, config.model.num_layers, config.model.auxiliary = 2, 1, False
  config.train.epochs, config.train.batch_size, config.train.drop_path = {epochs}, 96, 0.3
  config.checkpoint.every_steps = 2
  return config
"""
CELL = {
  'normal': [['skip_connect', 0, 2], ['avg_pool_3x3', 1, 2]],
  'normal_concat': [2],
  'reduce': [['max_pool_3x3', 0, 2], ['skip_connect', 1, 2]],
  'reduce_concat': [2],
}


class _Clock:
  """Counts the seconds in which this process was awake; the machine may sleep meanwhile.

  Attributes:
    seconds: since the start of the clock.
  """

  def __init__(self) -> None:
    self.seconds = 0.0
    self._last = time.monotonic()

  def tick(self) -> None:
    """Sleeps for a moment."""
    time.sleep(0.02)
    now = time.monotonic()
    self.seconds += min(now - self._last, 0.5)
    self._last = now


# ---- jobs ----------------------------------------------------------------------------------------


def _start(folder: pathlib.Path, name: str) -> tuple[pathlib.Path, jobs.Job]:
  """Starts a job; returns the folder of its run, and the job."""
  path = folder / name
  words = [f'--config={folder}/train.py', f'--genotype={folder}/cell.json']
  return path, jobs.Job('train', path, words, _PROCESSES)


def _prepare(folder: pathlib.Path, epochs: int) -> tuple[dict[str, Any], float]:
  """Writes the program; returns the files of a job that lost nobody, and its seconds."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'train.py').write_text(CONFIG.format(epochs=epochs))
  (folder / 'cell.json').write_text(json.dumps(CELL))
  for name in ('warm', 'whole'):  # The first job fills the cache of compiled programs.
    path, job = _start(folder, name)
    with job:
      jobs.wait_for(job.processes[0], path / 'run.json', 0)
      begin = time.monotonic()
      jobs.finish(job)
  return programs.left_by(path), time.monotonic() - begin


# ---- losses --------------------------------------------------------------------------------------


def _lose_one(
  job: jobs.Job, path: pathlib.Path, how: str, victim: int, delay: float
) -> dict[str, Any] | None:
  """Kills or stops one process of a job.

  Args:
    job: the job.
    path: the folder of its run.
    how: 'dead' or 'stuck'.
    victim: the index of the process.
    delay: the seconds until then.

  Returns:
    The fate of all processes; None where the job ended before.
  """
  process = job.processes[victim]
  _tick_until(lambda: job.processes[0].poll() is not None, delay)
  if any(p.poll() is not None for p in job.processes):
    return None
  process.send_signal(_SIGNALS[how])
  others = [p for p in job.processes if p is not process]
  seconds = _tick_until(lambda: all(p.poll() is not None for p in others), 3 * _LIMITS[how])
  if how == 'stuck':
    process.send_signal(signal.SIGCONT)
    _tick_until(lambda: process.poll() is not None, 60)
  texts = job.words()
  naming = rf'error: process {victim} of {_PROCESSES} \('
  named = [bool(re.search(naming, text)) for i, text in enumerate(texts) if i != victim]
  codes = [p.poll() for p in job.processes]
  good = all(named) and all(codes) and seconds <= _LIMITS[how]
  return {
    'victim': victim,
    'after': round(delay, 2),
    'newest_checkpoint': programs.newest(path),
    'seconds': round(seconds, 2),
    'codes': codes,
    'named_by': sum(named),
    'good': good,
    **({} if good else {'words': [text[-1500:] for text in texts]}),
  }


def _tick_until(happened: Callable[[], bool], seconds: float) -> float:
  """Waits until something happens, for so long at most; returns the seconds that it took."""
  clock = _Clock()
  while clock.seconds < seconds and not happened():
    clock.tick()
  return clock.seconds


def _lose_some(
  folder: pathlib.Path,
  name: str,
  how: str,
  expected: dict[str, Any],
  window: float,
  rng: np.random.Generator,
  losses: int,
) -> dict[str, Any]:
  """Runs a job that loses a process some times, and may end then.

  Args:
    folder: the folder of the program.
    name: of the run.
    how: 'dead' or 'stuck'.
    expected: the files of a job that lost nobody.
    window: the seconds of a whole job.
    rng: the source of chance.
    losses: the number of losses.

  Returns:
    The losses, the exit codes at the end, and the files that differ.
  """
  done = []
  while True:
    path, job = _start(folder, name)
    with job:
      if len(done) == losses:
        codes = job.wait()
        break
      jobs.wait_for(job.processes[0], path / 'run.json', time.time())
      # The first loss comes before the first checkpoint, the second while the job resumes.
      share = (0.15, 0.3, 0.5)[min(len(done), 2)]
      victim, delay = int(rng.integers(_PROCESSES)), rng.uniform(0, share * window)
      one = _lose_one(job, path, how, victim, delay)
      if one is None:
        codes = job.wait()
        break
    done.append(one)
    print(json.dumps(one), flush=True)
  left = programs.left_by(path) if not any(codes) else {}
  found = {'losses': done, 'codes_at_the_end': codes}
  found['different'] = [part for part in expected if left.get(part) != expected[part]]
  if any(codes):
    found['words'] = [text[-3000:] for text in job.words()]
  return found


# ---- the campaign --------------------------------------------------------------------------------


def _real_losses(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns the losses of some runs, without those that came when the work was done already."""
  return [one for run in runs for one in run['losses'] if any(one['codes'])]


def _campaign(
  folder: pathlib.Path,
  how: str,
  count: int,
  seed: int,
  known: Sequence[dict[str, Any]],
  epochs: int = 40,
) -> list[dict[str, Any]]:
  """Runs jobs until there are so many losses.

  Args:
    folder: the folder of the program.
    how: 'dead' or 'stuck'.
    count: the number of losses.
    seed: of the campaign.
    known: the runs that are done.
    epochs: of a run.

  Returns:
    All runs; each is written when it ends.
  """
  expected, window = _prepare(folder, epochs)
  runs = list(known)
  while (missing := count - len(_real_losses(runs))) > 0:
    name, rng = f'run_{len(runs)}', np.random.default_rng([seed, len(runs)])
    losses = min(_LOSSES_PER_RUN, missing)
    runs.append(_lose_some(folder, name, how, expected, window, rng, losses))
    print(json.dumps({name: value for name, value in runs[-1].items() if name != 'losses'}))
    provenance.save(how, _summary(runs, how), runs)
  return runs


def _summary(runs: Sequence[dict[str, Any]], how: str) -> dict[str, Any]:
  """Returns the figures of a campaign."""
  losses = _real_losses(runs)
  return {
    'losses': len(losses),
    'after_the_work_was_done': sum(len(run['losses']) for run in runs) - len(losses),
    'good': sum(one['good'] for one in losses),
    'limit_seconds': _LIMITS[how],
    'longest_seconds': max(one['seconds'] for one in losses),
    'of_the_first_process': sum(one['victim'] == 0 for one in losses),
    'before_the_first_checkpoint': sum(one['newest_checkpoint'] == 0 for one in losses),
    'runs': len(runs),
    'runs_bit_identical': sum(
      not run['different'] and not any(run['codes_at_the_end']) for run in runs
    ),
  }


def known_runs(how: str) -> list[dict[str, Any]]:
  """Returns the runs of a campaign that are done, where they are of this commit.

  Args:
    how: 'dead' or 'stuck'.
  """
  found = provenance.load(how)
  return found['each'] if found.get('commit') == provenance.commit() else []


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--how', choices=sorted(_SIGNALS), required=True)
  parser.add_argument('--count', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  known = known_runs(args.how)
  with tempfile.TemporaryDirectory() as folder:
    runs = _campaign(pathlib.Path(folder), args.how, args.count, args.seed, known)
  print(_summary(runs, args.how))


if __name__ == '__main__':
  main()
