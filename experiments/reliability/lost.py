"""Kills or stops one process of a job: `python -m experiments.reliability.lost --how=dead`.

Three processes train a tiny cell together. One of them is killed (kill -9, `dead`) or stopped
(SIGSTOP, `stuck`) at a random instant, the first included. The others must name it and end, each
with an exit code that is not 0, and so must a stopped one that is woken later. The same command
goes on; after five losses it may end, bit for bit as a job that lost nobody. A campaign that was
interrupted goes on from its file of results.
"""

import argparse
import functools
import json
import pathlib
import re
import signal
import tempfile
import time

import numpy as np

from experiments.reliability import hosts, kills
from stretchnas_jax.machine import files

PROCESSES = 3
LOSSES_PER_RUN = 5
LIMITS = {'dead': 30.0, 'stuck': 60.0}  # seconds until all others have ended
SIGNALS = {'dead': signal.SIGKILL, 'stuck': signal.SIGSTOP}

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


class Clock:
  """Seconds in which this process itself was awake: the machine may be asleep meanwhile."""

  def __init__(self):
    self.seconds, self._mark = 0.0, time.monotonic()

  def tick(self):
    time.sleep(0.02)
    now = time.monotonic()
    self.seconds, self._mark = self.seconds + min(now - self._mark, 0.5), now
    return self.seconds


def start(folder, name):
  path = folder / name
  words = [f'--config={folder}/train.py', f'--genotype={folder}/cell.json']
  return path, hosts.Job('train', path, words, PROCESSES)


def prepare(folder, epochs):
  """Writes the program; returns what a job leaves that lost nobody, and how long it worked."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'train.py').write_text(CONFIG.format(epochs=epochs))
  (folder / 'cell.json').write_text(json.dumps(CELL))
  for name in ('warm', 'whole'):  # the first fills the cache of compiled programs
    path, job = start(folder, name)
    with job:
      hosts.wait_for(job.processes[0], path / 'run.json', 0)
      begin = time.monotonic()
      hosts.finish(job)
  return kills.left_by(path), time.monotonic() - begin


def lose_one(job, path, how, victim, delay):
  """Sends the signal; returns what became of all."""
  process, clock = job.processes[victim], Clock()
  while clock.seconds < delay and job.processes[0].poll() is None:
    clock.tick()
  if any(p.poll() is not None for p in job.processes):
    return None  # it was faster
  process.send_signal(SIGNALS[how])
  others, clock = [p for p in job.processes if p is not process], Clock()
  while any(p.poll() is None for p in others) and clock.seconds < 3 * LIMITS[how]:
    clock.tick()
  seconds = clock.seconds
  if how == 'stuck':
    process.send_signal(signal.SIGCONT)
    clock = Clock()
    while process.poll() is None and clock.seconds < 60:
      clock.tick()
  texts, name = job.words(), rf'error: process {victim} of {PROCESSES} \('
  named = [bool(re.search(name, text)) for i, text in enumerate(texts) if i != victim]
  codes = [p.poll() for p in job.processes]
  good = all(named) and all(codes) and seconds <= LIMITS[how]
  return {
    'victim': victim,
    'after': round(delay, 2),
    'newest_checkpoint': kills.newest(path),
    'seconds': round(seconds, 2),
    'codes': codes,
    'named_by': sum(named),
    'good': good,
    **({} if good else {'words': [text[-1500:] for text in texts]}),
  }


def lose_some(folder, name, how, expected, window, rng, losses):
  """A job that loses a process some times, and may end then."""
  done = []
  while True:
    path, job = start(folder, name)
    with job:
      if len(done) == losses:
        codes = job.wait()
        break
      since = time.time()
      hosts.wait_for(job.processes[0], path / 'run.json', since)
      # Before the first checkpoint, while it resumes, anywhere.
      share = (0.15, 0.3, 0.5)[min(len(done), 2)]
      one = lose_one(job, path, how, int(rng.integers(PROCESSES)), rng.uniform(0, share * window))
      if one is None:
        codes = job.wait()
        break
    done.append(one)
    print(json.dumps(one), flush=True)
  left = kills.left_by(path) if not any(codes) else {}
  found = {'losses': done, 'codes_at_the_end': codes}
  found['different'] = [part for part in expected if left.get(part) != expected[part]]
  return found | ({'words': [text[-3000:] for text in job.words()]} if any(codes) else {})


def real(runs):
  """The losses of some runs, but for signals that came when the work was done already."""
  return [one for run in runs for one in run['losses'] if any(one['codes'])]


def campaign(folder, how, count, save, seed=0, runs=(), epochs=40, losses=LOSSES_PER_RUN):
  """Runs until so many losses are there; `save(runs)` is called after each run."""
  expected, window = prepare(folder, epochs)
  runs = list(runs)
  while (missing := count - len(real(runs))) > 0:
    name, rng = f'run_{len(runs)}', np.random.default_rng([seed, len(runs)])
    runs.append(lose_some(folder, name, how, expected, window, rng, min(losses, missing)))
    print(json.dumps({name: value for name, value in runs[-1].items() if name != 'losses'}))
    save(runs)
  return runs


def summary(runs, how):
  """What a campaign has found."""
  losses = real(runs)
  return {
    'losses': len(losses),
    'after_the_work_was_done': sum(len(run['losses']) for run in runs) - len(losses),
    'good': sum(one['good'] for one in losses),
    'limit_seconds': LIMITS[how],
    'longest_seconds': max(one['seconds'] for one in losses),
    'of_the_first_process': sum(one['victim'] == 0 for one in losses),
    'before_the_first_checkpoint': sum(one['newest_checkpoint'] == 0 for one in losses),
    'runs': len(runs),
    'runs_bit_identical': sum(
      not run['different'] and not any(run['codes_at_the_end']) for run in runs
    ),
    'each': runs,
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--how', choices=sorted(SIGNALS), required=True)
  parser.add_argument('--count', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  path = hosts.RESULTS / f'{args.how}.json'
  runs = json.loads(path.read_text('utf-8'))['each'] if path.exists() else []
  hosts.RESULTS.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory() as folder:
    save = functools.partial(write, path, args.how)
    runs = campaign(pathlib.Path(folder), args.how, args.count, save, args.seed, runs)
  print({name: value for name, value in summary(runs, args.how).items() if name != 'each'})


def write(path, how, runs):
  files.replace(path, (json.dumps(summary(runs, how), indent=1) + '\n').encode())


if __name__ == '__main__':
  main()
