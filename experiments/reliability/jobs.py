"""Programs under way in one process or in several, on simulated devices."""

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Self

from experiments.reliability import provenance


def wait_for(process: subprocess.Popen, file: pathlib.Path, since: float) -> None:
  """Waits until a file is written, or the process ends.

  Args:
    process: the process that writes it.
    file: the file.
    since: a time in seconds since 1970; an older file does not count.
  """
  while process.poll() is None and not (file.exists() and file.stat().st_mtime >= since):
    time.sleep(0.005)


class Job:
  """A program under way in one process or in several; also a context manager that ends them.

  Attributes:
    processes: the processes.
  """

  def __init__(
    self,
    program: str,
    path: pathlib.Path,
    words: Sequence[str],
    processes: int = 1,
    devices: int = 1,
    tracer: Sequence[str] = (),
    last_words: Sequence[str] = (),
  ) -> None:
    """Starts the job.

    Args:
      program: 'search' or 'train'.
      path: the folder of the run.
      words: further words of the command line.
      processes: the number of processes.
      devices: the number of devices of each process.
      tracer: a command that runs the last process.
      last_words: further words of the command line of the last process alone.
    """
    folder, port = path.parent, _free_port()
    variables = {
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
      'JAX_PLATFORMS': 'cpu',
      'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
      'JAX_NUM_CPU_DEVICES': str(devices),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    self._logs = [path.with_name(f'{path.name}.{i}.log') for i in range(processes)]
    self.processes: list[subprocess.Popen] = []
    for i, log in enumerate(self._logs):
      command = [sys.executable, '-m', f'stretchnas_jax.{program}', f'--workdir={path}', *words]
      if processes > 1:
        command.append(f'--distributed=localhost:{port},{processes},{i}')
      if i == processes - 1:
        command = [*tracer, *command, *last_words]
      with open(log, 'wb') as file:
        process = subprocess.Popen(
          command, stdout=file, stderr=file, env=os.environ | variables, cwd=provenance.ROOT
        )  # fmt: skip
      self.processes.append(process)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: Any) -> None:
    for process in self.processes:
      process.kill()
      process.wait()

  def wait(self) -> list[int]:
    """Returns the exit codes, when all processes have ended."""
    return [process.wait() for process in self.processes]

  def words(self) -> list[str]:
    """Returns the output of each process so far."""
    return [log.read_text('utf-8', errors='replace') for log in self._logs]


def finish(job: Job) -> None:
  """Waits until a job has ended; raises RuntimeError unless all exit codes are 0."""
  codes = job.wait()
  if any(codes):
    raise RuntimeError(f'{codes}\n' + '\n'.join(text[-2000:] for text in job.words()))


def _free_port() -> int:
  with socket.create_server(('localhost', 0)) as server:
    return server.getsockname()[1]
