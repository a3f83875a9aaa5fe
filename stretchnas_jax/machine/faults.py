"""Faults of the user and of the world around a program, each of them one clear sentence.

A program shows a `Fault` in one line, whenever it comes. Errors of the program itself keep their
traces, and so does a ValueError that JAX raises in the middle of a run.
"""

import contextlib
import lzma
import os
import pathlib
import struct
import sysconfig
import tarfile
import traceback
import zipfile
import zlib
from collections.abc import Iterator

# Errors of libraries that read archives; all of them mean that a file is damaged.
_DAMAGE = (EOFError, lzma.LZMAError, zlib.error, tarfile.TarError, zipfile.BadZipFile, struct.error)
# Errors of code that takes the content of a file for something else than it is.
_OTHER_CONTENT = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
_PACKAGE = f'{pathlib.Path(__file__).parents[1]}{os.sep}'
_LIBRARIES = ('site-packages', 'dist-packages')


class Fault(OSError, ValueError):
  """Something that the user can mend: a field, a file, a folder. Its text is the sentence."""


@contextlib.contextmanager
def checking() -> Iterator[None]:
  """Turns errors about the user's input into a `Fault`.

  Checks of the library raise ValueError, since it is a library. Where a program checks its input,
  each of them is a fault of the user.
  """
  try:
    yield
  except OSError:  # a Fault too; it names its file
    raise
  except (ValueError, *_DAMAGE) as error:
    raise Fault(str(error) or f'a file is damaged ({type(error).__name__})') from error


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns errors of code that uses the content of a file into a `Fault` that names the file.

  Args:
    path: of the file.
  """
  try:
    yield
  except OSError:
    raise
  except (*_OTHER_CONTENT, *_DAMAGE) as error:
    reason = f'{type(error).__name__}: {error}'
    raise Fault(f'{path} is damaged, or of another program ({reason})') from error


@contextlib.contextmanager
def in_own_code() -> Iterator[None]:
  """Turns errors of a researcher's own code into a `Fault` that names the line.

  An error inside this package keeps its trace, unless it is the ValueError of a check.
  """
  try:
    yield
  except OSError:
    raise
  except Exception as error:  # their code is a program, and can raise anything
    place, is_own = _own_line(error)
    if not is_own and not isinstance(error, ValueError):
      raise
    kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
    raise Fault(f'{place}{kind}{error}') from error


def _own_line(error: BaseException) -> tuple[str, bool]:
  """Returns the last line of a trace that is neither of this package nor of a library, or ''.

  The second value tells whether this package did nothing after that line.
  """
  found, is_own, libraries = '', False, (f'{sysconfig.get_path("stdlib")}{os.sep}', '<')
  for frame, number in traceback.walk_tb(error.__traceback__):
    file = frame.f_code.co_filename
    if '__tracebackhide__' in frame.f_locals:  # it only passes a call on
      continue
    if file.startswith(_PACKAGE):
      is_own = False
    elif not file.startswith(libraries) and not any(name in file for name in _LIBRARIES):
      found, is_own = f'{file}, line {number}: ', True
  return found, is_own


def one_line(error: BaseException) -> str:
  """Returns the text of an exception without line ends."""
  text = str(error).strip()
  if isinstance(error, OSError) and error.strerror and error.filename:
    text = f'{error.filename}: {error.strerror}'
  elif isinstance(error, KeyError) and error.args:
    text = str(error.args[0])
  if text[:1] in ('"', "'") and text[-1:] == text[:1]:  # some libraries raise with a repr
    text = text[1:-1].replace('\\n', '\n').replace("\\'", "'")
  return ' '.join(text.split()) or type(error).__name__
