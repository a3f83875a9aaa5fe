"""Kills searches and trainings at random instants: `python -m experiments.reliability.kills`.

A run is started, killed (kill -9, or SIGTERM), started again, and so on, until it may end. What it
leaves must be, bit for bit, what a run leaves that was never stopped: metrics but for the clock,
genotypes, the checksums of all leaves of the last state. The first kill comes before the first
checkpoint is there, the second while the run resumes.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from stretchnas_jax.runtime import checkpoint, files, workdir

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / 'experiments' / 'results' / 'reliability'
KILLS_PER_RUN = 5

COMMON = """
from stretchnas_jax import config as config_lib

def get_config():
  config = config_lib.{kind}_config()
  config.data.name, config.data.image_size, config.data.crop_padding = 'digits', 8, 1
  config.data.fraction, config.checkpoint.every_steps = 0.3, 2
  config.parallel.backend = 'single'
  config.model.channels, config.model.num_layers = 2, 1
"""
CONFIGS = {
  'search': """
  config.space.num_intermediate, config.model.form = 2, 'merged'
  config.rule.kind, config.search.epochs, config.search.batch_size = 'mixed', {epochs}, 32
  return config
""",
  'train': """
  config.model.auxiliary, config.data.cutout = False, 2
  config.train.epochs, config.train.batch_size, config.train.drop_path = {epochs}, 64, 0.3
  return config
""",
}
CELL = {
  'normal': [['sep_conv_3x3', 0, 2], ['skip_connect', 1, 2]],
  'normal_concat': [2],
  'reduce': [['max_pool_3x3', 0, 2], ['skip_connect', 1, 2]],
  'reduce_concat': [2],
}


class Program:
  """A tiny search or training, as a command.

  Attributes:
    window: seconds that the work of the uninterrupted run lasts, compilation included.
    left: what it leaves, see `left_by`.
  """

  def __init__(self, kind, folder, epochs=8):
    """Writes its config, and runs it to its end without a stop."""
    self.kind, self.folder = kind, folder
    folder.mkdir(parents=True, exist_ok=True)
    text = COMMON.format(kind=kind) + CONFIGS[kind].format(epochs=epochs)
    (folder / f'{kind}.py').write_text(text)
    (folder / 'cell.json').write_text(json.dumps(CELL))
    self.start(folder / 'warm').wait()  # fills the cache of compiled programs
    begin = time.monotonic()
    process = self.start(folder / 'whole')
    opened = wait_for(process, folder / 'whole' / 'config.json', time.time())
    self.start_up = opened - begin
    if process.wait():
      raise RuntimeError((folder / 'whole.log').read_text())
    self.window = time.monotonic() - opened
    self.left = left_by(folder / 'whole')

  def start(self, path):
    command = [
      sys.executable, '-m', f'stretchnas_jax.{self.kind}', f'--config={self.folder / self.kind}.py',
      f'--workdir={path}', *[f'--genotype={self.folder}/cell.json'] * (self.kind == 'train'),
    ]  # fmt: skip
    env = {
      **os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PLATFORMS': 'cpu',
      'JAX_COMPILATION_CACHE_DIR': str(self.folder / 'compiled'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }  # fmt: skip
    with open(f'{path}.log', 'ab') as log:
      return subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=ROOT)


def wait_for(process, file, since):
  """Waits until a file was written after `since`, or the process ends; returns the time."""
  while process.poll() is None and not (file.exists() and file.stat().st_mtime >= since):
    time.sleep(0.005)
  return time.monotonic()


def left_by(path):
  """What a finished run leaves that must not depend on how often it was stopped."""
  clock = ('seconds', 'images_per_second')
  found = {}
  for name in 'metrics.jsonl', 'genotypes.jsonl':
    found[name] = [
      {k: v for k, v in line.items() if k not in clock and not k.endswith('_seconds')}
      for line in workdir.read(path / name)
    ]
  for name in 'genotype.json', 'cells.svg':
    found[name] = (path / name).read_text('utf-8')
  result = json.loads((path / 'result.json').read_text('utf-8'))
  found['result.json'] = {k: v for k, v in result.items() if k not in clock}
  with checkpoint.Checkpoints(path / 'checkpoints', read_only=True) as saved:
    found['state'] = saved.steps()[0], saved.checksums(saved.steps()[0])
  return found


def kill_run(program, path, rng, kills=KILLS_PER_RUN):
  """Kills a run some times and lets it end; returns what came of it."""
  done, codes = [], []
  for i in range(10 * kills):
    since = time.time()
    process = program.start(path)
    if len(done) == kills:
      codes.append(process.wait())
      break
    opened = wait_for(process, path / 'run.json', since)
    # Before the first checkpoint; while it resumes; anywhere in the rest.
    share = (0.2, 0.2, 0.7)[min(len(done), 2)]
    time.sleep(rng.uniform(0, share * program.window))
    number = signal.SIGTERM if i and rng.random() < 0.25 else signal.SIGKILL
    process.send_signal(number)
    code = process.wait()
    if code == 0:  # it was faster
      break
    done.append([number.name, round(time.monotonic() - opened, 2), newest(path)])
    codes.append(code)
  left = left_by(path) if (path / 'result.json').exists() else {}
  equal = {name: left.get(name) == value for name, value in program.left.items()}
  expected = {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM, 0}
  good = all(equal.values()) and set(codes) <= expected
  return {
    'kills': done,
    'codes': codes,
    'different': [n for n in equal if not equal[n]],
    'good': good,
  }


def newest(path):
  """The step of the newest checkpoint; 0 for none."""
  folder = path / 'checkpoints'
  names = os.listdir(folder) if folder.is_dir() else ()
  return max((int(name) for name in names if name.isdigit()), default=0)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=200)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  rng, begin, runs = np.random.default_rng(args.seed), time.time(), []
  with tempfile.TemporaryDirectory() as folder:
    programs = [Program(kind, pathlib.Path(folder) / kind) for kind in ('search', 'train')]
    while sum(len(run['kills']) for run in runs) < args.kills:
      program = programs[len(runs) % 2]
      run = kill_run(program, program.folder / f'run_{len(runs)}', rng)
      runs.append({'kind': program.kind, **run})
      print(json.dumps(runs[-1]), flush=True)
  kills = [kill for run in runs for kill in run['kills']]
  found = {
    'kills': len(kills),
    'signals': {n: sum(kill[0] == n for kill in kills) for n in ('SIGKILL', 'SIGTERM')},
    'before_the_first_checkpoint': sum(kill[2] == 0 for kill in kills),
    'runs': len(runs),
    'runs_bit_identical': sum(run['good'] for run in runs),
    'seconds': round(time.time() - begin),
    'each': runs,
  }
  RESULTS.mkdir(parents=True, exist_ok=True)
  files.replace(RESULTS / 'kills.json', (json.dumps(found, indent=1) + '\n').encode())
  print({name: value for name, value in found.items() if name != 'each'})


if __name__ == '__main__':
  main()
