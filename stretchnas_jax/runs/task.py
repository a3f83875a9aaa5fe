"""The contract of a task: what a search and a training say about themselves.

A task is one value. `runner` carries out any task: checks, folders, resumption, the loop,
checkpoints and results go through one path. A third program is a third value.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from stretchnas_jax.config import ConfigDict
from stretchnas_jax.data.batches import feeds as feeds_lib
from stretchnas_jax.machine import parallel
from stretchnas_jax.runs import loop, steps
from stretchnas_jax.runs.parts import Parts

# Fields that may differ from one start of a run to the next.
FREE = (
  'search.steps_per_call', 'train.steps_per_call', 'data.workers', 'data.on_bad_image',
  'data.max_pixels', 'data.compare_times', 'checkpoint', 'log', 'parallel.seeds',
)  # fmt: skip


class Start(NamedTuple):
  """The weights and scores of another run, with which a run begins; see `starting`.

  Attributes:
    facts: kept in `config.json` as `start_from`.
    apply: `position -> position`; None where the run goes on from its own checkpoints.
  """

  facts: Mapping[str, Any]
  apply: Callable[[steps.Position], steps.Position] | None


class Plan(NamedTuple):
  """Everything that one run needs, checked and loaded.

  Attributes:
    config: the checked config.
    fields: the content of `config.json`, see `fields_of`; of a training the cell too.
    feeds: the data.
    settings: how the loop goes along.
    objects: the network and the functions that train it, see `build`.
    parts: the researcher's own objects; `Parts()` where there are none.
    start: the weights and scores with which the run begins; None for new ones.
    phases: those of a search, see `phases.Phase`; empty for a training.
    phase_feeds: the data of each phase; those of the first are `feeds`.
  """

  config: ConfigDict
  fields: dict
  feeds: feeds_lib.Feeds
  settings: loop.Settings
  objects: Any
  parts: Parts
  start: Start | None = None
  phases: tuple = ()
  phase_feeds: tuple[feeds_lib.Feeds, ...] = ()

  def close(self) -> None:
    """Closes all data."""
    for feeds in {id(feeds): feeds for feeds in (self.feeds, *self.phase_feeds)}.values():
      feeds.close()


def fields_of(config: ConfigDict, parts: Parts) -> dict:
  """Returns the fields in which a run must agree with its folder.

  Args:
    config: of the run.
    parts: the researcher's own objects; their names are a field, if there are any.
  """
  names = parts.names()
  return {**config.to_dict(), 'parts': names} if names else config.to_dict()


class Programs(NamedTuple):
  """The compiled parts of a run. Each compiles when it is first called.

  Attributes:
    init: gives the position before the first step.
    step: `(position, data, batch, key) -> position`.
    evaluate: by part of the data, `(state, data, part, valid) -> sums`.
    others: programs of later phases, by a text that says what they are made of. It is filled as
      phases begin, and serves all seeds.
  """

  init: Callable[[PRNGKeyArray], steps.Position]
  step: parallel.Program
  evaluate: Mapping[str, parallel.Program]
  others: dict[str, Any]


class Stage(NamedTuple):
  """A phase at work.

  Attributes:
    number: of the phase, from 0.
    plan: of the phase: its config, its data and its objects.
    programs: its compiled parts.
    facts: what was decided when it began; each of its checkpoints keeps it as JSON.
  """

  number: int
  plan: Plan
  programs: Programs
  facts: dict = {}


class Phases(NamedTuple):
  """How a task goes from phase to phase.

  Attributes:
    stage: `(plan, programs, number, facts) -> Stage`; `plan` and `programs` are of the run.
    decide: `(stage, number, state) -> facts`, with which phase `number` begins after a stage.
    cross: `(before, after, state, key) -> state`, the first state of a phase, by a pure function of
      the last one of the phase before.
    describe: gives a line about a stage, for a person.
  """

  stage: Callable[[Plan, Programs, int, dict], Stage]
  decide: Callable[[Stage, int, Any], dict]
  cross: Callable[[Stage, Stage, Any, PRNGKeyArray], Any]
  describe: Callable[[Stage], str]


def _never(state: Any) -> bool:
  """Tells of a state that it does not end the run."""
  del state
  return False


class Task(NamedTuple):
  """A kind of run.

  Attributes:
    kind: the name of the command, and of the config's group: 'search' or 'train'.
    noun: as sentences name it: 'search' or 'training'.
    line_files: files of JSON lines, cut back when a run resumes.
    shared_fields: fields of the result that seeds have in common, see `seeds.summary`.
    defaults: gives the config with all fields and their defaults.
    plan: `(config, parts, devices=None) -> Plan`; raises ValueError for anything that cannot work.
    describe: gives a few lines about a plan, for a person.
    compile: gives the `Programs` of a plan; the programs of one seed serve every other.
    evaluations: `plan -> {part of the data: how often a whole run measures it}`.
    begin: called with a `runner.Run` before its first step, and when a phase has begun.
    end_epoch: `(run, state, line) -> (more, shown)`: what joins an epoch's line of metrics, and
      what the console shows.
    result: gives the content of `result.json` for a `runner.Run` at its end.
    report: `(run, result) -> str`, the last words of a run.
    first: from a plan to the function that gives the position before the first step for a key.
    has_ended: tells of a state, on the devices, whether the run ends there as one that is done.
    phases: how it goes from phase to phase; None for a task of one phase.
  """

  kind: str
  noun: str
  line_files: tuple[str, ...]
  shared_fields: tuple[str, ...]
  defaults: Callable[[], ConfigDict]
  plan: Callable[..., Plan]
  describe: Callable[[Plan], str]
  compile: Callable[[Plan], Programs]
  evaluations: Callable[[Plan], dict[str, int]]
  begin: Callable[[Any], None]
  end_epoch: Callable[[Any, Any, dict], tuple[dict, dict]]
  result: Callable[[Any], dict]
  report: Callable[[Any, dict], str]
  first: Callable[[Plan], Callable[[PRNGKeyArray], steps.Position]]
  has_ended: Callable[[Any], bool] = _never
  phases: Phases | None = None


def keys_of(plan: Plan) -> tuple[PRNGKeyArray, PRNGKeyArray]:
  """Returns the keys of the initial values and of the steps of a run."""
  init_key, step_key = jax.random.split(jax.random.key(plan.config.seed))
  return init_key, step_key


def first_position(plan: Plan, programs: Programs) -> steps.Position:
  """Returns the position before the first step.

  Args:
    plan: of the run.
    programs: the compiled parts of the same task.
  """
  position = programs.init(keys_of(plan)[0])
  if plan.start is not None and plan.start.apply is not None:
    position = plan.start.apply(position)
  return position


def begin(plan: Plan, programs: Programs) -> tuple[steps.Position, steps.Work]:
  """Returns the position before the first step, and the steps with their data on the devices.

  A benchmark begins here.

  Args:
    plan: of the run.
    programs: the compiled parts of the same task.
  """
  devices, feed = plan.settings.devices, plan.feeds.train
  position = first_position(plan, programs)
  data, key = devices.replicate(feed.data), devices.replicate(keys_of(plan)[1])
  return position, steps.Work(feed, programs.step, data, key)
