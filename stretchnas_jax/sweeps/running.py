"""Runs the commands of an experiment in this process, one after another.

The same command started several times shares the work out: a run under way holds a lock, which
ends with its process, however that ends.
"""

import contextlib
import fcntl
import gc
import logging
import os
import time

import jax

from stretchnas_jax import search, train
from stretchnas_jax.cli import app
from stretchnas_jax.sweeps import jobs as jobs_lib

PROGRAMS = {'search': search, 'train': train}
POLL_SECONDS = 5.0


def run_all(jobs, locks):
  """Runs what is not finished; returns the jobs that could not be.

  Args:
    jobs: `Job`s; those that others need are among them.
    locks: a folder.

  Raises:
    SystemExit: a run was asked to stop, 130 or 143; its state is saved.
  """
  waiting, failed = list(jobs), []
  total = len(waiting)
  while waiting:
    before = len(waiting)
    for job in list(waiting):
      if advance(job, failed, locks):
        waiting.remove(job)
        logging.info('%d of %d commands are done', total - len(waiting), total)
    if len(waiting) == before:  # others run what these wait for
      time.sleep(POLL_SECONDS)
  return failed


def advance(job, failed, locks):
  """Runs a job if its turn has come; False where it must wait."""
  if job.finished:
    return True
  lost = {folder for other in failed for folder in other.folders}
  if lost & set(job.needs):
    failed.append(job)
    return True
  if not all(jobs_lib.is_done(folder) for folder in job.needs):
    return False
  with lock(locks, job) as mine:
    if not mine:
      return False
    if not (job.finished or execute(job)):
      failed.append(job)
    return True


def execute(job):
  """Runs one command as its program would; whether it came to its end."""
  program = PROGRAMS[job.program]
  logging.info('%s', job.command)
  argv = [f'stretchnas {job.program}', *job.words]
  try:
    app.run(program.prepare, config=True, workdir=True, options=program.OPTIONS, argv=argv)
  except SystemExit as stop:
    if stop.code in (130, 143):
      raise
    return stop.code in (0, None)
  except Exception:  # one run out of memory must not end a night of others
    logging.exception('failed: %s', job.command)
    return False
  finally:
    gc.collect()
    jax.clear_caches()
  return True


@contextlib.contextmanager
def lock(folder, job):
  """Whether this process may run the job; nobody else may while this lasts."""
  folder.mkdir(parents=True, exist_ok=True)
  workdir = next(word for word in job.words if word.startswith('--workdir='))
  name = workdir.removeprefix('--workdir=').strip('/').replace('/', '--')
  with open(folder / f'{name}.lock', 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      yield False
      return
    file.write(f'{os.getpid()}\n')
    file.flush()
    yield True
