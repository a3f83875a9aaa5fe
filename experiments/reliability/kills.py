"""Kills searches and trainings at random instants: `python -m experiments.reliability.kills`.

A run is started, killed (kill -9) and started again, five times, until it may end. What it leaves
must be, bit for bit, what a run leaves that was never stopped: metrics but for the clock,
genotypes, the checksums of all leaves of the last state. The first kill comes before the first
checkpoint is there, the third while the run restores one, the others anywhere; half of the runs are
asked to stop by a signal besides. Runs are kept as they end: the same command goes on after them.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from experiments.reliability import provenance
from stretchnas_jax import search, train
from stretchnas_jax.runs import checkpoint, json_files

ROOT = pathlib.Path(__file__).parents[2]
KILLS_PER_RUN = 5
# Each start is a process of its own, forked from one that has only imported what it needs.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['experiments.reliability.kills', 'sklearn.datasets'])

COMMON = """
from stretchnas_jax import config as config_lib

def get_config():
  config = config_lib.{kind}_config()
  config.data.name, config.data.image_size, config.data.crop_padding = 'digits', 8, 1
  config.data.fraction, config.checkpoint.every_steps = 0.1, 2
  config.parallel.backend = 'single'
  config.model.channels, config.model.num_layers = 2, 1
"""
CONFIGS = {
  'search': """
  config.space.num_intermediate, config.model.form = 2, 'merged'
  config.rule.kind, config.search.epochs, config.search.batch_size = 'mixed', {epochs}, 12
  return config
""",
  'train': """
  config.model.auxiliary, config.data.cutout = False, 2
  config.train.epochs, config.train.batch_size, config.train.drop_path = {epochs}, 32, 0.3
  return config
""",
}
CELL = {
  'normal': [['sep_conv_3x3', 0, 2], ['skip_connect', 1, 2]],
  'normal_concat': [2],
  'reduce': [['max_pool_3x3', 0, 2], ['skip_connect', 1, 2]],
  'reduce_concat': [2],
}


def run(kind, argv, log, cache, optimized):
  """A program, as its command runs it, in a process of its own."""
  with open(log, 'ab', buffering=0) as file:
    for stream in 1, 2:
      os.dup2(file.fileno(), stream)
  sys.argv = argv
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_disable_most_optimizations', not optimized)
  jax.config.update('jax_compilation_cache_dir', str(cache))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  {'search': search, 'train': train}[kind].main()


class Program:
  """A tiny search or training.

  Attributes:
    spans: seconds between two things that happen in a run, by the name of a moment.
    left: what it leaves, see `left_by`.
  """

  def __init__(self, kind, folder, epochs=10, optimized=True):
    """Writes its config, and runs it to its end without a stop, unless that is done."""
    self.kind, self.folder, self.optimized = kind, folder, optimized
    folder.mkdir(parents=True, exist_ok=True)
    text = COMMON.format(kind=kind) + CONFIGS[kind].format(epochs=epochs)
    (folder / f'{kind}.py').write_text(text)
    (folder / 'cell.json').write_text(json.dumps(CELL))
    for name in 'warm', 'whole':  # the first one fills the cache of compiled programs
      process = self.start(folder / name)
      process.join()
      if process.exitcode:
        raise RuntimeError((folder / f'{name}.log').read_text())
    self.spans = dict.fromkeys(MOMENTS, 1.0)
    self.left = left_by(folder / 'whole')

  def words(self, path):
    """The command line."""
    genotype = [f'--genotype={self.folder}/cell.json'] * (self.kind == 'train')
    return [self.kind, f'--config={self.folder / self.kind}.py', f'--workdir={path}', *genotype]

  def start(self, path):
    arguments = self.kind, self.words(path), f'{path}.log', self.folder / 'compiled'
    process = CONTEXT.Process(target=run, args=(*arguments, self.optimized))
    process.start()
    return process

  def finish(self, path):
    """Runs the very command to the end; returns its exit code."""
    command = [sys.executable, '-m', f'stretchnas_jax.{self.kind}', *self.words(path)[1:]]
    env = {
      **os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_DISABLE_MOST_OPTIMIZATIONS': str(int(not self.optimized)),
      'JAX_COMPILATION_CACHE_DIR': str(self.folder / 'compiled'),
    }  # fmt: skip
    with open(f'{path}.log', 'ab') as log:
      return subprocess.run(command, stdout=log, stderr=log, env=env, cwd=ROOT).returncode


def left_by(path):
  """What a finished run leaves that must not depend on how often it was stopped."""
  clock = ('seconds', 'images_per_second')
  found = {}
  for name in 'metrics.jsonl', 'genotypes.jsonl':
    found[name] = [
      {k: v for k, v in line.items() if k not in clock and not k.endswith('_seconds')}
      for line in json_files.read_lines(path / name)
    ]
  for name in 'genotype.json', 'cells.svg':
    found[name] = (path / name).read_text('utf-8')
  result = json.loads((path / 'result.json').read_text('utf-8'))
  found['result.json'] = {k: v for k, v in result.items() if k not in clock}
  with checkpoint.Checkpoints(path / 'checkpoints', read_only=True) as saved:
    found['state'] = saved.steps()[0], saved.checksums(saved.steps()[0])
  return found


# ---- moments -------------------------------------------------------------------------------------


class Start:
  """One start of a run, watched from outside."""

  def __init__(self, program, path):
    self.path, self.since, self.before = path, time.time(), newest(path)
    self.log = pathlib.Path(f'{path}.log')
    self.told = self.log.stat().st_size if self.log.exists() else 0
    self.process = program.start(path)

  def opened(self):
    file = self.path / 'run.json'
    return file.exists() and file.stat().st_mtime >= self.since

  def resumed(self):
    return self.log.exists() and b'resumed at step' in self.log.read_bytes()[self.told :]

  def saving(self):
    return bool(unfinished(self.path, self.since)) or self.saved()

  def started(self):
    return True

  def saved(self):
    return newest(self.path) > self.before

  def went_on(self):
    return newest(self.path) > self.before + 8

  def wait(self, happened, seconds=None):
    """Waits until something happens, for so long at most, or until the process ends."""
    begin = time.monotonic()
    while self.process.is_alive() and not happened():
      if seconds is not None and time.monotonic() - begin > seconds:
        break
      time.sleep(0.003)
    return time.monotonic() - begin


# What a moment comes after, and what ends it.
MOMENTS = {
  'beginning': ('started', 'saving'),
  'restoring': ('opened', 'resumed'),
  'resumed': ('resumed', 'saving'),
  'going on': ('saved', 'went_on'),
}


def wait_for(start, moment, share, spans):
  """Waits for an instant: `share` in 0 .. 1 of the seconds that the moment usually lasts."""
  after, end = (getattr(start, name) for name in MOMENTS[moment])
  start.wait(after)
  waited = start.wait(end, share * spans[moment])
  # How long it lasts depends on what else the machine does.
  spans[moment] = waited if end() else 1.2 * spans[moment]


def newest(path):
  """The step of the newest checkpoint; 0 for none."""
  return max((int(name) for name in names_in(path) if name.isdigit()), default=0)


def unfinished(path, since):
  """What a save under way has made, or one that was cut off, but not before a time."""
  found = []
  for name in names_in(path):
    with contextlib.suppress(FileNotFoundError):  # it has its name now
      if not name.isdigit() and (path / 'checkpoints' / name).stat().st_mtime >= since:
        found.append(name)
  return found


def names_in(path):
  folder = path / 'checkpoints'
  return os.listdir(folder) if folder.is_dir() else ()


# ---- runs ----------------------------------------------------------------------------------------


def stop(program, path, moment, number, share):
  """Starts a run, stops it in a moment, and says how that was."""
  start = Start(program, path)
  wait_for(start, moment, share, program.spans)
  if start.process.is_alive():
    os.kill(start.process.pid, number)
  start.process.join()
  return {
    'signal': number.name,
    'moment': moment,
    'seconds': round(time.time() - start.since, 2),
    'code': start.process.exitcode,
    'resumed': start.resumed(),
    'newest_checkpoint': [start.before, newest(path)],
    'inside_a_save': bool(unfinished(path, start.since)),
  }


def kill_run(program, path, rng, kills=KILLS_PER_RUN, ask=False):
  """Kills a run some times and lets it end; returns what came of it."""
  moments = ['beginning', 'going on', 'restoring', *rng.choice(['resumed', 'going on'], 2)]
  plan = [(str(moment), signal.SIGKILL) for moment in moments[:kills]]
  if ask:
    plan.append(('going on', (signal.SIGTERM, signal.SIGINT)[rng.integers(2)]))
  stops = [stop(program, path, *one, rng.random()) for one in plan]
  code = program.finish(path)
  left = left_by(path) if (path / 'result.json').exists() else {}
  different = [name for name, value in program.left.items() if left.get(name) != value]
  expected = [-number if number == signal.SIGKILL else 128 + number for _, number in plan]
  codes = [one['code'] for one in stops]
  return {
    'kind': program.kind,
    'stops': stops,
    'code': code,
    'different': different,
    'good': not different and codes == expected and not code,
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=200)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--folder', help='where the runs are; by default one that goes at the end')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as temporary:
    campaign(pathlib.Path(args.folder or temporary), args.kills, args.seed)


def campaign(folder, kills, seed):
  runs = provenance.load('kills').get('each', [])
  kinds = ('search', 'train')
  programs = {kind: Program(kind, folder / kind) for kind in kinds}
  while count(runs, 'SIGKILL') < kills:
    index, begin = len(runs), time.time()
    program = programs[kinds[index % 2]]
    with tempfile.TemporaryDirectory(dir=folder) as place:
      rng = np.random.default_rng([seed, index])
      found = kill_run(program, pathlib.Path(place) / 'run', rng, ask=index % 4 > 1)
      if not found['good']:
        print(pathlib.Path(place, 'run.log').read_text(), flush=True)
    runs.append({**found, 'seconds': round(time.time() - begin), 'commit': provenance.commit()})
    keep(runs)


def count(runs, signal_name, **values):
  """How many stops there were by a signal, and of what kind."""
  stops = [one for run in runs for one in run['stops'] if one['signal'] == signal_name]
  return sum(all(one[name] == value for name, value in values.items()) for one in stops)


def keep(runs):
  """Writes what is known so far."""
  found = {
    'kills': count(runs, 'SIGKILL'),
    'before_the_first_checkpoint': count(runs, 'SIGKILL', newest_checkpoint=[0, 0]),
    'while_restoring': count(runs, 'SIGKILL', moment='restoring', resumed=False),
    'inside_a_save': count(runs, 'SIGKILL', inside_a_save=True),
    'asked_to_stop': {name: count(runs, name) for name in ('SIGTERM', 'SIGINT')},
    'runs': len(runs),
    'runs_bit_identical': sum(run['good'] for run in runs),
    'seconds': sum(run['seconds'] for run in runs),
  }
  print(json.dumps(found), flush=True)
  provenance.save('kills', found, runs)


if __name__ == '__main__':
  main()
