"""Gives the commands of an experiment to Slurm, one job each; needs submitit."""

import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stretchnas_jax.sweeps.jobs import Job


class Command:
  """A command as a Slurm job runs it.

  When its time is up, or Slurm needs the machine, the run saves its state and is queued again.
  """

  def __init__(self, program: str, words: Sequence[str]) -> None:
    """Keeps the command.

    Args:
      program: 'search' or 'train'.
      words: the rest of the command line.
    """
    self.program = program
    self.words = tuple(words)
    self._child: subprocess.Popen | None = None

  def __call__(self) -> None:
    """Runs the command; raises RuntimeError where it fails."""
    command = [sys.executable, '-m', f'stretchnas_jax.{self.program}', *self.words]
    self._child = subprocess.Popen(command)
    code = self._child.wait()
    if code:
      raise RuntimeError(f'{" ".join(command)} ended with {code}')

  def checkpoint(self) -> Any:
    """Ends the run and returns its continuation; submitit calls this from its signal handler."""
    import submitit

    if self._child is not None:
      self._child.terminate()  # The run saves its state first.
      # `Popen.wait` would wait for ever: the call below this handler holds its lock.
      with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
    return submitit.helpers.DelayedSubmission(Command(self.program, self.words))


def parameters_from(text: str | None) -> dict[str, int | str]:
  """Returns submitit's parameters from text such as `slurm_partition=gpu,gpus_per_node=1`.

  Raises:
    ValueError: a word is not NAME=VALUE.
  """
  found: dict[str, int | str] = {}
  for word in filter(None, (text or '').split(',')):
    name, mark, value = word.partition('=')
    if not (mark and name and value):
      raise ValueError(f'--slurm has {word!r}; it must be NAME=VALUE with commas between')
    found[name] = int(value) if value.isdecimal() else value
  return found


def open_executor(
  folder: pathlib.Path, parameters: Mapping[str, int | str], cluster: str = 'slurm'
) -> Any:
  """Returns submitit's executor, which takes jobs.

  Args:
    folder: the folder of submitit's scripts and logs.
    parameters: see `submitit.AutoExecutor.update_parameters`.
    cluster: submitit's name of the cluster; 'debug' runs a job at once in this process.

  Raises:
    ValueError: submitit or Slurm is not there, or submitit refuses a parameter.
  """
  try:
    import submitit
  except ImportError as error:
    raise ValueError('--launcher=slurm needs submitit: pip install -e ".[experiments]"') from error
  try:
    executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster)
    executor.update_parameters(**{'name': 'stretchnas', **parameters})
  except (RuntimeError, NameError) as error:  # submitit raises these two
    raise ValueError(f'--launcher=slurm: {error}') from error
  return executor


def submit(executor: Any, jobs: Iterable[Job]) -> list[tuple[str, Job]]:
  """Submits the jobs that are not finished.

  Args:
    executor: see `open_executor`.
    jobs: the commands; each stands behind the commands that it needs.

  Returns:
    Slurm's number of each job that was submitted, and the job.
  """
  submitted: list[tuple[str, Job]] = []
  numbers: dict[pathlib.Path, str] = {}
  for job in jobs:
    if job.finished:
      continue
    after = sorted({numbers[need] for need in job.needs if need in numbers})
    more = {'dependency': f'afterok:{":".join(after)}'} if after else {}
    executor.update_parameters(slurm_additional_parameters=more)
    number = executor.submit(Command(job.program, job.words)).job_id
    numbers |= dict.fromkeys(job.folders, number)
    submitted.append((number, job))
  return submitted
