"""Errors of the user in one line each, and the exit codes of a program."""

from collections.abc import Container
from typing import NoReturn

from stretchnas_jax.machine import output
from stretchnas_jax.machine.faults import one_line

# Exit codes: an error of the user, and an interruption (128 + SIGINT, as shells have it).
_USER_ERROR, INTERRUPTED = 2, 130


class _Failure(SystemExit):
  """The end of a program after an error of the user.

  Attributes:
    text: the line that was shown; the other processes of a job are told it too.
    exit_code: only where all processes end with this error.
  """

  exit_code: int

  def __init__(self, text: str) -> None:
    super().__init__(_USER_ERROR)
    self.text = text


def fail(text: str, agreed: bool = False) -> NoReturn:
  """Shows one line on stderr and ends the program with code 2.

  Args:
    text: the line.
    agreed: True where all processes of a job end with this error, so that none waits for another.
  """
  output.say(f'error: {output.printable(text)}')
  failure = _Failure(text)
  if agreed:
    failure.exit_code = _USER_ERROR
  raise failure from None


def is_out_of_memory(error: Exception) -> bool:
  """Returns True where a device or the host had too little memory."""
  if isinstance(error, MemoryError):
    return True
  # JAX has one type for all errors of its runtime; its name depends on the version.
  from_jax = type(error).__name__ in ('XlaRuntimeError', 'JaxRuntimeError')
  return from_jax and 'RESOURCE_EXHAUSTED' in str(error)


def memory_advice(error: Exception, groups: Container[str]) -> str:
  """Returns the sentence for too little memory, with the fields that lower the need.

  Args:
    error: the error, whose text tells the size that was asked for.
    groups: the groups of the config, for example {'search', 'model'}.
  """
  fields = [f'config.{group}.batch_size' for group in ('search', 'train') if group in groups]
  fields += ['config.model.channels', 'config.model.num_layers']
  more = ''
  if 'search' in groups:
    more += ', config.model.remat to True, on a GPU config.search.passes to in_turn'
  if 'parallel' in groups:
    more += ', of several seeds config.parallel.seeds to in_turn'
  return (
    f'out of memory: lower {", ".join(fields)}, or set config.model.dtype to bfloat16{more} '
    f'({one_line(error)[:200]})'
  )
