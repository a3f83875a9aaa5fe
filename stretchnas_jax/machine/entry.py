"""The first lines of a program, before any import that takes seconds.

Descriptors that the parent has closed are opened, and signals are heard, when Python imports this
file in a program of this package. In a program of somebody else it does nothing.
"""

import itertools
import os
import sys
from collections.abc import Sequence

from stretchnas_jax.machine import output, stopping


def is_program(words: Sequence[str]) -> bool:
  """Returns True for `python -m stretchnas_jax.COMMAND ...` and for `stretchnas ...`.

  Args:
    words: the command line of the process, the interpreter and its options included.
  """
  for before, word in itertools.pairwise(words):
    if word.startswith('-') or before in ('-X', '-W'):
      continue
    if before.startswith('-') and before.endswith('m'):
      return word.startswith('stretchnas_jax.')
    return os.path.basename(word) in ('stretchnas', 'stretchnas.exe')
  return False


if is_program(sys.orig_argv):
  output.open_descriptors()
  stopping.hear_as_program()
