"""The loop on the host that every run goes through: chunks of steps, epochs, checkpoints, stops."""

import contextlib
import logging
import math
import time
from typing import NamedTuple

import jax
import numpy as np

from stretchnas_jax.machine import leaves, parallel
from stretchnas_jax.runs import checkpoint, json_files, metrics, signals
from stretchnas_jax.runs import workdir as workdir_lib

# A call is cut short where its steps would last longer: a request to stop waits for its end.
SECONDS_PER_CALL = 5.0


class Settings(NamedTuple):
  """How a run goes along."""

  epochs: int
  steps_per_epoch: int
  batch_size: int
  steps_per_call: int  # steps that run at most before the host looks at the result
  every_steps: int  # between checkpoints; 0: after every epoch
  backend: str
  tensorboard: bool

  @property
  def num_steps(self):
    return self.steps_per_epoch * self.epochs


class Loop:
  """A run under way in its folder.

  Attributes:
    step: how many steps are done.
    position: a `steps.Position`.
    seconds: that steps and evaluations have taken, those before a resumption included.
    progress: the console.
  """

  def __init__(
    self, folder, checkpoints, settings, identity, line_files=('metrics.jsonl',), called=None
  ):
    """Takes what it works in and on.

    Args:
      folder: a `Workdir`.
      checkpoints: a `Checkpoints`.
      settings: a `Settings`.
      identity: what the checkpoints are of, a dict that JSON can hold, kept in each of them; see
        `check_resumable`.
      line_files: names of the files of lines that are cut back when the run resumes.
      called: a set of names of programs that have been called before, of an earlier run.
    """
    self.folder, self.checkpoints, self.settings = folder, checkpoints, settings
    self.identity = json_files.plain(identity)
    self.lines = {name: folder.lines(name) for name in line_files}
    self.step, self.position, self.seconds, self._epoch_seconds = 0, None, 0.0, 0.0
    self._last, self._step_seconds = None, None
    self._compiled = set() if called is None else called

  def restore(self, position):
    """Starts from the newest checkpoint, or from `position`; what came after it is cut away."""
    restored = self.checkpoints.restore_latest(position, self.identity)
    self.step, position, meta = restored or (0, position, {})
    self.position = parallel.replicate(position, self.settings.backend)
    self.seconds = meta.get('seconds', 0.0)
    self._epoch_seconds = meta.get('epoch_seconds', 0.0)
    for lines in self.lines.values():
      lines.cut_back(self.step)
    self._check_lines()
    writers = [metrics.JsonLines(self.lines['metrics.jsonl'])]
    if self.settings.tensorboard and self.folder.writes:
      writers.append(metrics.TensorBoard(self.folder.path / 'tensorboard', self.step))
    self._writer = metrics.Writers(*writers)

  def _check_lines(self):
    """Says which epochs before a resumption have left no line."""
    path, epochs = self.lines['metrics.jsonl'].path, self.step // self.settings.steps_per_epoch
    known = {line.get('epoch') for line in json_files.read_lines(path)}
    if gaps := [epoch for epoch in range(1, epochs + 1) if epoch not in known]:
      logging.warning('%s lacks epochs %s of those that are done', path, gaps)
      if self.step == self.settings.num_steps and gaps[-1] == epochs:
        raise workdir_lib.Refused(f'{path} lacks the last epoch of a run that is done; put it back')

  def run(self, feed, train, end_epoch):
    """Runs to the end.

    Args:
      feed: a feed of learning.
      train: `(position, chunk, count) -> position`, see `steps.run_chunk`.
      end_epoch: `(state, line) -> (more, shown)`: measures at the end of an epoch, whose line of
        metrics `line` is so far; gives what is to be added to it and what the console shows.

    Raises:
      signals.Stopped: a signal asked for it; the state is saved.
      FloatingPointError: a loss, or something in the state, is not finite; the last checkpoint is
        from before.
      checkpoint.SaveFailed: a checkpoint was not saved; the one before it stays.
    """
    settings = self.settings
    self.progress = metrics.Progress(
      settings.num_steps, settings.steps_per_epoch, settings.batch_size, start_step=self.step,
      enabled=self.folder.writes,
    )  # fmt: skip
    if self.step:
      self.progress.message(f'resumed at step {self.step} of {settings.num_steps}')
    when = b'the steps under way' if jax.process_count() == 1 else b'the next checkpoint'
    with signals.stop_requests(when) as request, self.progress:
      while self.step < settings.num_steps:
        self.advance(feed, train, end_epoch)
        number = self._asked(request)
        if number and self.step < settings.num_steps:
          self._stop(number)
    self._writer.close()

  def _asked(self, request):
    """The signal by which a run is to stop now, or 0."""
    if jax.process_count() == 1:
      return request.number or 0
    # One process of several cannot stop alone, and they ask each other where all of them come by.
    return parallel.largest(request.number or 0) if self._saves_here() else 0

  def advance(self, feed, train, end_epoch):
    """Some steps, up to the next call, checkpoint or end of an epoch, and what is due then."""
    per_epoch = self.settings.steps_per_epoch
    epoch, done = divmod(self.step, per_epoch)
    count, first = self._count(done), 'the step' not in self._compiled
    begin = time.perf_counter()
    chunk = feed.chunk(epoch, done, count, min(self.settings.steps_per_call, per_epoch))
    with self.compiling('the step', steps_inside=True):
      self.position = train(self.position, chunk, count)
      loss = float(self.position.sums['train_loss']) / (done + count)  # waits for the steps
    seconds = time.perf_counter() - begin
    self._step_seconds = None if first else seconds / count
    self.step += count
    check_finite('train_loss', loss, f'{self._after(done)} to {self.step}')
    self.seconds += seconds
    self._epoch_seconds += seconds
    if self.step % per_epoch:
      self.progress.update(self.step, loss=loss)
    else:
      self._end_epoch(end_epoch)
    if self._saves_here():
      self._save()

  def _saves_here(self):
    every = self.settings.every_steps
    return not self.step % self.settings.steps_per_epoch or bool(every and not self.step % every)

  def compiling(self, what, steps_inside=False):
    """The first call of a program says that it compiles."""
    if what in self._compiled:
      return contextlib.nullcontext()
    self._compiled.add(what)
    return self.progress.compiling(what, steps_inside)

  def tell_memory(self, program, *args):
    """Says before the first step what memory it will take, as its compiler has it."""
    if 'memory' in self._compiled:
      return
    self._compiled.add('memory')
    if memory := program.memory(*args):
      mega = lambda size: f'{size / 2**20:,.0f} MB'
      self.progress.message(
        f'memory    {mega(memory.total)} on each device: {mega(memory.temporary)} for feature maps '
        f'and gradients, {mega(memory.arguments)} for images, weights and optimisers'
      )

  @property
  def last(self):
    """The line of the last epoch, also where that was before this start."""
    return self._last or json_files.read_lines(self.lines['metrics.jsonl'].path)[-1]

  def _count(self, done):
    """How many steps the next call has."""
    settings, known = self.settings, self._step_seconds
    count = min(settings.steps_per_call, settings.steps_per_epoch - done)
    if settings.every_steps:
      count = min(count, settings.every_steps - self.step % settings.every_steps)
    return min(count, max(1, int(SECONDS_PER_CALL / known)) if known else 1)

  def _end_epoch(self, end_epoch):
    """Measures and writes the line of the epoch; the sums begin anew."""
    begin, settings = time.perf_counter(), self.settings
    sums = parallel.fetch(self.position.sums)
    line = {'step': self.step, 'epoch': self.step // settings.steps_per_epoch}
    line |= {name: float(total) / settings.steps_per_epoch for name, total in sums.items()}
    more, shown = end_epoch(self.position.state, line)
    images = settings.steps_per_epoch * settings.batch_size
    clock = {
      'seconds': self._epoch_seconds,
      'images_per_second': images / self._epoch_seconds,
      'evaluation_seconds': time.perf_counter() - begin,
    }
    self.seconds += clock['evaluation_seconds']
    line |= {**more, **clock}
    for name, value in line.items():
      if name.endswith('_loss') and value is not None:
        check_finite(name, value, f'{self._after(0)} to {self.step}')
    self._writer.write_scalars(self.step, line)
    self.progress.update(self.step, loss=line['train_loss'], **shown)
    self._epoch_seconds, self._last = 0.0, line
    zeros = jax.tree.map(np.zeros_like, sums)
    self.position = self.position._replace(sums=parallel.replicate(zeros, settings.backend))

  def _after(self, done):
    """The step after the first `done` ones of the epoch that ends or goes on at `step`."""
    per_epoch = self.settings.steps_per_epoch
    return (self.step - 1) // per_epoch * per_epoch + done + 1

  def _save(self):
    for path, leaf in leaves.flatten(self.position).items():
      # A gradient spoils the weights one step before it spoils the loss.
      if not np.isfinite(np.asarray(leaves.raw(leaf))).all():
        check_finite(path.lstrip('.'), math.nan, str(self.step))
    clock = {'seconds': self.seconds, 'epoch_seconds': self._epoch_seconds}
    self.checkpoints.save(self.step, self.position, {**clock, 'identity': self.identity})

  def _stop(self, number):
    if self.step not in self.checkpoints.steps():
      self._save()
    self.checkpoints.wait()  # a save that fails must not be called saved
    raise signals.Stopped(
      f'stopped at step {self.step} of {self.settings.num_steps}, which is saved in '
      f'{self.folder.path}; the same command goes on from there',
      number,
    )


def check_resumable(folder, identity):
  """ValueError unless the checkpoints in a `Workdir`, if any, agree in `identity`."""
  path = folder.path / 'checkpoints'
  if not path.is_dir():
    return
  identity = json_files.plain(identity)
  with checkpoint.Checkpoints(path, read_only=True) as saved:
    others = [checkpoint.other_name(meta, identity) for _, meta in saved.metas()]
  # One of another run among those of this one is passed over later.
  if others and all(others):
    raise workdir_lib.Refused(
      f'the checkpoints in {path} are of a run with another {others[0]}: choose another workdir'
    )


def check_finite(name, value, steps):
  """Stops a run whose numbers have left the finite ones; the last checkpoint stays."""
  if not math.isfinite(value):
    group = next((g for g in ('alpha', 'beta') if f'.{g}' in name), 'weights')
    raise FloatingPointError(
      f'{name} is {value} after steps {steps}: a lower config.{group}.learning_rate is the likely '
      'remedy; the last checkpoint is from before'
    )
