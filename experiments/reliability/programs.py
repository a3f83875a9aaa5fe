"""Tiny searches and trainings that campaigns stop and start again."""

import json
import multiprocessing
import os
import pathlib
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import jax

from experiments.reliability import provenance
from stretchnas_jax import search, train
from stretchnas_jax.machine import stopping
from stretchnas_jax.runs import checkpoint, json_files

# Each start is a process of its own, forked from one that has only imported the programs.
_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['experiments.reliability.programs', 'sklearn.datasets'])

# The signals that ask a run to stop.
SIGNALS = {
  number.name: number
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
}

_COMMON = """
from stretchnas_jax import config as config_lib

def get_config():
  config = config_lib.{kind}_config()
  config.data.name, config.data.image_size, config.data.crop_padding = 'digits', 8, 1
  config.data.fraction, config.checkpoint.every_steps = 0.1, 2
  config.parallel.backend = 'single'
  config.model.channels, config.model.num_layers = 2, 1
"""
_CONFIGS = {
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
_CELL = {
  'normal': [['sep_conv_3x3', 0, 2], ['skip_connect', 1, 2]],
  'normal_concat': [2],
  'reduce': [['max_pool_3x3', 0, 2], ['skip_connect', 1, 2]],
  'reduce_concat': [2],
}


class Program:
  """A tiny search or training, which has run once to its end without a stop.

  Attributes:
    kind: 'search' or 'train'.
    folder: the folder of its config, its compiled programs and its runs.
    optimized: False where the compiler may leave out most optimizations.
    left: the files of the whole run, see `left_by`.
    seconds: that the whole run took.
  """

  def __init__(
    self,
    kind: str,
    folder: pathlib.Path,
    epochs: int = 10,
    optimized: bool = True,
    overrides: Sequence[str] = (),
  ) -> None:
    """Writes the config, and runs it to its end unless that is done.

    Args:
      kind: 'search' or 'train'.
      folder: it is made if it is not there.
      epochs: of a run.
      optimized: see the attribute.
      overrides: further words of the command line, for example '--config.seed=1'.
    """
    self.kind, self.folder, self.optimized = kind, folder, optimized
    self._overrides = tuple(overrides)
    folder.mkdir(parents=True, exist_ok=True)
    text = _COMMON.format(kind=kind) + _CONFIGS[kind].format(epochs=epochs)
    (folder / f'{kind}.py').write_text(text)
    (folder / 'cell.json').write_text(json.dumps(_CELL))
    for name in 'warm', 'whole':  # The first run fills the cache of compiled programs.
      begin = time.monotonic()
      process = self.start(folder / name)
      process.join()
      if process.exitcode:
        raise RuntimeError((folder / f'{name}.log').read_text())
      self.seconds = time.monotonic() - begin
    self.left = left_by(folder / 'whole')

  def start(self, path: pathlib.Path, log: str | None = None) -> BaseProcess:
    """Starts the program in a process of its own.

    Args:
      path: the folder of the run.
      log: a file, a pipe or a terminal for its output; None for a file beside the folder.
    """
    log = log or f'{path}.log'
    arguments = (self.kind, self._words(path), log, self._cache, self.optimized)
    process = _CONTEXT.Process(target=_run, args=arguments)
    process.start()
    return process

  def finish(self, path: pathlib.Path) -> int:
    """Runs the user's command to its end, and returns its exit code."""
    command = [sys.executable, '-m', f'stretchnas_jax.{self.kind}', *self._words(path)[1:]]
    variables = {
      'JAX_PLATFORMS': 'cpu',
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_DISABLE_MOST_OPTIMIZATIONS': str(int(not self.optimized)),
      'JAX_COMPILATION_CACHE_DIR': str(self._cache),
    }
    with open(f'{path}.log', 'ab') as log:
      done = subprocess.run(
        command, stdout=log, stderr=log, env=os.environ | variables, cwd=provenance.ROOT
      )  # fmt: skip
    return done.returncode

  @property
  def _cache(self) -> pathlib.Path:
    return self.folder / 'compiled'

  def _words(self, path: pathlib.Path) -> list[str]:
    """Returns the command line for a run in the folder `path`."""
    config = f'--config={self.folder / self.kind}.py'
    words = [self.kind, config, *self._overrides, f'--workdir={path}']
    if self.kind == 'train':
      words.append(f'--genotype={self.folder}/cell.json')
    return words


def _run(kind: str, argv: list[str], log: str, cache: pathlib.Path, optimized: bool) -> None:
  """Runs a program in this process, with all output in a file."""
  os.setsid()  # the terminal that is opened next becomes that of this process
  reads = os.path.exists(log) and stat.S_ISCHR(os.stat(log).st_mode)
  flags = (os.O_RDWR if reads else os.O_WRONLY) | os.O_APPEND | os.O_CREAT
  file = os.open(log, flags, 0o644)
  for stream in 1, 2:
    os.dup2(file, stream)
  os.close(file)
  for number in SIGNALS.values():  # the parent may ignore some
    signal.signal(number, signal.SIG_DFL)
  stopping.hear_as_program()
  sys.argv = argv
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_disable_most_optimizations', not optimized)
  jax.config.update('jax_compilation_cache_dir', str(cache))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  {'search': search, 'train': train}[kind].main()


# ---- the files of a run --------------------------------------------------------------------------


def without_clock(line: dict[str, Any]) -> dict[str, Any]:
  """Returns a line of metrics without the figures that depend on the clock."""
  clock = ('seconds', 'images_per_second')
  return {
    name: value
    for name, value in line.items()
    if name not in clock and not name.endswith('_seconds')
  }


def left_by(path: pathlib.Path) -> dict[str, Any]:
  """Returns the content of a finished run that must not depend on its stops.

  Args:
    path: the folder of the run.

  Returns:
    Metrics, genotypes, results and drawings by file name, without the clock; under `state` the
    step of the last checkpoint and the checksums of its leaves.
  """
  found: dict[str, Any] = {}
  for name in 'metrics.jsonl', 'genotypes.jsonl':
    found[name] = [without_clock(line) for line in json_files.read_lines(path / name)]
  for name in 'genotype.json', 'cells.svg':
    found[name] = (path / name).read_text('utf-8')
  found['result.json'] = without_clock(json.loads((path / 'result.json').read_text('utf-8')))
  with checkpoint.Checkpoints(path / 'checkpoints', read_only=True) as saved:
    last = saved.steps()[0]
    found['state'] = last, saved.checksums(last)
  return found


def newest(path: pathlib.Path) -> int:
  """Returns the step of the newest checkpoint of a run; 0 where there is none."""
  return max((int(name) for name in checkpoint_names(path) if name.isdigit()), default=0)


def checkpoint_names(path: pathlib.Path) -> list[str]:
  """Returns the names in the folder of a run's checkpoints."""
  folder = path / 'checkpoints'
  return os.listdir(folder) if folder.is_dir() else []
