"""Kills searches of methods in each phase: `python -m experiments.reliability.method_kills`.

The searches are those of `methods`. Each runs in a process of its own, which is killed (kill -9)
before its first checkpoint, inside each phase, and at each border between two phases. In the end
its files must be, bit for bit, those of a run that was never stopped. The same command goes on
after the last whole config.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.reliability import kills, methods, programs, provenance
from experiments.reliability.methods import CASES, Span

_TRIES = 3  # a kill may come too late for its phase
# One method of each kind of state: phases, masks, decisions, draws, new and old weights.
_SOME = (
  'p_darts_cifar10', 'dots_cifar10:sc', 'drnas_cifar10', 'gradual_pruning_cifar10',
  'darts_plus_cifar10', 'gdas_cifar10:sc', 'pc_darts_cifar10',
)  # fmt: skip
_CONFIG = """
from experiments.reliability import methods

def get_config():
  return methods.config_of({case!r})

def get_parts(config):
  return methods.parts_of(config)
"""


def kill_in(
  program: programs.Program, path: pathlib.Path, span: Span, rng: np.random.Generator
) -> dict[str, Any]:
  """Starts a run, and kills it within a span.

  Args:
    program: the program.
    path: the folder of the run.
    span: the span.
    rng: the source of chance.

  Returns:
    The state of the run at the kill.
  """
  start = kills.Start(program, path)
  if span.place == 'beginning':
    start.wait(lambda: False, rng.uniform(0, 3))
  else:
    start.wait(lambda: programs.newest(path) >= span.newest.start)
    start.wait(lambda: False, rng.uniform(0, 1 if span.place == 'border' else 0.05))
  if start.process.is_alive():
    os.kill(start.process.pid, signal.SIGKILL)
  start.process.join()
  newest = programs.newest(path)
  return {
    'phase': span.phase,
    'place': span.place,
    'code': start.process.exitcode,
    'newest_checkpoint': newest,
    'hit': newest in span.newest,
  }


def kill_in_each_phase(
  program: programs.Program,
  path: pathlib.Path,
  spans: Sequence[Span],
  rng: np.random.Generator,
) -> dict[str, Any]:
  """Kills a run in each span, and lets it end.

  Args:
    program: the program.
    path: the folder of the run.
    spans: in the order of the run.
    rng: the source of chance.

  Returns:
    The kills, the exit code, whether the cell is valid, and the files that differ from those of a
    whole run.
  """
  stops = [kill_in(program, path, span, rng) for span in spans]
  last = program.start(path)
  last.join()
  code = last.exitcode
  left = programs.left_by(path) if (path / 'result.json').exists() else {}
  different = [name for name, value in program.left.items() if left.get(name) != value]
  return {
    'kills': stops, 'code': code,
    'valid_cell': bool(left) and methods.is_valid(left['genotype.json']),
    'different': different, 'identical': not different and not code,
  }  # fmt: skip


# ---- the campaign --------------------------------------------------------------------------------


def _row(case: str, folder: pathlib.Path, seed: int) -> dict[str, Any]:
  """Runs a config to its end, and kills other runs of it until each phase was hit."""
  begin = time.time()
  program = programs.Program(
    'search', folder / 'program', optimized=False, config=_CONFIG.format(case=case), warm=False
  )
  spans = methods.spans_of(methods.config_of(case))
  found: dict[str, Any] = {}
  for attempt in range(_TRIES):
    rng = np.random.default_rng([seed, CASES.index(case), attempt])
    with tempfile.TemporaryDirectory(dir=folder) as place:
      path = pathlib.Path(place) / 'run'
      found = kill_in_each_phase(program, path, spans, rng)
      if not found['identical']:
        print(json.dumps(found), pathlib.Path(f'{path}.log').read_text('utf-8'), flush=True)
    hits = all(one['hit'] for one in found['kills'])
    if hits or not found['identical']:
      break
  return {
    'config': case,
    'phases': max(span.phase for span in spans),
    **found,
    'seconds': round(time.time() - begin),
    'commit': provenance.commit(),
  }


def _keep(rows: Sequence[dict[str, Any]]) -> None:
  """Writes all that is known so far."""
  stops = [(row, one) for row in rows for one in row['kills']]
  found = {
    'configs': len(rows),
    'of': len(_SOME),
    'phases': sum(row['phases'] for row in rows),
    'kills': len(stops),
    'places': {
      place: sum(one['hit'] for _, one in stops if one['place'] == place)
      for place in methods.PLACES
    },
    'valid_cells': sum(row['valid_cell'] for row in rows),
    'bit_identical': sum(row['identical'] for row in rows),
    'not_identical': [row['config'] for row in rows if not row['identical']],
    'not_hit': [f'{row["config"]}: phase {one["phase"]} {one["place"]}'
                for row, one in stops if not one['hit']],
    'seconds': sum(row['seconds'] for row in rows),
  }  # fmt: skip
  print(json.dumps(found), flush=True)
  provenance.save('method_kills', found, rows)


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--seconds', type=float, default=float('inf'), help='no new config then')
  parser.add_argument('--only', nargs='*', default=_SOME, help='configs, with their arguments')
  parser.add_argument('--folder', help='of the programs; by default one that is removed at the end')
  args = parser.parse_args()
  end = time.monotonic() + args.seconds
  for case in args.only:
    # Several programs at work share the file, so that it is read again for each config.
    if case in _known() or time.monotonic() > end:
      continue
    with tempfile.TemporaryDirectory() as temporary:
      folder = pathlib.Path(args.folder or temporary) / case.replace(':', '_')
      row = _row(case, folder, args.seed)
      shutil.rmtree(folder)
    rows = _known() | {case: row}
    _keep([rows[case] for case in CASES if case in rows])


def _known() -> dict[str, dict[str, Any]]:
  """Returns the rows of all configs that are done."""
  return {row['config']: row for row in provenance.load('method_kills').get('each', [])}


if __name__ == '__main__':
  main()
