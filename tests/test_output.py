"""Everything that is said goes through one place, which cannot fail."""

import errno
import io
import logging
import os
import pathlib
import subprocess
import sys
import warnings

import pytest

from stretchnas_jax.cli import console
from stretchnas_jax.machine import output
from stretchnas_jax.runs import metrics
from stretchnas_jax.runs.settings import Epochs, Span


class Broken(io.StringIO):
  """A stream whose writes fail."""

  def __init__(self, error):
    super().__init__()
    self.error = error

  def write(self, text):
    raise self.error


class Terminal(io.StringIO):
  """A stream that is a terminal."""

  def isatty(self):
    return True


FAILURES = [
  BrokenPipeError(errno.EPIPE, 'gone'),
  OSError(errno.EIO, 'no terminal'),
  OSError(errno.ENOSPC, 'full'),
  ValueError('I/O operation on closed file'),
  KeyError('anything'),
  None,
]


@pytest.fixture
def stderr(monkeypatch):
  """Puts a stream in the place of stderr."""
  return lambda stream: monkeypatch.setattr(sys, 'stderr', stream)


def broken(error):
  """A stream that fails with an error; None for no stream."""
  return None if error is None else Broken(error)


@pytest.mark.parametrize('error', FAILURES, ids=repr)
def test_nothing_that_is_said_can_fail(error, monkeypatch):
  for name in ('stdout', 'stderr'):
    monkeypatch.setattr(sys, name, broken(error))
  output.say('a\nb')
  output.remark('c')
  with metrics.Progress(2, Epochs([Span(2, 1)]), 1) as progress, progress.compiling():
    progress.update(1, loss=1.0)


@pytest.mark.parametrize('error', FAILURES, ids=repr)
def test_a_bar_on_a_terminal_that_is_gone_does_not_stop_a_run(error, stderr):
  terminal = Terminal()
  stderr(terminal)
  with metrics.Progress(2, Epochs([Span(2, 1)]), 1) as progress:
    if error is not None:
      terminal.write = Broken(error).write
    progress.update(1, loss=1.0)
    output.say('a line')
    progress.update(2, loss=1.0)


@pytest.mark.parametrize('error', FAILURES, ids=repr)
def test_all_code_of_a_program_writes_to_streams_that_cannot_fail(error, monkeypatch, root_logger):
  before = broken(error)
  for name in ('stdout', 'stderr'):
    monkeypatch.setattr(sys, name, before)
  with warnings.catch_warnings(), console.of_a_program():
    warnings.simplefilter('always')
    print('of a library')
    print('of a library', file=sys.stderr, flush=True)
    logging.warning('of a log')
    warnings.warn('of a warning', stacklevel=1)
  assert sys.stdout is before and sys.stderr is before


def test_a_result_that_is_not_written_is_an_error_and_a_reader_that_is_gone_is_none(monkeypatch):
  for error, lost in ((FAILURES[0], False), (FAILURES[2], True), (FAILURES[1], True)):
    monkeypatch.setattr(sys, 'stdout', Broken(error))
    if lost:
      with pytest.raises(OSError, match='standard output'):
        output.result('{}')
    else:
      output.result('{}')


@pytest.mark.parametrize(
  'text, shown',
  [
    ('plain ± ü 中', 'plain ± ü 中'),
    ('\x1b[31mred\x1b]0;title\x07', '\\x1b[31mred\\x1b]0;title\\x07'),
    ('a\nerror: b\r\tc', 'a\\nerror: b\\r\\tc'),
    ('\x9b31m\x85', '\\x9b31m\\x85'),
    ('gpj.\u202egnp\u2066\u200f', 'gpj.\\u202egnp\\u2066\\u200f'),
    ('\u2028\ufeff\x00\udcff', '\\u2028\\ufeff\\x00\\udcff'),
  ],
)
def test_control_sequences_are_escaped(text, shown, stderr):
  assert output.printable(text) == shown and shown.isprintable()
  stream = io.StringIO()
  stderr(stream)
  output.say(text.replace('\n', ' '))
  assert stream.getvalue() == shown.replace('\\n', ' ') + '\n'


def test_long_texts_are_shortened(stderr):
  for character in ('x', '\x1b', '\n'):
    text = output.printable('begin' + character * 20_000_000 + 'end')
    assert len(text) <= 2000 and text.startswith('begin') and text.endswith('end')
    assert '(20000008 characters)' in text
    stream = io.StringIO()
    stderr(stream)
    output.say(character * 20_000_000)
    assert len(stream.getvalue()) <= 200_001


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_a_narrow_encoding_is_no_error(encoding, monkeypatch):
  raw = io.BytesIO()
  monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(raw, encoding=encoding))
  output.result('± 中')
  shown = raw.getvalue().decode(encoding)
  assert shown in ('± 中\n', '± \\u4e2d\n', '\\xb1 \\u4e2d\n')


def test_a_log_line_is_one_line_whatever_its_names_hold(capsys, root_logger):
  root_logger.handlers.clear()  # pytest's own raises errors
  with console.of_a_program():
    logging.warning('%s is not used', 'a\n12:00:00 error: b\x1b[2J')
    logging.warning('%d', 'no number')
  first, second = capsys.readouterr().err.splitlines()
  assert first.endswith('warning: a 12:00:00 error: b\\x1b[2J is not used')
  assert 'a message cannot be shown' in second


def test_a_reader_that_reads_nothing_holds_nothing_up(monkeypatch):
  monkeypatch.setattr(output, '_PATIENCE', 0.05)
  read, write = os.pipe()
  with os.fdopen(write, 'w') as stream:
    slow = output.BestEffort(stream, waits=False)
    for _ in range(300):
      slow.write('x' * 999 + '\n')
    os.set_blocking(read, False)
    taken = os.read(read, 10**7)
    assert 4096 <= len(taken) < 300_000
    slow.write('again\n')
    assert os.read(read, 100) == b'again\n'
  os.close(read)


CLOSED = """
import contextlib, importlib.util, os, sys
spec = importlib.util.spec_from_file_location('output', {path!r})
output = importlib.util.module_from_spec(spec)
spec.loader.exec_module(output)
output.open_descriptors()
with open('file', 'w') as file:
  assert file.fileno() > 2
  with contextlib.suppress(OSError):
    os.write(2, b'from C')
  with output.streams_of_a_program():
    print('from Python'), output.say('said'), output.urgent('said')
assert not os.path.getsize('file')
"""


@pytest.mark.parametrize('closed', ['2>&-', '>&-', '2>&- >&- <&-', '>/dev/full 2>/dev/full'])
def test_descriptors_that_the_parent_has_closed_become_no_file_of_a_run(tmp_path, closed):
  (tmp_path / 'program.py').write_text(CLOSED.format(path=str(pathlib.Path(output.__file__))))
  done = subprocess.run(
    ['sh', '-c', f'exec {sys.executable} -I program.py {closed}'], cwd=tmp_path, capture_output=True
  )
  assert done.returncode == 0 and b'Traceback' not in done.stderr, done.stderr
