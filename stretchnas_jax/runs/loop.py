"""The loop on the host that every run goes through: chunks of steps, epochs, checkpoints, stops."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from stretchnas_jax.machine import parallel, stopping
from stretchnas_jax.runs import checkpoint, finite, json_files, metrics, steps
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.runs.settings import Settings

# A call is cut short where its steps would last longer: a request to stop waits for its end.
_SECONDS_PER_CALL = 5.0

OnEpoch = Callable[[dict, Any], Any]
_EndEpoch = Callable[[Any, dict], tuple[dict, dict]]
_Like = Callable[[int, dict], PyTree]


class Loop:
  """A run under way in its folder.

  Attributes:
    step: how many steps are done.
    position: a `steps.Position`.
    seconds: that steps and evaluations took, before a resumption too.
    progress: the console.
    lines: by name, the files of JSON lines.
    facts: of the present phase, which each checkpoint keeps; JSON can hold them.
    finished: whether the run is to end here, before its last step, as one that is done.
  """

  def __init__(
    self,
    folder: workdir_lib.Workdir,
    checkpoints: checkpoint.Checkpoints,
    settings: Settings,
    identity: dict,
    line_files: Sequence[str] = ('metrics.jsonl',),
    on_epoch: OnEpoch | None = None,
    also: dict | None = None,
  ) -> None:
    """Binds its parts.

    Args:
      folder: of the run.
      checkpoints: in that folder.
      settings: how it goes along.
      identity: the facts in which a checkpoint must agree, kept in each checkpoint.
      line_files: files of JSON lines that are cut back when the run resumes.
      on_epoch: called with the line of metrics and the state after each epoch; True stops the run.
      also: further facts in which a checkpoint of an earlier version must agree.
    """
    self.folder, self.checkpoints, self.settings = folder, checkpoints, settings
    self.identity, self.on_epoch = json_files.plain(identity), on_epoch
    self._also = also or {}
    self.lines = {name: folder.lines(name) for name in line_files}
    self.step, self.position, self.seconds, self._epoch_seconds = 0, None, 0.0, 0.0
    self._last, self._step_seconds, self._request = None, None, stopping.Request()
    self._epochs, self.facts, self.finished = settings.places, {}, False

  def restore(self, position: steps.Position, like: _Like | None = None) -> dict:
    """Starts from the newest checkpoint, or from `position`; cuts away later lines.

    Args:
      position: before the first step.
      like: from the step and the meta of a checkpoint to a position of the same leaves; None where
        all positions of the run have the leaves of the first one.

    Returns:
      The meta of that checkpoint; empty where there is none.
    """
    identity = self.identity | self._also
    restored = self.checkpoints.restore_latest(like or position, identity)
    self.step, position, meta = restored or (0, position, {})
    self.position = self.settings.devices.replicate(position)
    self.seconds, self._last = meta.get('seconds', 0.0), meta.get('last')
    self._epoch_seconds = meta.get('epoch_seconds', 0.0)
    for lines in self.lines.values():
      lines.cut_back(self.step)
    self._check_lines(meta.get('lines', {}))
    self._writers = [metrics.JsonLines(self.lines['metrics.jsonl'])]
    if self.settings.tensorboard and self.folder.writes:
      self._writers.append(metrics.TensorBoard(self.folder.path / 'tensorboard', self.step))
    return meta

  def _check_lines(self, checksums: dict) -> None:
    """Says which files of lines have changed, and which epochs have left no line.

    Args:
      checksums: by name of a file, as the checkpoint keeps them; versions before 0.2 kept none.
    """
    for name, checksum in checksums.items():
      if self.folder.writes and name in self.lines and self.lines[name].checksum() != checksum:
        logging.warning(
          '%s is not as this run wrote it; the result comes from the checkpoint',
          self.lines[name].path,
        )
    path, epochs = self.lines['metrics.jsonl'].path, self.epochs_done
    known = {line.get('epoch') for line in json_files.read_lines(path)}
    if gaps := [epoch for epoch in range(1, epochs + 1) if epoch not in known]:
      logging.warning('%s lacks epochs %s of those that are done', path, gaps)
      if self._last is None and self.step == self.settings.num_steps and gaps[-1] == epochs:
        raise workdir_lib.Refused(f'{path} lacks the last epoch of a run that is done; put it back')

  @property
  def epochs_done(self) -> int:
    """The number of whole epochs so far."""
    return self._epochs.done(self.step)

  def run(
    self,
    work: steps.Work,
    end_epoch: _EndEpoch,
    borders: Mapping[int, Callable[[], steps.Work]] | None = None,
  ) -> bool:
    """Runs to the end; returns False where `on_epoch` stopped the run.

    Args:
      work: the steps of the present phase.
      end_epoch: `(state, line) -> (more, shown)`: measures at the end of an epoch. `line` is the
        epoch's line of metrics so far, `more` joins it, and the console shows `shown`.
      borders: by the number of steps before a phase, a function that begins the phase. It puts a
        new position into the loop, and returns the steps of the phase.

    Raises:
      stopping.Stopped: a signal asked for it; the state is saved.
      FloatingPointError: a loss, or a number of the state, is not finite; the last checkpoint is
        from before.
      checkpoint.SaveFailed: a checkpoint was not saved; the one before it stays.
    """
    settings = self.settings
    self.progress = metrics.Progress(
      settings.num_steps, self._epochs, settings.batch_size, start_step=self.step,
      enabled=self.folder.writes,
    )  # fmt: skip
    if self.step:
      self.progress.message(f'resumed at step {self.step} of {settings.num_steps}')
    stopped = False
    with stopping.requests(shared=jax.process_count() > 1) as self._request, self.progress:
      while self.step < settings.num_steps and not stopped and not self.finished:
        self._stop_if_asked()
        if begin := (borders or {}).get(self.step):
          work = begin()
        stopped = self.advance(work, end_epoch)
      self.checkpoints.wait()  # from here on a stop loses nothing
    for writer in self._writers:
      writer.close()
    return not stopped

  def _stop_if_asked(self) -> None:
    number = self._request.number or 0
    if jax.process_count() > 1:
      # One process of several cannot stop alone. They ask each other where all of them come by.
      number = parallel.largest(number) if self._saves_here() else 0
    if number:
      self._stop(number)

  def advance(self, work: steps.Work, end_epoch: _EndEpoch) -> bool:
    """Runs steps up to the next call, checkpoint or epoch's end; True where the run is to stop."""
    epoch, done, per_epoch = self._epochs.place(self.step)
    count, first = self._count(done, per_epoch), not work.program.called
    begin = time.perf_counter()
    chunk = work.feed.chunk(epoch, done, count, self.settings.longest_call)
    with self.compiling(work.program, 'the step', steps_inside=True):
      before = self._tell_memory if first else None
      self.position = work.advance(self.position, chunk, count, before)
      loss = float(self.position.sums['train_loss']) / (done + count)  # waits for the steps
      self._request.unsaved = True
    seconds = time.perf_counter() - begin
    self._step_seconds = None if first else seconds / count
    self.step += count
    finite.check('train_loss', loss, f'{self._after(done)} to {self.step}')
    self.seconds += seconds
    self._epoch_seconds += seconds
    line = self._end_epoch(end_epoch, per_epoch) if done + count == per_epoch else None
    if line is None:
      self.progress.update(self.step, loss=loss)
    if self._saves_here():
      self._save()
    return line is not None and self._is_enough(line)

  def _is_enough(self, line: dict) -> bool:
    """Calls `on_epoch`; True where it ends the run before its last step."""
    if self.on_epoch is None:
      return False
    self.checkpoints.wait()
    enough = bool(self.on_epoch(dict(line), self.position.state))
    if jax.process_count() > 1:
      enough = bool(parallel.largest(int(enough)))
    if not enough or self.finished or self.step == self.settings.num_steps:
      return False
    self.progress.message(
      f'stopped by on_epoch after epoch {line["epoch"]}; the same call goes on from there'
    )
    return True

  def _saves_here(self) -> bool:
    every = self.settings.every_steps
    return not self._epochs.place(self.step)[1] or bool(every and not self.step % every)

  def compiling(
    self, program: Any, name: str, steps_inside: bool = False
  ) -> contextlib.AbstractContextManager:
    """Returns a context that says that a program compiles, at its first call.

    Args:
      program: the program.
      name: as the sentence names it.
      steps_inside: steps of the run are made inside.
    """
    if program.called:
      return contextlib.nullcontext()
    return self.progress.compiling(name, steps_inside)

  def _tell_memory(self, program: Any, *args: PyTree) -> None:
    """Says before the first step how much memory it will take, by its compiler."""
    if memory := program.memory(*args):
      mega = lambda size: f'{size / 2**20:,.0f} MB'
      self.progress.message(
        f'memory    {mega(memory.total)} on each device: {mega(memory.temporary)} for feature maps '
        f'and gradients, {mega(memory.arguments)} for images, weights and optimizers'
      )

  @property
  def last(self) -> dict:
    """The line of the last epoch, also from before this start."""
    return self._last or json_files.read_lines(self.lines['metrics.jsonl'].path)[-1]

  def _count(self, done: int, per_epoch: int) -> int:
    """Returns the number of steps of the next call."""
    settings, known = self.settings, self._step_seconds
    count = min(settings.steps_per_call, per_epoch - done)
    if settings.every_steps:
      count = min(count, settings.every_steps - self.step % settings.every_steps)
    return min(count, max(1, int(_SECONDS_PER_CALL / known)) if known else 1)

  def _end_epoch(self, end_epoch: _EndEpoch, per_epoch: int) -> dict:
    """Measures, writes and returns the line of the epoch; the sums start from zero again."""
    begin, settings = time.perf_counter(), self.settings
    sums = settings.devices.fetch(self.position.sums)
    line = {'step': self.step, 'epoch': self.epochs_done}
    line |= {name: float(total) / per_epoch for name, total in sums.items()}
    more, shown = end_epoch(self.position.state, line)
    images = per_epoch * settings.batch_size
    clock = {
      'seconds': self._epoch_seconds,
      'images_per_second': images / self._epoch_seconds,
      'evaluation_seconds': time.perf_counter() - begin,
    }
    self.seconds += clock['evaluation_seconds']
    line |= {**more, **clock}
    for name, value in line.items():
      if name.endswith('_loss') and value is not None:
        finite.check(name, value, f'{self._after(0)} to {self.step}')
    for writer in self._writers:
      writer.write_scalars(self.step, line)
    self.progress.update(self.step, loss=line['train_loss'], **shown)
    self._epoch_seconds, self._last = 0.0, line
    zeros = jax.tree.map(np.zeros_like, sums)
    self.position = self.position._replace(sums=settings.devices.replicate(zeros))
    return line

  def _after(self, done: int) -> int:
    """Returns the step after the first `done` steps of the present epoch."""
    before = self.step - 1
    return before - self._epochs.place(before)[1] + done + 1

  def _save(self) -> None:
    finite.check_tree(self.position, str(self.step))
    clock = {'seconds': self.seconds, 'epoch_seconds': self._epoch_seconds}
    kept = {
      'identity': self.identity,
      'lines': {name: lines.checksum() for name, lines in self.lines.items()},
      'last': json_files.plain(self._last),
      **self.facts,
    }
    self.checkpoints.save(self.step, self.position, {**clock, **kept})

  def _stop(self, number: int) -> None:
    if not self.step:
      raise stopping.Stopped('stopped before the first step', number)
    if self.step not in self.checkpoints.steps():
      self._save()
    self.checkpoints.wait()  # a save that fails must not be called saved
    raise stopping.Stopped(
      f'stopped at step {self.step} of {self.settings.num_steps}, which is saved in '
      f'{self.folder.path}; the same command goes on from there',
      number,
    )
