"""Runs the commands of an experiment in this process, one after another.

The same command, started several times, shares the work. A run under way holds a lock, which ends
with its process, however that ends.
"""

import contextlib
import gc
import logging
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import filelock
import jax

from stretchnas_jax import search, train
from stretchnas_jax.cli import app
from stretchnas_jax.machine import stopping
from stretchnas_jax.sweeps.jobs import Job
from stretchnas_jax.sweeps.trials import is_done

PROGRAMS = {'search': search, 'train': train}

_POLL_SECONDS = 5.0


def run_all(
  jobs: Iterable[Job], locks: pathlib.Path, after: Callable[[Job], None] | None = None
) -> list[Job]:
  """Runs the jobs that are not finished.

  Args:
    jobs: the commands; each command that another one needs is among them.
    locks: the folder of the locks.
    after: called after each job, also where another process ran it.

  Returns:
    The jobs that failed, or that need a job that failed.

  Raises:
    SystemExit: a run was asked to stop. Its state is saved.
  """
  waiting = list(jobs)
  total = len(waiting)
  failed: list[Job] = []
  while waiting:
    before = len(waiting)
    for job in list(waiting):
      if run_if_ready(job, failed, locks):
        waiting.remove(job)
        if after is not None:
          after(job)
        logging.info('%d of %d commands are done', total - len(waiting), total)
    if len(waiting) == before:  # Other processes run the jobs that these need.
      time.sleep(_POLL_SECONDS)
  return failed


def run_if_ready(job: Job, failed: list[Job], locks: pathlib.Path) -> bool:
  """Runs a job if nothing holds it up.

  Args:
    job: a command.
    failed: the jobs that failed so far; this job is added if it fails too.
    locks: the folder of the locks.

  Returns:
    False where the job must wait.
  """
  if job.finished:
    return True
  lost = {folder for other in failed for folder in other.folders}
  if lost & set(job.needs):
    failed.append(job)
    return True
  if not all(is_done(folder) for folder in job.needs):
    return False
  with lock(locks, job) as is_mine:
    if not is_mine:
      return False
    if not job.finished and not _execute(job):
      failed.append(job)
    return True


@contextlib.contextmanager
def lock(folder: pathlib.Path, job: Job) -> Iterator[bool]:
  """Keeps a job from all other processes.

  Args:
    folder: the folder of the locks.
    job: a command.

  Yields:
    False where another process has the job.
  """
  folder.mkdir(parents=True, exist_ok=True)
  held = filelock.FileLock(folder / f'{_lock_name(job.words)}.lock')
  try:
    held.acquire(timeout=0)
  except filelock.Timeout:
    yield False
    return
  try:
    yield True
  finally:
    held.release()


def _lock_name(words: Sequence[str]) -> str:
  """Returns a file name for the workdir of a command."""
  workdir = next(word for word in words if word.startswith('--workdir='))
  return workdir.removeprefix('--workdir=').strip('/').replace('/', '--')


def _execute(job: Job) -> bool:
  """Runs one command as its program would; returns True where it came to its end."""
  program = PROGRAMS[job.program]
  logging.info('%s', job.command)
  argv = [f'stretchnas {job.program}', *job.words]
  try:
    app.run(program.prepare, config=True, workdir=True, options=program.OPTIONS, argv=argv)
  except SystemExit as stop:
    if stop.code in stopping.EXIT_CODES:
      raise
    return stop.code in (0, None)
  except Exception:  # One run out of memory must not end all others.
    logging.exception('failed: %s', job.command)
    return False
  finally:
    gc.collect()
    jax.clear_caches()
  return True
