"""Runs this command again in a process of its own, in which XLA compiles for an absent chip.

A failed check of XLA ends its process, and a large program takes gigabytes. Here both are one
sentence.
"""

import collections
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO

import stretchnas_jax
from stretchnas_jax.machine import output
from stretchnas_jax.machine.targets import Target

_SWITCH = 'STRETCHNAS_COMPILES_FOR'
# Lines of XLA's own log, and its traces of a failed check.
_NOISE = re.compile(r'[IWEF]\d{4} |\*\*\* |\s+@ |WARNING: All log|PC: |Fatal Python|\s+File "|$')
_REASON = re.compile(r'(Check failed.*|.*LLVM ERROR.*|.*[Uu]nknown flags? in XLA_FLAGS.*)')

_ENVIRONMENT = {
  'JAX_PLATFORMS': 'cpu',
  # A program for another chip is of no use in JAX's cache.
  'JAX_ENABLE_COMPILATION_CACHE': 'false',
  'TF_CPP_MIN_LOG_LEVEL': '3',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}
LEVEL = 'JAX_OPTIMIZATION_LEVEL'
"""The variable by which JAX takes the effort of the compiler."""
_TPU_LEVEL = 'O1'  # the default O2 takes a TPU's compiler several times as long


def is_here(target: Target) -> bool:
  """Returns whether this process is the one that compiles.

  Args:
    target: of the benchmark.
  """
  return os.environ.get(_SWITCH) == target.name


def environment(target: Target) -> dict[str, str]:
  """Returns the environment of the process that compiles.

  Args:
    target: of the benchmark.
  """
  here = str(pathlib.Path(stretchnas_jax.__file__).parents[1])
  paths = os.pathsep.join(filter(None, [here, os.environ.get('PYTHONPATH', '')]))
  found = {**os.environ, **_ENVIRONMENT, _SWITCH: target.name, 'PYTHONPATH': paths}
  if target.chip.platform == 'tpu':
    found.setdefault(LEVEL, _TPU_LEVEL)
  return found


def run(program: str, words: Sequence[str], target: Target) -> str:
  """Runs a program of this package; shows its remarks, and returns its output.

  Args:
    program: the name of its module.
    words: its command line, without the program.
    target: for which it compiles.

  Raises:
    ValueError: XLA or the system has ended the process; one sentence says why.
    SystemExit: the program has ended with an error, which it has said.
  """
  command = [sys.executable, '-m', program, *words]
  child = subprocess.Popen(
    command, env=environment(target), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    text=True, errors='replace',
  )  # fmt: skip
  last: collections.deque[str] = collections.deque(maxlen=400)
  try:
    teller = threading.Thread(target=_tell, args=(child.stderr, last), daemon=True)
    teller.start()
    assert child.stdout is not None
    printed = child.stdout.read()
    code = child.wait()
    teller.join()
  finally:
    child.kill()  # only a process that is still there
    child.wait()
  if reason := death(code, list(last), target):
    raise ValueError(reason)
  if code:
    raise SystemExit(code)
  return printed.strip()


def _tell(lines: IO[str], last: collections.deque[str]) -> None:
  """Shows the lines of the program as they come, and keeps all of them.

  Args:
    lines: of its stderr.
    last: gets them.
  """
  for line in lines:
    last.append(line.rstrip('\n'))
    if not _NOISE.match(last[-1]) and not _REASON.search(last[-1]):
      output.say(last[-1])


def death(code: int, lines: Sequence[str], target: Target) -> str | None:
  """Returns the sentence for a process that did not end by itself; None for one that did.

  Args:
    code: of its end, negative for a signal.
    lines: the last that it wrote on stderr.
    target: for which it compiled.
  """
  reasons = [found[1] for line in lines if (found := _REASON.search(line))]
  if reasons and code not in (0, 2):
    return f'XLA could not compile this for {target.name}: {output.printable(reasons[-1].strip())}'
  if code >= 0:
    return None
  if -code == signal.SIGKILL:
    return (
      f'the compilation for {target.name} was killed, most often because the memory of this '
      'machine was full: it takes 2 to 8 GB; end other programs, or lower config.model.channels or '
      'config.model.num_layers'
    )
  name = signal.Signals(-code).name if -code in list(signal.Signals) else str(-code)
  return (
    f'the compiler for {target.name} ended with {name} and said nothing; try another version of '
    'JAX, or another config.model.form'
  )
