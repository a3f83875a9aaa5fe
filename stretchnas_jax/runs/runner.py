"""The one path of every run: checks, folders, resumption, the loop, the result."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from stretchnas_jax import config as config_lib
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.machine import output, parallel
from stretchnas_jax.runs import checkpoint, identity, json_files, resuming, steps
from stretchnas_jax.runs import loop as loop_lib
from stretchnas_jax.runs import plan as plan_lib
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.runs.loop import OnEpoch
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.task import FREE, Plan, Programs, Start, Task
from stretchnas_jax.runs.walk import Walk


class Run:
  """One run at work in its folder.

  Attributes:
    plan: what it needs.
    folder: where it works.
    loop: its loop on the host.
    notes: sentences about the result, for its report.
    course: of a search, the facts of its epochs so far, see `screen`.
  """

  def __init__(
    self,
    task: Task,
    plan: Plan,
    folder: workdir_lib.Workdir,
    checkpoints: checkpoint.Checkpoints,
    programs: Programs,
    on_epoch: OnEpoch | None = None,
  ) -> None:
    """Binds its parts.

    Args:
      task: the kind of run.
      plan: what it needs.
      folder: where it works.
      checkpoints: the checkpoints in that folder.
      programs: the compiled parts, perhaps those of another seed.
      on_epoch: see `prepare`.
    """
    self.task, self.plan, self.folder = task, plan, folder
    self.checkpoints, self.notes, self.course = checkpoints, (), []
    self._walk = Walk(task, plan, programs)
    self.loop = loop_lib.Loop(
      folder,
      checkpoints,
      plan.settings,
      resuming.identity_of(plan, folder),
      task.line_files,
      on_epoch,
      also=resuming.old_identity_of(folder),
    )

  @property
  def now(self) -> Plan:
    """The plan of the phase at work; of a run of one phase, its plan."""
    return self._walk.stage.plan

  def go(self) -> dict | None:
    """Runs to the end; returns the result, or None where `on_epoch` stopped the run."""
    work = self._walk.restore(self.loop)
    self.task.begin(self)
    borders = self._walk.borders(self.loop, functools.partial(self.task.begin, self))
    if not self.loop.run(work, functools.partial(self.task.end_epoch, self), borders):
      return None
    result = self.task.result(self)
    self.checkpoints.close()
    # Last of all: this file marks the run as done.
    self.folder.write_json('result.json', result)
    write_page(self.folder, self.loop.seconds)
    self.loop.progress.message(self.task.report(self, result))
    return result

  def measure(self, part: str, state: Any, program: str | None = None) -> dict:
    """Returns loss, accuracies and count over a part of the data.

    Args:
      part: 'val' or 'test'.
      state: of the run, on the devices.
      program: another evaluation, which gets the images shuffled; None for that of the part.
    """
    feeds, settings, data = self.now.feeds, self.plan.settings, self._walk.data
    feed = getattr(feeds, part) if program is None else getattr(feeds, part).mixed()
    name = program or part
    evaluate = self._walk.stage.programs.evaluate[name]
    if part not in data:
      data[part] = settings.devices.place(feed.data, feeds.train.data, data['train'])
    with self.loop.compiling(evaluate, f'the evaluation ({name})'):
      return steps.measure(evaluate, state, data[part], feed, settings.steps_per_call)


def write_page(folder: workdir_lib.Workdir, seconds: float = 0.0) -> None:
  """Writes the page of a run, or of several.

  Args:
    folder: where they are.
    seconds: that the run took.
  """
  from stretchnas_jax.runs import report  # here, since a page of a training needs its runner

  if folder.writes:
    report.at_the_end(folder.path, seconds)


class Runner(NamedTuple):
  """Starts runs of one task.

  Attributes:
    task: the kind of run.
    argv: the command line, for the record.
    parts: the researcher's own objects.
    on_epoch: see `prepare`.
    start: see `prepare`.
  """

  task: Task
  argv: tuple[str, ...] = ()
  parts: Parts = Parts()
  on_epoch: OnEpoch | None = None
  start: Start | None = None

  def plan(self, config: ConfigDict, devices: parallel.Devices | None = None) -> Plan:
    """Returns the plan of a run.

    Args:
      config: of the run.
      devices: on which it runs; None for those of this job.
    """
    plan = self.task.plan(config, self.parts, devices=devices)
    if self.start is None:
      return plan
    fields = {**plan.fields, 'start_from': dict(self.start.facts)}
    return plan._replace(start=self.start, fields=fields)

  def prepare_one(self, config: ConfigDict, path: pathlib.Path) -> Callable[[], dict | None]:
    """Checks everything, the folder last; returns the function that runs.

    Args:
      config: of the run.
      path: the folder.
    """
    plan = self.plan(config)
    with contextlib.ExitStack() as until_work:
      until_work.enter_context(contextlib.closing(plan))
      identity.check_processes(plan.fields, identity.facts_of(plan.feeds.fingerprint))
      folder = until_work.enter_context(self.open(path, plan.fields, plan))
      if folder.finished:
        return functools.partial(self.finished_result, folder)
      resuming.check_folder(plan, folder)
      until_work.pop_all()
    return functools.partial(self.run, plan, folder)

  def run(
    self, plan: Plan, folder: workdir_lib.Workdir, programs: Programs | None = None
  ) -> dict | None:
    """Runs as planned, and closes the folder; returns the result, or None as `Run.go` does.

    Args:
      plan: of the run.
      folder: of the run.
      programs: the compiled parts, perhaps those of another seed.
    """
    keep, epochs = plan.config.checkpoint.keep, plan.config.checkpoint.keep_every_epochs
    stay = plan.settings.places.every(epochs)
    saved = checkpoint.Checkpoints(folder.path / 'checkpoints', keep, stay=stay)
    with folder, contextlib.closing(plan), saved:
      self.tell(plan, folder)
      plan.parts.keep(folder, plan.settings.steps_per_epoch)
      programs = programs or self.task.compile(plan)
      return Run(self.task, plan, folder, saved, programs, self.on_epoch).go()

  def tell(self, plan: Plan, folder: workdir_lib.Workdir) -> None:
    """Says what a run will do; a run beside others has nothing to add to what they all do.

    Args:
      plan: of the run.
      folder: of the run, or of several.
    """
    if folder.writes and not output.label():
      output.say(self.task.describe(plan))

  def finished_result(self, folder: workdir_lib.Workdir) -> dict:
    """Returns the result in the folder of a finished run, and says that it is finished."""
    output.remark(
      f'{folder.path} holds a finished {self.task.noun}; choose another --workdir for a new one'
    )
    return json_files.read_object(folder.path / 'result.json')

  def open(
    self, path: pathlib.Path, fields: dict, plan: Plan, free: Sequence[str] = FREE
  ) -> workdir_lib.Workdir:
    """Opens a folder in which an absent field counts as its default.

    Args:
      path: the folder.
      fields: the content of its `config.json`.
      plan: of the run, or of one of several.
      free: fields that may differ.
    """
    feeds = plan.feeds
    defaults = config_lib.when_absent(self.task.defaults()).to_dict()
    return workdir_lib.Workdir.open(
      path,
      fields,
      argv=self.argv,
      ignore=free,
      defaults=defaults,
      facts=identity.facts_of(feeds.fingerprint),
      data=plan_lib.data_facts(feeds),
    )


def prepare(
  task: Task,
  config: ConfigDict,
  workdir: pathlib.Path | str,
  seeds: Sequence[int] | None = None,
  *,
  argv: Sequence[str] = (),
  parts: Parts | dict | None = None,
  on_epoch: OnEpoch | None = None,
  start: Start | None = None,
) -> Callable[[], dict | None]:
  """Checks everything that a run needs; returns the function that runs it.

  Args:
    task: the kind of run.
    config: of the run.
    workdir: the folder of the run; a stopped run goes on there.
    seeds: for several runs, in `workdir/seed_0` and so on; None for one, with `config.seed`.
    argv: the command line, for the record.
    parts: the researcher's own objects.
    on_epoch: `(line, state)`, called at the end of each epoch with its line of metrics, after its
      checkpoint. The run stops there where it returns True, and can be resumed.
    start: the weights and scores with which the run begins.

  Returns:
    A function that gives the content of `result.json`, or None where `on_epoch` stopped the run.

  Raises:
    ValueError, OSError: one sentence that names what is wrong. Nothing was changed.
  """
  runner = Runner(task, tuple(argv), Parts.of(parts), on_epoch, start)
  path = workdir_lib.absolute(workdir)
  workdir_lib.check_outside(path, config)
  config = resuming.as_made(config, path)
  if seeds is None:
    return runner.prepare_one(config, path)
  from stretchnas_jax.runs import seed_runs  # here, since it builds on `Runner`

  return seed_runs.prepare(runner, config, path, seeds)
