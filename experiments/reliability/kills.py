"""Kills searches and trainings at random instants: `python -m experiments.reliability.kills`.

A run is started, killed (kill -9) and started again, five times, until it may end. Its files must
then be, bit for bit, those of a run that was never stopped: metrics without the clock, genotypes,
and the checksums of all leaves of the last state. The first kill comes before the first checkpoint.
The third comes while the run restores one, the others anywhere. A signal asks half of the runs to
stop, too. The same command goes on after the last whole run.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.reliability import provenance
from experiments.reliability.programs import Program, checkpoint_names, left_by, newest

_KILLS_PER_RUN = 5


# ---- moments -------------------------------------------------------------------------------------


class _Start:
  """One start of a run, watched from outside.

  Attributes:
    process: the process of the run.
    since: the time of the start, in seconds since 1970.
    before: the step of the newest checkpoint at the start.
  """

  def __init__(self, program: Program, path: pathlib.Path) -> None:
    """Starts the program; `path` is the folder of the run."""
    self._path = path
    self._log = pathlib.Path(f'{path}.log')
    self._logged = self._log.stat().st_size if self._log.exists() else 0
    self.since = time.time()
    self.before = newest(path)
    self.process = program.start(path)

  def started(self) -> bool:
    """Returns True at once."""
    return True

  def opened(self) -> bool:
    """Returns True when the run has written its record of this start."""
    file = self._path / 'run.json'
    return file.exists() and file.stat().st_mtime >= self.since

  def resumed(self) -> bool:
    """Returns True when the run has said that it goes on from a checkpoint."""
    return self._log.exists() and b'resumed at step' in self._log.read_bytes()[self._logged :]

  def saving(self) -> bool:
    """Returns True when the run has begun to save."""
    return bool(_unfinished_saves(self._path, self.since)) or self.saved()

  def saved(self) -> bool:
    """Returns True when the run has saved a checkpoint."""
    return newest(self._path) > self.before

  def went_on(self) -> bool:
    """Returns True when the run has saved several checkpoints."""
    return newest(self._path) > self.before + 8

  def wait(self, happened: Callable[[], bool], seconds: float | None = None) -> float:
    """Waits until something happens, or the process ends.

    Args:
      happened: returns True when it has happened.
      seconds: the longest time to wait; None for any.

    Returns:
      The seconds that it took.
    """
    begin = time.monotonic()
    while self.process.is_alive() and not happened():
      if seconds is not None and time.monotonic() - begin > seconds:
        break
      time.sleep(0.003)
    return time.monotonic() - begin


# Of each moment: the event that it follows, and the event that ends it.
_MOMENTS = {
  'beginning': (_Start.started, _Start.saving),
  'restoring': (_Start.opened, _Start.resumed),
  'resumed': (_Start.resumed, _Start.saving),
  'going on': (_Start.saved, _Start.went_on),
}


class Moments:
  """The moments of a program's runs, and their usual lengths."""

  def __init__(self) -> None:
    """Begins with one second for each moment."""
    self._seconds = dict.fromkeys(_MOMENTS, 1.0)

  def wait_for(self, start: _Start, moment: str, share: float) -> None:
    """Waits for an instant within a moment.

    Args:
      start: the run.
      moment: its name.
      share: 0 to 1, the part of the moment's usual length.
    """
    follows, ends = _MOMENTS[moment]
    start.wait(lambda: follows(start))
    waited = start.wait(lambda: ends(start), share * self._seconds[moment])
    # The length depends on the other work of the machine, so it is learned.
    self._seconds[moment] = waited if ends(start) else 1.2 * self._seconds[moment]


def _unfinished_saves(path: pathlib.Path, since: float) -> list[str]:
  """Returns the names of saves that are under way or were cut off.

  Args:
    path: the folder of the run.
    since: a time in seconds since 1970; older files do not count.
  """
  found = []
  for name in checkpoint_names(path):
    if name.isdigit():
      continue
    with contextlib.suppress(FileNotFoundError):  # The save has just ended.
      if (path / 'checkpoints' / name).stat().st_mtime >= since:
        found.append(name)
  return found


# ---- runs ----------------------------------------------------------------------------------------


def kill_run(
  program: Program,
  path: pathlib.Path,
  rng: np.random.Generator,
  kills: int = _KILLS_PER_RUN,
  ask: bool = False,
  moments: Moments | None = None,
) -> dict[str, Any]:
  """Kills a run some times, and lets it end.

  Args:
    program: the program.
    path: the folder of the run.
    rng: the source of chance.
    kills: the number of kills.
    ask: True asks the run to stop once more, by a signal.
    moments: the usual lengths of moments, if they are known.

  Returns:
    The stops, the exit code, and the files that differ from those of a whole run.
  """
  moments = moments or Moments()
  names = ['beginning', 'going on', 'restoring', *rng.choice(['resumed', 'going on'], 2)]
  plan = [(str(name), signal.SIGKILL) for name in names[:kills]]
  if ask:
    plan.append(('going on', (signal.SIGTERM, signal.SIGINT)[rng.integers(2)]))
  return stop_run(program, path, plan, rng, moments)


def stop_run(
  program: Program,
  path: pathlib.Path,
  plan: Sequence[tuple[str, signal.Signals]],
  rng: np.random.Generator,
  moments: Moments,
) -> dict[str, Any]:
  """Stops a run some times, and lets it end; returns the same as `kill_run`.

  Args:
    program: the program.
    path: the folder of the run.
    plan: of each stop the name of its moment, and the signal.
    rng: the source of chance.
    moments: the usual lengths of moments.
  """
  stops = [_stop(program, path, *one, rng.random(), moments) for one in plan]
  code = program.finish(path)
  left = left_by(path) if (path / 'result.json').exists() else {}
  different = [name for name, value in program.left.items() if left.get(name) != value]
  expected = [-number if number == signal.SIGKILL else 128 + number for _, number in plan]
  # A shell shows the end by a signal as 128 and its number, whether a handler was there or not.
  codes = [128 - c if c < 0 and c != -signal.SIGKILL else c for c in (s['code'] for s in stops)]
  # A run whose last step is done ends as if nobody had asked it to stop.
  expected = [e if one['code'] or not one['finished'] else 0 for e, one in zip(expected, stops)]
  good = not different and codes == expected and not code
  return {
    'kind': program.kind, 'stops': stops, 'code': code, 'different': different, 'good': good,
  }  # fmt: skip


def _stop(
  program: Program,
  path: pathlib.Path,
  moment: str,
  number: signal.Signals,
  share: float,
  moments: Moments,
) -> dict[str, Any]:
  """Starts a run and stops it.

  Args:
    program: the program.
    path: the folder of the run.
    moment: the name of the moment in which it stops.
    number: the signal that stops it.
    share: 0 to 1, the part of the moment's usual length.
    moments: the usual lengths.

  Returns:
    The state of the run at the stop.
  """
  start = _Start(program, path)
  moments.wait_for(start, moment, share)
  if under_way := start.process.is_alive():
    with contextlib.suppress(ProcessLookupError):  # It has just ended.
      os.kill(start.process.pid, number)
  start.process.join()
  return {
    'signal': number.name,
    'moment': moment,
    'seconds': round(time.time() - start.since, 2),
    'code': start.process.exitcode,
    'under_way': under_way,
    'finished': (path / 'result.json').exists(),
    'resumed': start.resumed(),
    'newest_checkpoint': [start.before, newest(path)],
    'inside_a_save': bool(_unfinished_saves(path, start.since)),
  }


# ---- the campaign --------------------------------------------------------------------------------


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=200)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--folder', help='of the runs; by default one that is removed at the end')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as temporary:
    _campaign(pathlib.Path(args.folder or temporary), args.kills, args.seed)


def _campaign(folder: pathlib.Path, kills: int, seed: int) -> None:
  """Kills runs until there are so many kills, with those that are known."""
  runs = provenance.load('kills').get('each', [])
  kinds = ('search', 'train')
  programs = {kind: Program(kind, folder / kind) for kind in kinds}
  moments = {kind: Moments() for kind in kinds}
  while _count(runs, 'SIGKILL') < kills:
    index, begin = len(runs), time.time()
    kind = kinds[index % 2]
    with tempfile.TemporaryDirectory(dir=folder) as place:
      path, rng = pathlib.Path(place) / 'run', np.random.default_rng([seed, index])
      found = kill_run(programs[kind], path, rng, ask=index % 4 > 1, moments=moments[kind])
      if not found['good']:
        print(pathlib.Path(f'{path}.log').read_text(), flush=True)
    runs.append({**found, 'seconds': round(time.time() - begin), 'commit': provenance.commit()})
    _keep(runs)


def _count(runs: Sequence[dict[str, Any]], signal_name: str, **values: Any) -> int:
  """Returns the number of stops by a signal that have these values."""
  stops, values = [one for run in runs for one in run['stops']], {**values, 'signal': signal_name}
  return sum(all(one[name] == value for name, value in values.items()) for one in stops)


def _keep(runs: Sequence[dict[str, Any]]) -> None:
  """Writes all that is known so far."""
  found = {
    'kills': _count(runs, 'SIGKILL'),
    'before_the_first_checkpoint': _count(runs, 'SIGKILL', newest_checkpoint=[0, 0]),
    'while_restoring': _count(runs, 'SIGKILL', moment='restoring', resumed=False),
    'inside_a_save': _count(runs, 'SIGKILL', inside_a_save=True),
    'asked_to_stop': {name: _count(runs, name) for name in ('SIGTERM', 'SIGINT')},
    'runs': len(runs),
    'runs_bit_identical': sum(run['good'] for run in runs),
    'seconds': sum(run['seconds'] for run in runs),
  }
  print(json.dumps(found), flush=True)
  provenance.save('kills', found, runs)


if __name__ == '__main__':
  main()
