"""Runs one search on many numbers of devices: `python -m experiments.reliability.hosts`.

There are 1, 2, 4 and 8 simulated devices in one process, and 4 in each of two processes, under pmap
and shard_map. All are compared with one device: the cell, the metrics of every epoch, the last
state. So is one device that computes in bfloat16. A search that is killed after each epoch goes on
with another number of devices each time. strace, if it is there, counts the changes that the second
of two processes makes in the folder of the run.
"""

import argparse
import json
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.reliability import programs, provenance
from experiments.reliability.jobs import Job, finish
from stretchnas_jax.machine import leaves
from stretchnas_jax.runs import json_files, trained

_Layout = tuple[int, int]  # the number of processes, and the devices of each

_EPOCHS = 4
_LAYOUTS: tuple[_Layout, ...] = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 4))
# One device comes first, because all are compared with it.
_RUNS = (('single', (1, 1)), *((b, layout) for b in ('pmap', 'shard_map') for layout in _LAYOUTS))

_CONFIG = f"""
from stretchnas_jax import config as config_lib

def get_config():
  config = config_lib.search_config()
  config.data.name, config.data.image_size, config.data.crop_padding = 'digits', 8, 1
  config.data.fraction = 0.3
  config.model.channels, config.model.num_layers, config.model.form = 2, 1, 'merged'
  config.space.num_intermediate = 2
  config.rule.kind, config.search.epochs, config.search.batch_size = 'first_order', {_EPOCHS}, 32
  config.weights.learning_rate = 0.1
  config.alpha.learning_rate, config.beta.learning_rate = 6e-3, 3e-2
  return config
"""


def _search(
  path: pathlib.Path, backend: str, layout: _Layout, words: Iterable[str] = (), **options: Any
) -> Job:
  """Starts a search.

  Args:
    path: the folder of the run.
    backend: `parallel.backend` of the config.
    layout: the processes, and the devices of each.
    words: further words of the command line.
    **options: further arguments of `Job`.
  """
  config = path.parent / 'search.py'
  config.write_text(_CONFIG)
  words = [f'--config={config}', f'--config.parallel.backend={backend}', *words]
  return Job('search', path, words, *layout, **options)


# ---- comparison ----------------------------------------------------------------------------------


class _Left(NamedTuple):
  """The results of a finished run that are compared.

  Attributes:
    lines: the metrics of each epoch, without the clock.
    cell: the genotype as JSON holds it.
    arrays: the leaves of the last state.
  """

  lines: list[dict[str, Any]]
  cell: dict[str, Any]
  arrays: dict[str, np.ndarray]


def _left_by(path: pathlib.Path) -> _Left:
  """Reads the results of a finished run."""
  lines = json_files.read_lines(path / 'metrics.jsonl')
  state = trained.read_run(path).state
  arrays = {name: np.asarray(leaves.raw(leaf)) for name, leaf in leaves.flatten(state).items()}
  cell = json.loads((path / 'genotype.json').read_text('utf-8'))
  return _Left([programs.without_clock(line) for line in lines], cell, arrays)


def _distance(found: _Left, expected: _Left) -> dict[str, Any]:
  """Returns how far a run is from another one."""
  pairs = [
    (line[name], other[name])
    for line, other in zip(found.lines, expected.lines, strict=True)
    for name in other
  ]
  arrays = [(found.arrays[name], array) for name, array in expected.arrays.items()]
  same_arrays = all(np.array_equal(array, other) for array, other in arrays)
  return {
    'epochs': [line['epoch'] for line in found.lines],
    'same_cell': found.cell == expected.cell,
    'bit_identical': found.lines == expected.lines and same_arrays,
    'metrics_apart': max(_largest_difference(*pair) for pair in pairs),
    'state_apart': max(_largest_difference(*pair) for pair in arrays),
  }


def _largest_difference(first: Any, second: Any) -> float:
  return float(np.max(np.abs(np.float64(first) - np.float64(second)), initial=0))


# ---- campaigns -----------------------------------------------------------------------------------


def _matrix(folder: pathlib.Path) -> tuple[list[dict[str, Any]], _Left]:
  """Returns the rows of all layouts, each compared with one device, and that one's results."""
  rows, expected = [], None
  by_layout: dict[_Layout, _Left] = {}
  for backend, layout in _RUNS:
    processes, devices = layout
    path = folder / f'{backend}_{processes}x{devices}'
    with _search(path, backend, layout) as job:
      finish(job)
    found = _left_by(path)
    expected = expected or found
    row = {'backend': backend, 'processes': processes, 'devices_of_each': devices}
    row |= _distance(found, expected)
    # pmap and shard_map must be the same program.
    if backend != 'single':
      twin = by_layout.setdefault(layout, found)
      row['as_the_other_backend'] = _distance(found, twin)['bit_identical']
    rows.append(row)
    print(json.dumps(row), flush=True)
  return rows, expected


def _half(folder: pathlib.Path, expected: _Left) -> dict[str, Any]:
  """Returns how far a search in bfloat16 is from one in float32, both on one device."""
  path = folder / 'bfloat16'
  with _search(path, 'single', (1, 1), words=['--config.model.dtype=bfloat16']) as job:
    finish(job)
  found = _left_by(path)
  row: dict[str, Any] = {'same_cell': found.cell == expected.cell}
  for part in ('alpha', 'beta'):
    names = [name for name in found.arrays if name.startswith(f'.arch.{part}')]
    differences = [np.abs(found.arrays[name] - expected.arrays[name]) for name in names]
    row[f'{part}_apart'] = max(float(np.max(difference)) for difference in differences)
  for metric in ('train_loss', 'val_loss'):
    pairs = zip(found.lines, expected.lines, strict=True)
    row[f'{metric}_apart'] = max(abs(line[metric] / other[metric] - 1) for line, other in pairs)
  print(json.dumps(row), flush=True)
  return row


def _moves(
  folder: pathlib.Path,
  expected: _Left,
  backend: str,
  layouts: Sequence[_Layout] = ((1, 8), (2, 4), (1, 1), (1, 4)),
) -> dict[str, Any]:
  """Runs one search on other devices after each epoch: it is killed, and started again."""
  path, history = folder / f'moves_{backend}', []
  for epoch, layout in enumerate(layouts, 1):
    with _search(path, backend, layout) as job:
      if epoch == len(layouts):
        finish(job)
      while not _has_reached(path, epoch):
        if job.processes[0].poll() is not None:
          raise RuntimeError('\n'.join(job.words()))
        time.sleep(0.05)
    history += [layout, re.findall(r'resumed at step \d+', job.words()[0])]
  row = {'backend': backend, 'layouts': history, **_distance(_left_by(path), expected)}
  print(json.dumps(row), flush=True)
  return row


def _has_reached(path: pathlib.Path, epoch: int) -> bool:
  """Returns True where a run has written the metrics and the checkpoint of an epoch."""
  epochs = len(json_files.read_lines(path / 'metrics.jsonl'))
  return epochs >= epoch and programs.newest(path) >= 4 * epoch


def _writes(folder: pathlib.Path, backend: str = 'pmap') -> dict[str, Any] | None:
  """Returns the system calls by which the second of two processes changes the run's folder."""
  if not shutil.which('strace'):
    return None
  path, log = folder / 'traced', folder / 'strace.log'
  calls = 'open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link'
  tracer = ['strace', '-f', '-qq', '-e', f'trace={calls}', '-o', str(log)]
  with _search(path, backend, (2, 1), tracer=tracer) as job:
    finish(job)
  lines = [line for line in log.read_text('utf-8').splitlines() if f'"{path}' in line]
  reading = re.compile(r'open\w*\(.*O_RDONLY|= -1 ENOENT')
  changing = [line for line in lines if not reading.search(line)]
  return {'calls_in_the_folder': len(lines), 'that_change_something': changing}


def main() -> None:
  """Runs the program."""
  argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
  begin = time.time()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    rows, expected = _matrix(folder)
    found = {
      'search': {'epochs': _EPOCHS, 'steps': 4 * _EPOCHS},
      'matrix': rows,
      'bfloat16': _half(folder, expected),
      'moves': [_moves(folder, expected, backend) for backend in ('pmap', 'shard_map')],
      'writes_of_the_second_process': _writes(folder),
      'seconds': round(time.time() - begin),
    }
  provenance.save('hosts', found)


if __name__ == '__main__':
  main()
