"""One search on many numbers of devices: `python -m experiments.reliability.hosts`.

1, 2, 4 and 8 simulated devices in one process and two processes of 4, under pmap and shard_map, are
compared with one device: the cell, the metrics of every epoch, the last state; so is one device
that computes in bfloat16. A search that is killed after each epoch goes on with another number of
devices each time. Whatever a process that is not the first one writes into the folder of the run is
counted, by strace where there is one.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np

from experiments.reliability import kills, provenance
from stretchnas_jax.machine import files, leaves
from stretchnas_jax.runs import json_files, trained

RESULTS = provenance.RESULTS
EPOCHS = 4
# (processes, devices of each)
LAYOUTS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 4))
# One device first: the one that all are compared with.
RUNS = (('single', (1, 1)), *((b, layout) for b in ('pmap', 'shard_map') for layout in LAYOUTS))

CONFIG = f"""
from stretchnas_jax import config as config_lib

def get_config():
  config = config_lib.search_config()
  config.data.name, config.data.image_size, config.data.crop_padding = 'digits', 8, 1
  config.data.fraction = 0.3
  config.model.channels, config.model.num_layers, config.model.form = 2, 1, 'merged'
  config.space.num_intermediate = 2
  config.rule.kind, config.search.epochs, config.search.batch_size = 'first_order', {EPOCHS}, 32
  config.weights.learning_rate = 0.1
  config.alpha.learning_rate, config.beta.learning_rate = 6e-3, 3e-2
  return config
"""


def wait_for(process, file, since):
  """Waits until a file was written after `since`, or the process ends."""
  while process.poll() is None and not (file.exists() and file.stat().st_mtime >= since):
    time.sleep(0.005)


class Job:
  """A program under way in one process or in several.

  Attributes:
    processes: the `subprocess.Popen`s.
    logs: where each leaves its words.
  """

  def __init__(self, program, path, words, processes=1, devices=1, tracer=()):
    """Starts it.

    Args:
      program: 'search' or 'train'.
      path: the folder of the run.
      words: further words of the command line.
      processes: how many.
      devices: of each process.
      tracer: a command that runs the last process.
    """
    folder, port = path.parent, free_port()
    env = {
      **os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PLATFORMS': 'cpu',
      'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'), 'JAX_NUM_CPU_DEVICES': str(devices),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }  # fmt: skip
    self.logs = [path.with_name(f'{path.name}.{i}.log') for i in range(processes)]
    self.processes = []
    for i, log in enumerate(self.logs):
      command = [sys.executable, '-m', f'stretchnas_jax.{program}', f'--workdir={path}', *words]
      if processes > 1:
        command.append(f'--distributed=localhost:{port},{processes},{i}')
      if i == processes - 1:
        command[:0] = tracer
      with open(log, 'wb') as file:
        self.processes.append(
          subprocess.Popen(command, stdout=file, stderr=file, env=env, cwd=kills.ROOT)
        )

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for process in self.processes:
      process.kill()
      process.wait()

  def wait(self):
    """Exit codes, when all have ended."""
    return [process.wait() for process in self.processes]

  def words(self):
    return [log.read_text('utf-8', errors='replace') for log in self.logs]


def free_port():
  with socket.create_server(('localhost', 0)) as server:
    return server.getsockname()[1]


def search(path, backend, layout, words=(), **options):
  """A `Job` that searches."""
  config = path.parent / 'search.py'
  config.write_text(CONFIG)
  words = [f'--config={config}', f'--config.parallel.backend={backend}', *words]
  return Job('search', path, words, *layout, **options)


def finish(job):
  if any(codes := job.wait()):
    raise RuntimeError(f'{codes}\n' + '\n'.join(text[-2000:] for text in job.words()))


# ---- what is compared ----------------------------------------------------------------------------


def left_by(path):
  """(metrics of each epoch, cell, arrays of the last state) of a run that is done."""
  timed = lambda name: name.endswith('_seconds') or name in ('seconds', 'images_per_second')
  lines = [
    {name: value for name, value in line.items() if not timed(name)}
    for line in json_files.read_lines(path / 'metrics.jsonl')
  ]
  state = trained.read_run(path).state
  arrays = {name: np.asarray(leaves.raw(leaf)) for name, leaf in leaves.flatten(state).items()}
  return lines, json.loads((path / 'genotype.json').read_text('utf-8')), arrays


def distance(found, expected):
  """How far two runs are apart, as what `left_by` gives."""
  (lines, cell, arrays), (other_lines, other_cell, other_arrays) = found, expected
  apart = lambda x, y: float(np.max(np.abs(np.float64(x) - np.float64(y)), initial=0))
  return {
    'epochs': [line['epoch'] for line in lines],
    'same_cell': cell == other_cell,
    'bit_identical': lines == other_lines
    and all(np.array_equal(arrays[name], other_arrays[name]) for name in other_arrays),
    'metrics_apart': max(
      apart(line[name], other[name])
      for line, other in zip(lines, other_lines, strict=True)
      for name in other
    ),
    'state_apart': max(apart(arrays[name], other_arrays[name]) for name in other_arrays),
  }


# ---- the campaigns -------------------------------------------------------------------------------


def matrix(folder):
  """The rows of all layouts, each compared with one device."""
  rows, expected, by_layout = [], None, {}
  for backend, layout in RUNS:
    path = folder / f'{backend}_{layout[0]}x{layout[1]}'
    with search(path, backend, layout) as job:
      finish(job)
    found = left_by(path)
    expected = expected or found
    row = {'backend': backend, 'processes': layout[0], 'devices_of_each': layout[1]}
    row |= distance(found, expected)
    # pmap and shard_map are to be the same program.
    if backend != 'single':
      twin = by_layout.setdefault(layout, found)
      row['as_the_other_backend'] = distance(found, twin)['bit_identical']
    rows.append(row)
    print(json.dumps(row), flush=True)
  return rows, expected


def half(folder, expected):
  """How far a search in bfloat16 is from one in float32, both on one device."""
  path = folder / 'bfloat16'
  with search(path, 'single', (1, 1), words=['--config.model.dtype=bfloat16']) as job:
    finish(job)
  lines, cell, arrays = left_by(path)
  relative = lambda name: max(
    abs(line[name] / other[name] - 1) for line, other in zip(lines, expected[0], strict=True)
  )
  apart = lambda name: max(
    float(np.max(np.abs(arrays[path] - expected[2][path])))
    for path in arrays
    if path.startswith(f'.arch.{name}')
  )
  row = {'same_cell': cell == expected[1], 'alpha_apart': apart('alpha')}
  row |= {'beta_apart': apart('beta'), 'train_loss_apart': relative('train_loss')}
  row |= {'val_loss_apart': relative('val_loss')}
  print(json.dumps(row), flush=True)
  return row


def moves(folder, expected, backend='pmap', layouts=((1, 8), (2, 4), (1, 1), (1, 4))):
  """One search, on other devices after each epoch: killed, and started again."""
  path, text = folder / f'moves_{backend}', []
  for epoch, layout in enumerate(layouts, 1):
    with search(path, backend, layout) as job:
      if epoch == len(layouts):
        finish(job)
      while (
        len(json_files.read_lines(path / 'metrics.jsonl')) < epoch or kills.newest(path) < 4 * epoch
      ):
        if job.processes[0].poll() is not None:
          raise RuntimeError('\n'.join(job.words()))
        time.sleep(0.05)
    text += [layout, re.findall(r'resumed at step \d+', job.words()[0])]
  row = {'backend': backend, 'layouts': text, **distance(left_by(path), expected)}
  print(json.dumps(row), flush=True)
  return row


def writes(folder, backend='pmap'):
  """System calls by which the second of two processes changes something in the run's folder."""
  if not shutil.which('strace'):
    return None
  path, log = folder / 'traced', folder / 'strace.log'
  calls = 'open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link'
  tracer = ['strace', '-f', '-qq', '-e', f'trace={calls}', '-o', str(log)]
  with search(path, backend, (2, 1), tracer=tracer) as job:
    finish(job)
  lines = [line for line in log.read_text('utf-8').splitlines() if f'"{path}' in line]
  changing = [
    line for line in lines if not re.search(r'open\w*\(.*O_RDONLY|= -1 ENOENT', line)
  ]  # fmt: skip
  return {'calls_in_the_folder': len(lines), 'that_change_something': changing}


def main():
  argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
  begin = time.time()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    rows, expected = matrix(folder)
    found = {
      'search': {'epochs': EPOCHS, 'steps': 4 * EPOCHS},
      'matrix': rows,
      'bfloat16': half(folder, expected),
      'moves': [moves(folder, expected, backend) for backend in ('pmap', 'shard_map')],
      'writes_of_the_second_process': writes(folder),
      'seconds': round(time.time() - begin),
    }
  RESULTS.mkdir(parents=True, exist_ok=True)
  files.replace(RESULTS / 'hosts.json', (json.dumps(found, indent=1) + '\n').encode())


if __name__ == '__main__':
  main()
