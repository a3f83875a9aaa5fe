"""Gives the commands of an experiment to Slurm, one job each; needs submitit."""

import subprocess
import sys


class Command:
  """What a job runs. When its time is up, or it is preempted, it saves and is queued again."""

  def __init__(self, program, words):
    self.program, self.words, self.child = program, tuple(words), None

  def __call__(self):
    command = [sys.executable, '-m', f'stretchnas_jax.{self.program}', *self.words]
    self.child = subprocess.Popen(command)
    if code := self.child.wait():
      raise RuntimeError(f'{" ".join(command)} ended with {code}')

  def checkpoint(self):
    """submitit calls this from its signal handler."""
    import submitit

    self.child.terminate()  # it saves, as of any SIGTERM
    self.child.wait()
    return submitit.helpers.DelayedSubmission(Command(self.program, self.words))


def parse(text):
  """`'slurm_partition=gpu,gpus_per_node=1'` -> what submitit takes; whole numbers become int."""
  found = {}
  for word in filter(None, (text or '').split(',')):
    name, mark, value = word.partition('=')
    if not (mark and name and value):
      raise ValueError(f'--slurm has {word!r}; it must be NAME=VALUE with commas between')
    found[name] = int(value) if value.isdecimal() else value
  return found


def open_executor(folder, parameters, cluster='slurm'):
  """What jobs are given to.

  Args:
    folder: of submitit's scripts and logs.
    parameters: of `submitit.AutoExecutor.update_parameters`, see `parse`.
    cluster: of submitit; 'debug' runs here and now.

  Raises:
    ValueError: submitit or Slurm is not there, or it refuses a parameter.
  """
  try:
    import submitit
  except ImportError as error:
    raise ValueError('--launcher=slurm needs submitit: pip install -e ".[experiments]"') from error
  try:
    executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster)
    executor.update_parameters(**{'name': 'stretchnas', **parameters})
  except (RuntimeError, NameError) as error:  # what submitit raises for these
    raise ValueError(f'--launcher=slurm: {error}') from error
  return executor


def submit(executor, jobs):
  """Submits what is not finished, each job after those that it needs.

  Args:
    executor: of `open_executor`.
    jobs: `Job`s, each after those that it needs.

  Returns:
    `[(job id, Job)]`.
  """
  submitted, ids = [], {}
  for job in jobs:
    if job.finished:
      continue
    after = sorted({ids[need] for need in job.needs if need in ids})
    wanted = {'dependency': f'afterok:{":".join(after)}'} if after else {}
    executor.update_parameters(slurm_additional_parameters=wanted)
    queued = executor.submit(Command(job.program, job.words))
    ids |= dict.fromkeys(job.folders, queued.job_id)
    submitted.append((queued.job_id, job))
  return submitted
