"""Everything that programs and runs say goes through this file. Saying is best effort.

A reader that is gone, a full disk, a closed descriptor or a narrow encoding never ends a run.
Texts from outside may hold control sequences; they are escaped here, and long lines are shortened.
"""

import contextlib
import contextvars
import errno
import functools
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

_LONGEST = 2000  # characters of a line
_MOST = 200_000  # characters of a message
_PIECE = 1000  # characters; a pipe that takes anything takes as much in UTF-8 without waiting
_PATIENCE = 2.0  # seconds for a reader that reads nothing
_READER_GONE = {errno.EPIPE, errno.EBADF}


def printable(text: str, longest: int = _LONGEST) -> str:
  """Returns a text as one short line that a terminal can show without harm.

  Line ends, control sequences, marks that turn the direction of writing, and bytes that are no
  text become escapes such as `\\x1b`.

  Args:
    text: any text.
    longest: the most characters; the middle of a longer text is left out.
  """
  length = len(text)
  if length > longest:
    text = text[:longest] + text[-longest:]  # more is not shown, and escapes make it longer
  if not text.isprintable():
    text = ''.join(c if c.isprintable() else _escape(c) for c in text)
  if len(text) <= longest:
    return text
  note = f' ... ({length} characters) ... '
  kept = max(longest - len(note), 4)
  return text[: kept - kept // 4] + note + text[-(kept // 4) :]


def _escape(character: str) -> str:
  return character.encode('unicode_escape').decode('ascii')


def _lines(text: str, longest: int = _LONGEST) -> str:
  """Returns a text whose lines are printable, with a line end after each of them."""
  return ''.join(f'{printable(line, longest)}\n' for line in text.split('\n'))


class BestEffort(io.TextIOBase):
  """A text stream on another one, which takes everything and writes as much as it can.

  Attributes:
    failure: the error of the last write, or None.
  """

  def __init__(self, stream: Any, waits: bool = True) -> None:
    """Binds a stream.

    Args:
      stream: where to; None for nowhere.
      waits: whether it waits for a reader that reads nothing. Otherwise it waits once for a
        moment, and then leaves texts out until the reader goes on.
    """
    self._stream, self._waits = stream, waits
    self._patience = _PATIENCE
    self.failure: Exception | None = None

  @property
  # pyrefly: ignore[bad-override]
  def encoding(self) -> str:
    """The encoding of the other stream."""
    return getattr(self._stream, 'encoding', None) or 'utf-8'

  def write(self, text: str, /) -> int:
    """Writes what can be written, and returns the length of the whole text."""
    try:
      shown = text.encode(self.encoding, 'backslashreplace').decode(self.encoding)
      for begin in range(0, len(shown), _PIECE):
        if not self._is_ready():
          break
        self._stream.write(shown[begin : begin + _PIECE])
        self._stream.flush()
      self.failure = None
    except Exception as error:  # a stream is anything; a closed one raises ValueError
      self.failure = error
    return len(text)

  def _is_ready(self) -> bool:
    """Returns False where a write would wait for too long."""
    if self._waits:
      return self._stream is not None
    try:
      number = self._stream.fileno()
    except Exception:  # a stream in memory
      return self._stream is not None
    ready = bool(select.select([], [number], [], self._patience)[1])
    self._patience = _PATIENCE if ready else 0.0
    return ready

  def writable(self) -> bool:
    """Returns True."""
    return True

  def isatty(self) -> bool:
    """Returns True where the other stream is a terminal."""
    try:
      return bool(self._stream.isatty())
    except Exception:
      return False

  def has_no_columns(self) -> bool:
    """Returns True for a terminal that is said to be 0 columns wide; it shows no bar."""
    try:
      return os.get_terminal_size(self._stream.fileno()).columns == 0
    except Exception:  # not known
      return False

  def fileno(self) -> int:
    """Returns the descriptor of the other stream; OSError where it has none."""
    try:
      return self._stream.fileno()
    except Exception as error:
      raise io.UnsupportedOperation('fileno') from error

  def flush(self) -> None:
    """Does nothing, since each write is flushed."""


def best_effort(stream: Any, waits: bool = True) -> BestEffort:
  """Returns a stream that cannot fail, on another one.

  Args:
    stream: the other one, or None.
    waits: see `BestEffort`.
  """
  return stream if isinstance(stream, BestEffort) else BestEffort(stream, waits)


def errors() -> BestEffort:
  """Returns stderr as a stream that cannot fail; it does not wait for its reader."""
  return sys.stderr if isinstance(sys.stderr, BestEffort) else _errors_on(sys.stderr)


@functools.lru_cache(1)  # a bar and the lines above it must have the same stream
def _errors_on(stream: Any) -> BestEffort:
  return BestEffort(stream, waits=False)


_label: contextvars.ContextVar[str] = contextvars.ContextVar('label', default='')


@contextlib.contextmanager
def labelled(label: str) -> Iterator[None]:
  """Begins each line that this thread says in this context with a label and a colon.

  Args:
    label: for example the name of one of several runs beside each other.
  """
  token = _label.set(label)
  try:
    yield
  finally:
    _label.reset(token)


def label() -> str:
  """Returns the label of this thread, or ''."""
  return _label.get()


def _with_label(text: str) -> str:
  return '\n'.join(f'{label()}: {line}' for line in text.split('\n')) if label() else text


def say(text: str, stream: BestEffort | None = None) -> None:
  """Shows lines, above a progress bar if there is one.

  Args:
    text: the lines.
    stream: where to; None for stderr.
  """
  shown, stream = _lines(_with_label(text[:_MOST])), stream or errors()
  bars = getattr(sys.modules.get('tqdm'), 'tqdm', None)
  if bars is None:
    stream.write(shown)
    return
  with contextlib.suppress(Exception):  # a bar that cannot be cleared
    bars.write(shown, file=stream, end='')


def urgent(text: str) -> None:
  """Shows one line on stderr at once, from any thread and from a handler of a signal."""
  with contextlib.suppress(Exception):
    line_end = '\n' if os.isatty(2) else ''  # to stand below a progress bar
    encoding = getattr(sys.stderr, 'encoding', None) or 'utf-8'
    if select.select([], [2], [], _PATIENCE)[1]:
      os.write(2, f'{line_end}{printable(text)}\n'.encode(encoding, 'backslashreplace'))


def remark(text: str) -> None:
  """Shows lines on stdout that no program needs."""
  best_effort(sys.stdout).write(_lines(_with_label(text)))


def result(text: str) -> None:
  """Shows lines on stdout, for which a program was started.

  A reader that is gone has seen enough. Lines are not shortened here.

  Raises:
    OSError: stdout took less, for another reason.
  """
  stream = best_effort(sys.stdout)
  stream.write(_lines(text, max(len(text), 1)))
  failure = stream.failure
  if isinstance(failure, OSError) and failure.errno not in _READER_GONE:
    raise OSError(failure.errno, failure.strerror or str(failure), 'standard output')


@contextlib.contextmanager
def streams_of_a_program() -> Iterator[None]:
  """Makes stdout and stderr streams that cannot fail, for all code in this context.

  At its end nothing is left in them that could fail when the interpreter ends.
  """
  before = sys.stdout, sys.stderr
  sys.stdout, sys.stderr = best_effort(sys.stdout), best_effort(sys.stderr, waits=False)
  try:
    yield
  finally:
    sys.stdout, sys.stderr = before
    for stream in before:
      _drain(stream)


def _drain(stream: Any) -> None:
  """Flushes a stream; sends the rest to nowhere where it fails."""
  try:
    stream.flush()
  except Exception:
    with contextlib.suppress(Exception):
      nowhere = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nowhere, stream.fileno())
      os.close(nowhere)


def open_descriptors() -> None:
  """Opens the descriptors 0, 1 and 2 where the parent has closed them.

  A file of a run would get the free number otherwise, and messages would be written into it.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      nowhere = os.open(os.devnull, os.O_RDWR)
      if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
  for name, number in (('stdout', 1), ('stderr', 2)):
    if getattr(sys, name) is None:
      setattr(sys, name, open(number, 'w', encoding='utf-8', closefd=False))  # noqa: SIM115
