"""The output of a run while it runs: a progress bar, lines of metrics, TensorBoard files.

A writer is any object with `write_scalars(step, scalars)` and `close()`.
"""

import contextlib
import datetime
import io
import numbers
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tqdm

from stretchnas_jax.machine import output
from stretchnas_jax.runs import json_files
from stretchnas_jax.runs.settings import Epochs


class Row(NamedTuple):
  """A row of the table of epochs.

  Attributes:
    header: the names of its columns.
    text: its numbers below them.
    remarks: lines that follow.
  """

  header: str
  text: str
  remarks: Sequence[str] = ()


class Progress:
  """The console: a row an epoch, and on a terminal a bar below the rows.

  The bar: `epoch 3/50 [######    ]  57%  loss 1.23  412 img/s  ETA 0:12:31`.
  """

  def __init__(
    self,
    total_steps: int,
    epochs: Epochs,
    images_per_step: int,
    start_step: int = 0,
    enabled: bool = True,
    stream: io.TextIOBase | None = None,
  ) -> None:
    """Starts at a step.

    Args:
      total_steps: of the whole run.
      epochs: of the whole run.
      images_per_step: the batch size.
      start_step: how many steps a run that resumes has done.
      enabled: whether anything is written.
      stream: where to; by default stderr.
    """
    self._total = total_steps
    self._epochs = epochs
    self._images = images_per_step
    self._stream = output.errors() if stream is None else output.best_effort(stream)
    self._enabled = enabled
    self._step = start_step
    self._shown_epochs = self._epochs.done(start_step)
    # Steps and their seconds in this process, without compilation, from which the rest is guessed.
    self._timed_seconds = 0.0
    self._timed_steps = 0
    self._mark = time.monotonic()
    self._compiling = ''
    self._rate = ''
    self._text = ''
    self._untimed = False  # whether a program was compiled in the time of the next update
    self._has_header = False
    self._bar = None
    # Runs beside each other, which have labels, would overwrite each other's bars.
    shows_bar = self._stream.isatty() and not self._stream.has_no_columns()
    if enabled and shows_bar and not output.label():
      self._bar = tqdm.tqdm(
        total=total_steps, initial=start_step, file=self._stream, dynamic_ncols=True,
        bar_format=self._format(), miniters=1,
      )  # fmt: skip

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  @contextlib.contextmanager
  def compiling(self, name: str = 'the step', steps_inside: bool = False) -> Iterator[None]:
    """Says that something compiles, and stops the clock of the steps meanwhile.

    Args:
      name: of the program, for the sentence.
      steps_inside: whether the steps of the next update run in this context, as in the first call
        of a jitted function. They do not count for the rate.
    """
    begin = time.monotonic()
    self._compiling = f'compiling {name} ...'
    self._show(self._compiling)
    try:
      yield
    finally:
      now = time.monotonic()
      self._compiling = ''
      seconds = now - begin
      self._mark = min(now, self._mark + seconds)
      self._untimed = self._untimed or steps_inside
    self._show(f'compiled {name} in {seconds:.1f} s')

  def update(self, step: int, row: Row | None = None, **scalars: Any) -> None:
    """Shows the state after `step` steps; at the end of an epoch it is called once.

    Args:
      step: how many steps are done.
      row: of the epoch that has ended; images a second and the time left are added. None: a plain
        line, where there is no bar.
      **scalars: numbers or texts that are shown by name.
    """
    now, done = time.monotonic(), step - self._step
    if done > 0 and not self._compiling and not self._untimed:
      seconds = max(now - self._mark, 1e-9)
      self._timed_seconds += seconds
      self._timed_steps += done
      self._rate = f'{done * self._images / seconds:.0f} img/s'
    self._untimed = self._untimed and not done
    self._step = step
    self._mark = now
    self._text = '  '.join(f'{name} {_short(value)}' for name, value in scalars.items())
    epochs = self._epochs.done(step)
    if row is not None:
      self._tell(row)
    if self._bar is not None:
      self._draw()
    elif row is None and self._enabled and epochs > self._shown_epochs:
      parts = (self._epoch(), self._text, self._rate, self._left())
      self.message('  '.join(filter(None, parts)))
    self._shown_epochs = max(self._shown_epochs, epochs)

  def _tell(self, row: Row) -> None:
    """Shows a row, and the header before the first one."""
    clock = ' {:>8} {:>9}'.format
    if not self._has_header:
      self.message(f'{row.header}{clock("img/s", "ETA")}')
    self._has_header = True
    rate, left = self._rate.removesuffix(' img/s'), self._left().removeprefix('ETA ')
    self.message(f'{row.text}{clock(rate, left)}'.rstrip())
    for remark in row.remarks:
      self.message(remark)

  def message(self, text: str) -> None:
    """Writes a line of its own, above the bar."""
    if self._enabled:
      output.say(text, self._stream)

  def close(self) -> None:
    """Leaves the bar as it is; a second call does nothing."""
    if self._bar is not None:
      self._bar.close()
      self._bar = None

  def _show(self, text: str) -> None:
    if self._bar is not None:
      self._draw()
    else:
      self.message(text)

  def _draw(self) -> None:
    self._bar.bar_format = self._format()
    self._bar.n = self._step
    self._bar.refresh()

  def _format(self) -> str:
    """Returns the line, with tqdm's places for the bar and the percentage."""
    parts = (self._compiling,) if self._compiling else (self._text, self._rate, self._left())
    right = '  '.join(filter(None, parts)).replace('{', '{{').replace('}', '}}')
    return f'{self._epoch()} [{{bar}}] {{percentage:3.0f}}%  {right}'

  def _epoch(self) -> str:
    """Returns the number of the epoch under way, or of the one that has just ended."""
    return f'epoch {self._epochs.under_way(self._step)}/{len(self._epochs)}'

  def _left(self) -> str:
    """Returns the time that the remaining steps will take; '' while it is unknown."""
    if not self._timed_steps:
      return ''
    seconds = self._timed_seconds / self._timed_steps * (self._total - self._step)
    return f'ETA {datetime.timedelta(seconds=round(seconds))}'


def _short(value: Any) -> str:
  """Returns a number in a few characters."""
  if isinstance(value, (str, numbers.Integral)):
    return str(value)
  return f'{float(value):.4g}'


# ---- writers -------------------------------------------------------------------------------------


class JsonLines:
  """Writes scalars as JSON lines."""

  def __init__(self, lines: json_files.Lines) -> None:
    """Binds a file of lines."""
    self._lines = lines

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Appends one line.

    Args:
      step: after which the scalars were measured.
      scalars: numbers by their names.
    """
    self._lines.append({'step': step, **scalars})

  def close(self) -> None:
    """Does nothing, since each line is on the disk when it is written."""


class TensorBoard:
  """Writes scalars as TensorBoard files, through tensorboardX."""

  def __init__(self, folder: str | os.PathLike[str], start_step: int = 0) -> None:
    """Opens a new file.

    Args:
      folder: where the files are.
      start_step: figures of later steps, from an earlier start of this run, are hidden.

    Raises:
      ValueError: tensorboardX is not installed.
    """
    try:
      import tensorboardX  # here, since it is an extra
    except ImportError as error:
      raise ValueError(
        'log.tensorboard is True, which needs tensorboardX: '
        "pip install 'stretchnas_jax[tensorboard]', or set it to False"
      ) from error
    self._writer = tensorboardX.SummaryWriter(str(folder), purge_step=start_step + 1)

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes all values that are single numbers.

    Args:
      step: after which the scalars were measured.
      scalars: values by their names.
    """
    for name, value in scalars.items():
      if value is not None and not isinstance(value, str) and np.ndim(value) == 0:
        self._writer.add_scalar(name, float(value), step)
    self._writer.flush()

  def close(self) -> None:
    """Closes the file."""
    self._writer.close()
