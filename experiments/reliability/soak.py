"""Watches one long search for growth: `python -m experiments.reliability.soak`.

A small search runs for many steps. Each epoch has 10 steps, and leaves a line of metrics, a derived
cell and a checkpoint. Memory, open files, threads and the disk are measured as it goes on.
"""

import argparse
import os
import pathlib
import tempfile
import threading
import time
from typing import Any

import numpy as np

from experiments.reliability import provenance
from stretchnas_jax import config as config_lib
from stretchnas_jax import run_search

_STEPS_PER_EPOCH = 10
_FIGURES = {
  'memory_mb': 'resident memory, MB',
  'open_files': 'open files',
  'threads': 'threads',
  'checkpoints_mb': 'checkpoints on disk, MB',
  'lines_mb': 'lines of metrics and cells, MB',
}


def _config(steps: int) -> config_lib.ConfigDict:
  """Returns the smallest search of so many steps."""
  config = config_lib.search_config()
  config.data.name, config.data.image_size = 'digits', 8
  config.data.fraction, config.search.batch_size = 0.168, 8  # 10 steps an epoch
  config.space.num_intermediate, config.model.channels, config.model.num_layers = 2, 2, 1
  config.search.epochs = steps // _STEPS_PER_EPOCH
  config.parallel.backend = 'single'
  return config


def _size_mb(path: pathlib.Path) -> float:
  total = 0
  for folder, _, names in os.walk(path):
    for name in names:
      try:
        total += os.lstat(os.path.join(folder, name)).st_size
      except FileNotFoundError:  # an old checkpoint was just deleted
        continue
  return total / 2**20


def _measure(workdir: pathlib.Path, step: int, begin: float) -> dict[str, float]:
  """Returns the figures of this process and of its folder."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  lines = sum((workdir / f'{name}.jsonl').stat().st_size for name in ('metrics', 'genotypes'))
  return {
    'step': step,
    'seconds': round(time.perf_counter() - begin, 1),
    'memory_mb': round(pages * os.sysconf('SC_PAGE_SIZE') / 2**20, 1),
    'open_files': len(os.listdir('/proc/self/fd')),
    'threads': threading.active_count(),
    'system_threads': len(os.listdir('/proc/self/task')),
    'checkpoints_mb': round(_size_mb(workdir / 'checkpoints'), 3),
    'lines_mb': round(lines / 2**20, 3),
  }


def watch(workdir: pathlib.Path, steps: int, every: int) -> list[dict[str, float]]:
  """Runs a search; returns its figures after every so many steps.

  Args:
    workdir: the folder of the search.
    steps: of the whole search.
    every: steps between two measurements.
  """
  found, begin = [], time.perf_counter()

  def note(line: dict[str, Any], state: Any) -> None:
    """Measures after some epochs."""
    del state
    if line['step'] % every == 0:
      found.append(_measure(workdir, line['step'], begin))

  run_search(_config(steps), workdir, on_epoch=note)
  return found


def growth(found: list[dict[str, float]]) -> dict[str, float]:
  """Returns how much each figure grows in 1,000 steps, over the last three quarters of a run.

  Args:
    found: see `watch`.
  """
  last = found[len(found) // 4 :]
  steps = np.array([one['step'] for one in last]) / 1000
  return {
    name: round(float(np.polyfit(steps, [one[name] for one in last], 1)[0]), 4) for name in _FIGURES
  }


def draw(found: list[dict[str, float]], path: pathlib.Path, title: str) -> None:
  """Draws all figures over the steps.

  Args:
    found: see `watch`.
    path: of the picture.
    title: above it.
  """
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(len(_FIGURES), 1, figsize=(7, 9), sharex=True)
  for axis, (name, label) in zip(axes, _FIGURES.items()):
    axis.plot([one['step'] for one in found], [one[name] for one in found])
    axis.set_ylabel(label, fontsize=7)
    axis.set_ylim(0, 1.1 * max(one[name] for one in found))
  axes[0].set_title(title, fontsize=9)
  axes[-1].set_xlabel('steps')
  figure.tight_layout()
  figure.savefig(path, dpi=120)
  pyplot.close(figure)


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--steps', type=int, default=20_000)
  parser.add_argument('--every', type=int, default=200)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    found = watch(pathlib.Path(scratch) / 'run', args.steps, args.every)
  rates = growth(found)
  head = {'steps': args.steps, 'steps_per_epoch': _STEPS_PER_EPOCH, 'growth_per_1000_steps': rates}
  provenance.save('soak', head, found)
  title = f'one search on digits (8x8), {args.steps:,} steps, a checkpoint every 10 steps'
  draw(found, provenance.RESULTS / 'soak.png', title)
  print(rates)


if __name__ == '__main__':
  main()
