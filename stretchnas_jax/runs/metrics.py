"""What a run says while it runs: a progress bar, lines of metrics, TensorBoard files.

A writer is anything with `write_scalars(step, scalars)` and `close()`.
"""

import contextlib
import datetime
import numbers
import sys
import time

import numpy as np
import tqdm


class Progress:
  """The console: a bar on a terminal, elsewhere one plain line for each epoch.

  On a terminal: `epoch 3/50 [######    ]  57%  loss 1.23  412 img/s  ETA 0:12:31`.
  """

  def __init__(
    self, total_steps, steps_per_epoch, images_per_step, start_step=0, enabled=True, stream=None
  ):
    """`stream` is stderr by default; a run that resumes has done `start_step` steps."""
    self._total, self._per_epoch, self._images = total_steps, steps_per_epoch, images_per_step
    self._stream, self._enabled = stream or sys.stderr, enabled
    self._step, self._told = start_step, start_step // steps_per_epoch
    # Time and steps since the start, but for compilation: what is left is reckoned from them.
    self._timed_seconds, self._timed_steps = 0.0, 0
    self._mark, self._compiling, self._rate, self._text = time.monotonic(), '', '', ''
    self._untimed = False  # whether the steps of the next update ran while something compiled
    self._bar = None
    if enabled and self._stream.isatty():
      self._bar = tqdm.tqdm(
        total=total_steps, initial=start_step, file=self._stream, dynamic_ncols=True,
        bar_format=self._format(), miniters=1,
      )  # fmt: skip

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  @contextlib.contextmanager
  def compiling(self, what='the step', steps_inside=False):
    """While this lasts the console says so, and the clock of the steps stands still.

    With `steps_inside`, as for the first call of a jitted function, the steps of the next update
    ran in here and count for no rate.
    """
    begin, self._compiling = time.monotonic(), f'compiling {what} ...'
    self._show(self._compiling)
    try:
      yield
    finally:
      now, self._compiling = time.monotonic(), ''
      lasted, self._mark = now - begin, min(now, self._mark + now - begin)
      self._untimed = self._untimed or steps_inside
    self._show(f'compiled {what} in {lasted:.1f} s')

  def update(self, step, **scalars):
    """`step` steps are done. At the end of an epoch call it once, with all there is to say."""
    now, done = time.monotonic(), step - self._step
    if done > 0 and not self._compiling and not self._untimed:
      seconds = max(now - self._mark, 1e-9)
      self._timed_seconds, self._timed_steps = (
        self._timed_seconds + seconds,
        self._timed_steps + done,
      )
      self._rate = f'{done * self._images / seconds:.0f} img/s'
    self._step, self._mark, self._untimed = step, now, self._untimed and not done
    self._text = '  '.join(f'{name} {short(value)}' for name, value in scalars.items())
    if self._bar is not None:
      self._draw()
    elif self._enabled and step // self._per_epoch > self._told:
      parts = (self._epoch(), self._text, self._rate, self._left())
      print('  '.join(filter(None, parts)), file=self._stream, flush=True)
    self._told = max(self._told, step // self._per_epoch)

  def message(self, text):
    """A line of its own, above the bar."""
    if self._bar is not None:
      self._bar.write(text, file=self._stream)
    elif self._enabled:
      print(text, file=self._stream, flush=True)

  def close(self):
    """Leaves the bar as it is; a second call does nothing."""
    if self._bar is not None:
      self._bar.close()
      self._bar = None

  def _show(self, text):
    if self._bar is not None:
      self._draw()
    else:
      self.message(text)

  def _draw(self):
    self._bar.bar_format = self._format()
    self._bar.n = self._step
    self._bar.refresh()

  def _format(self):
    """The line with tqdm's places for the bar and the percentage."""
    if self._compiling:
      right = self._compiling
    else:
      right = '  '.join(filter(None, (self._text, self._rate, self._left())))
    escaped = right.replace('{', '{{').replace('}', '}}')
    return f'{self._epoch()} [{{bar}}] {{percentage:3.0f}}%  {escaped}'

  def _epoch(self):
    """The epoch under way, or the one that has just ended."""
    epochs = -(-self._total // self._per_epoch)
    return f'epoch {min(max(-(-self._step // self._per_epoch), 1), epochs)}/{epochs}'

  def _left(self):
    if not self._timed_steps:
      return ''
    seconds = self._timed_seconds / self._timed_steps * (self._total - self._step)
    return f'ETA {datetime.timedelta(seconds=round(seconds))}'


def short(value):
  """A number in a few characters."""
  if isinstance(value, (str, numbers.Integral)):
    return str(value)
  return f'{float(value):.4g}'


# ---- writers -------------------------------------------------------------------------------------


class JsonLines:
  """Writes scalars as lines of a `workdir.Lines`."""

  def __init__(self, lines):
    self._lines = lines

  def write_scalars(self, step, scalars):
    self._lines.append({'step': step, **scalars})

  def close(self):
    """Nothing to do: each line is on its way to the disk when it has been written."""


class TensorBoard:
  """Writes scalars as TensorBoard files, through tensorboardX."""

  def __init__(self, folder, start_step=0):
    """What an earlier start has written after `start_step` is hidden.

    Raises:
      ValueError: tensorboardX is not installed.
    """
    try:
      import tensorboardX  # here: it is an extra
    except ImportError as error:
      raise ValueError(
        'log.tensorboard is True, which needs tensorboardX: '
        "pip install 'stretchnas_jax[tensorboard]', or set it to False"
      ) from error
    self._writer = tensorboardX.SummaryWriter(str(folder), purge_step=start_step + 1)

  def write_scalars(self, step, scalars):
    for name, value in scalars.items():
      if value is not None and not isinstance(value, str) and np.ndim(value) == 0:
        self._writer.add_scalar(name, float(value), step)
    self._writer.flush()

  def close(self):
    self._writer.close()


class Writers:
  """Several writers as one."""

  def __init__(self, *writers):
    self._writers = writers

  def write_scalars(self, step, scalars):
    for writer in self._writers:
      writer.write_scalars(step, scalars)

  def close(self):
    for writer in self._writers:
      writer.close()
