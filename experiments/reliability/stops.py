"""Stops searches and trainings by signals, and takes their readers away.

`python -m experiments.reliability.stops` starts runs. A signal asks each of them to stop, at a
random instant, up to five times, and it is started again. Every stop must end with 128 and the
number of the signal. Of other runs the reader of the output goes, at a random instant: with a pipe
the run goes on to its end, with a terminal it gets SIGHUP and stops. At last the files of each run
must be, bit for bit, those of a run that was never stopped.
"""

import argparse
import collections
import json
import os
import pathlib
import pty
import select
import signal
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.reliability import kills, programs, provenance
from experiments.reliability.programs import Program

_STOPS_PER_RUN = 5
_READERS = ('pipe', 'terminal')
_WAYS = (*programs.SIGNALS, *_READERS)
_MOMENTS = ('beginning', 'restoring', 'resumed', 'going on')


def stop_by_signal(
  program: Program,
  path: pathlib.Path,
  name: str,
  count: int,
  rng: np.random.Generator,
  moments: kills.Moments,
) -> dict[str, Any]:
  """Stops a run by one signal some times, and lets it end; returns the result of `stop_run`.

  Args:
    program: the program.
    path: the folder of the run.
    name: of the signal.
    count: the number of stops.
    rng: the source of chance.
    moments: the usual lengths of moments.
  """
  first, later = ('beginning', 'going on'), _MOMENTS
  plan = [(str(rng.choice(later if i else first)), programs.SIGNALS[name]) for i in range(count)]
  return kills.stop_run(program, path, plan, rng, moments)


def take_reader(
  program: Program, path: pathlib.Path, way: str, count: int, rng: np.random.Generator
) -> dict[str, Any]:
  """Takes the reader of a run's output away, and lets the run end.

  Args:
    program: the program.
    path: the folder of the run.
    way: 'pipe' or 'terminal'.
    count: the number of times; with a pipe the run ends after the first one.
    rng: the source of chance.

  Returns:
    The stops, the exit code, and the files that differ from those of a whole run.
  """
  stops = []
  while len(stops) < count and not (path / 'result.json').exists():
    stops.append(_take_reader_once(program, path, way, rng.uniform(0, program.seconds)))
  code = 0 if (path / 'result.json').exists() else program.finish(path)
  left = programs.left_by(path) if (path / 'result.json').exists() else {}
  different = [name for name, value in program.left.items() if left.get(name) != value]
  codes = {'pipe': {0}, 'terminal': {0, 128 + signal.SIGHUP}}[way]  # 0: it had ended before
  good = not different and not code and all(one['code'] in codes for one in stops)
  return {
    'kind': program.kind, 'stops': stops, 'code': code, 'different': different, 'good': good,
  }  # fmt: skip


def _take_reader_once(
  program: Program, path: pathlib.Path, way: str, seconds: float
) -> dict[str, Any]:
  """Starts a run, reads its output for so many seconds, and then reads no more."""
  if way == 'pipe':
    place = f'{path}.pipe'
    os.mkfifo(place)
    reader, others = os.open(place, os.O_RDONLY | os.O_NONBLOCK), []
  else:
    reader, writer = pty.openpty()
    place, others = os.ttyname(writer), [writer]
  before = programs.newest(path)
  process = program.start(path, place)
  while process.is_alive() and not _writes_to(process.pid, place):
    time.sleep(0.01)  # a reader that goes before anyone writes stops nobody
  begin = time.monotonic()
  while process.is_alive() and time.monotonic() - begin < seconds:
    if select.select([reader], [], [], 0.02)[0] and not os.read(reader, 65536):
      time.sleep(0.02)  # nobody has opened the pipe yet
  was_alive = process.is_alive()
  for descriptor in (reader, *others):
    os.close(descriptor)
  process.join()
  return {
    'signal': way,
    'seconds': round(seconds, 2),
    'code': process.exitcode,
    'under_way': was_alive,
    'newest_checkpoint': [before, programs.newest(path)],
  }


def _writes_to(pid: int | None, place: str) -> bool:
  """Tells whether the output of a process goes to a pipe or a terminal (on Linux)."""
  try:
    return os.readlink(f'/proc/{pid}/fd/1') == place
  except OSError:
    return False


# ---- the campaign --------------------------------------------------------------------------------


def _campaign(folder: pathlib.Path, count: int, seed: int, seconds: float) -> None:
  """Stops runs until each way has so many stops, with those that are known.

  Args:
    folder: of the runs.
    count: of the stops by each signal, and by both readers together.
    seed: of the campaign.
    seconds: the longest time; a run that has begun comes to its end.
  """
  runs, end = provenance.load('stops').get('each', []), time.monotonic() + seconds
  kinds = ('train', 'search')
  made: dict[str, Program] = {}
  moments = {kind: kills.Moments() for kind in kinds}
  while time.monotonic() < end:
    counts = _counts(runs)
    left = {way: count // (2 if way in _READERS else 1) - counts[way] for way in _WAYS}
    way = max(_WAYS, key=lambda name: left[name])
    if left[way] <= 0:
      break
    kind, begin = kinds[len(runs) // len(_WAYS) % 2], time.time()
    if kind not in made:
      made[kind] = Program(kind, folder / kind, optimized=False)
    rng, program = np.random.default_rng([seed, len(runs)]), made[kind]
    stops = min(_STOPS_PER_RUN, left[way])
    with tempfile.TemporaryDirectory(dir=folder) as place:
      path = pathlib.Path(place) / 'run'
      if way in _READERS:
        found = take_reader(program, path, way, stops, rng)
      else:
        found = stop_by_signal(program, path, way, stops, rng, moments[kind])
      if not found['good']:
        log = pathlib.Path(f'{path}.log')
        print(json.dumps(found), log.read_text('utf-8') if log.exists() else '', flush=True)
    runs.append({**found, 'seconds': round(time.time() - begin), 'commit': provenance.commit()})
    _keep(runs)


def _counts(runs: Sequence[dict[str, Any]]) -> collections.Counter:
  """Returns the number of stops by each way, without those that came after the end of a run."""
  stops = [one for run in runs for one in run['stops']]
  return collections.Counter(one['signal'] for one in stops if one['under_way'])


def _keep(runs: Sequence[dict[str, Any]]) -> None:
  """Writes all that is known so far."""
  counts = _counts(runs)
  found = {
    'stops': {way: counts[way] for way in _WAYS},
    'before_the_first_checkpoint': sum(
      one['newest_checkpoint'] == [0, 0] for run in runs for one in run['stops']
    ),
    'runs': len(runs),
    'runs_bit_identical': sum(run['good'] for run in runs),
    'seconds': sum(run['seconds'] for run in runs),
  }
  print(json.dumps(found), flush=True)
  provenance.save('stops', found, runs)


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--count', type=int, default=200, help='stops by each signal')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--seconds', type=float, default=float('inf'), help='the longest time')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    _campaign(pathlib.Path(folder), args.count, args.seed, args.seconds)


if __name__ == '__main__':
  main()
