"""Resumes searches of all methods in each phase: `python -m experiments.reliability.methods`.

Each search config of the package, and its form with stretchable cells, runs on digits with a tiny
network, three or four operations and a short schedule. Then its folder is left as a kill leaves it,
with a checkpoint inside each phase as the newest one, and at each border between two phases. The
search goes on from there, and once more from nothing. Its cell must be valid. Its files must be,
bit for bit, those of the run that was never stopped. The same command goes on after the last whole
config. Processes that are really killed are in `kills`.
"""

import argparse
import json
import pathlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from experiments.reliability import programs, provenance
from stretchnas_jax.cells import genotype
from stretchnas_jax.cells.graph import CellGraph
from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.config import ConfigDict, files
from stretchnas_jax.runs import json_files, runner, search_phases, search_task
from stretchnas_jax.runs.parts import Parts
from stretchnas_jax.runs.task import Plan, Programs, Task

_METHODS = (
  'pc_darts', 'p_darts', 'snas', 'gdas', 'dots', 'drnas', 'gradual_pruning', 'proxyless',
  'fair_darts', 'beta_darts', 'darts_minus', 'darts_plus',
)  # fmt: skip
CASES = (
  *(f'{name}_cifar10{form}' for name in _METHODS for form in ('', ':sc')),
  'darts_cifar10:first', 'darts_cifar10:second', 'darts_sc_cifar10', 'darts_wo_sc_cifar10',
  'milenas_cifar10', 'milenas_sc_cifar10',
  *(f'{space}:{form}' for space in ('s1', 's2', 's3', 's4') for form in ('first', 'sc')),
)  # fmt: skip
"""The configs, each with the argument after its colon."""

_EVERY = 2  # steps between two checkpoints
_TINY = {
  'data.name': 'digits', 'data.image_size': 8, 'data.crop_padding': 1, 'data.fraction': 0.1,
  'space.num_intermediate': 2, 'model.channels': 4, 'model.num_layers': 1, 'model.form': 'merged',
  'search.epochs': 4, 'search.batch_size': 12, 'search.steps_per_call': 1,
  'checkpoint.every_steps': _EVERY, 'checkpoint.keep': 99, 'parallel.backend': 'single',
}  # fmt: skip
# Fields that a method needs beside these, for its phases, its channels and its decisions.
_OWN = {
  'pc_darts_cifar10': {'model.channels': 8},
  'drnas_cifar10': {'model.channels': 24},
  'p_darts_cifar10': {'search.epochs': 6},
  'dots_cifar10': {'search.epochs': 7},
  'gradual_pruning_cifar10': {'monitor.prune_below': 0.6, 'alpha.learning_rate': 0.1},
  'darts_plus_cifar10': {'monitor.min_epochs': 3, 'monitor.same_ranking': 3},
  's1': {'space.num_intermediate': 4},
}
# A phase has the depth and the number of operations of a tiny network.
_IN_PHASES = {
  'model.num_layers': {5: 1, 11: 2, 17: 1}, 'keep': {5: 3, 4: 2, 3: 2, 'groups': 'groups'},
}  # fmt: skip
_OPERATIONS = ('max_pool_3x3', 'skip_connect', 'dil_conv_3x3')  # and perhaps `none`
PLACES = ('beginning', 'inside', 'border')
"""Where a search is killed, see `Span`."""


class Span(NamedTuple):
  """A part of a run.

  Attributes:
    phase: counted from 1.
    place: 'beginning', 'inside' or 'border': the passage to the next phase.
    newest: the steps of which one has the newest checkpoint there.
  """

  phase: int
  place: str
  newest: range


def config_of(case: str) -> ConfigDict:
  """Returns a config in its tiny form; all fields that do not make it tiny stay.

  Args:
    case: of `CASES`.
  """
  source = files.find(case)
  config = files.load_module(source.path).get_config(*source.arguments)
  phases = [dict(phase) for phase in config.search.phases]
  for phase in phases:
    phase.update({name: tiny[phase[name]] for name, tiny in _IN_PHASES.items() if name in phase})
  fields = _TINY | _OWN.get(case.partition(':')[0], {}) | {'search.phases': tuple(phases)}
  config.update_from_flattened_dict(fields)
  return config


def parts_of(config: ConfigDict) -> dict[str, Any]:
  """Returns a space of few operations in place of that of DARTS; others stay.

  Args:
    config: of the search.
  """
  if config.space.name != 'darts':
    return {}
  names = ('none', *_OPERATIONS) if config.space.with_none else _OPERATIONS
  return {'space': SearchSpace(CellGraph(config.space.num_intermediate), names)}


def spans_of(config: ConfigDict) -> list[Span]:
  """Returns the parts of a run: its beginning, each phase, and each border between two phases.

  Args:
    config: of the search.
  """
  plan = search_task.SEARCH.plan(config, Parts.of(parts_of(config)))
  lengths = [
    phase.epochs * feeds.train.steps_per_epoch
    for phase, feeds in zip(plan.phases, plan.phase_feeds)
  ]
  plan.close()
  found, begin = [Span(1, 'beginning', range(1))], 0
  for number, length in enumerate(lengths, 1):
    found.append(Span(number, 'inside', range(begin + 1, begin + length)))
    begin += length
    if number < len(lengths):
      found.append(Span(number, 'border', range(begin, begin + 1)))
  return found


def is_valid(text: str) -> bool:
  """Returns whether a text is a cell whose normal and reduction part have an edge.

  Args:
    text: JSON; the operation `noise` of S4 is allowed.
  """
  try:
    found = genotype.Genotype.from_dict(json.loads(text), ('noise',))
  except ValueError:
    return False
  return bool(found.normal and found.reduce)


# ---- a run ---------------------------------------------------------------------------------------


def sharing_task() -> Task:
  """Returns the task of a search whose starts share their compiled programs."""
  known: dict[str, Programs] = {}

  def compile_programs(plan: Plan) -> Programs:
    key = search_phases.recipe(plan, 0, {})
    if key not in known:
      known[key] = search_task.compile_programs(plan)
    return known[key]

  return search_task.SEARCH._replace(compile=compile_programs)


def _search(task: Task, case: str, path: pathlib.Path) -> None:
  config = config_of(case)
  runner.prepare(task, config, path, parts=parts_of(config))()


def leave_as_killed(whole: pathlib.Path, path: pathlib.Path, step: int) -> None:
  """Makes a folder as a kill leaves it, from that of a finished run.

  Args:
    whole: the folder of the run, with all of its checkpoints.
    path: the new folder.
    step: of its newest checkpoint.
  """
  shutil.copytree(whole, path)
  cut_back(path, step)


def cut_back(path: pathlib.Path, step: int) -> None:
  """Takes away what a finished run has left after a step.

  Args:
    path: the folder of the run, with all of its checkpoints.
    step: of the checkpoint that becomes the newest one.
  """
  for name in programs.checkpoint_names(path):
    if name.isdigit() and int(name) > step:
      shutil.rmtree(path / 'checkpoints' / name)
  for name in ('checkpoints.json', 'result.json'):
    (path / name).unlink(missing_ok=True)


def resume_in(
  task: Task, case: str, whole: pathlib.Path, path: pathlib.Path, span: Span
) -> dict[str, Any]:
  """Lets a search go on from within a span, and compares its end with that of a whole run.

  Args:
    task: of `sharing_task`.
    case: of `CASES`.
    whole: the folder of the whole run.
    path: a new folder.
    span: where the search was killed.

  Returns:
    The checkpoint from which it went on, and the files that differ.
  """
  saved = sorted(int(name) for name in programs.checkpoint_names(whole) if name.isdigit())
  steps = [step for step in saved if step in span.newest]
  if span.place == 'beginning':
    step = 0
  else:
    step = steps[len(steps) // 2]
    leave_as_killed(whole, path, step)
  _search(task, case, path)
  left, expected = programs.left_by(path), programs.left_by(whole)
  different = [name for name, value in expected.items() if left.get(name) != value]
  shutil.rmtree(path)
  return {'phase': span.phase, 'place': span.place, 'checkpoint': step, 'different': different}


# ---- the campaign --------------------------------------------------------------------------------


def row_of(case: str, folder: pathlib.Path) -> dict[str, Any]:
  """Runs a config to its end, and again from each span.

  Args:
    case: of `CASES`.
    folder: of the runs.
  """
  begin, task, whole = time.time(), sharing_task(), folder / 'whole'
  spans = spans_of(config_of(case))
  _search(task, case, whole)
  resumed = [resume_in(task, case, whole, folder / str(i), span) for i, span in enumerate(spans)]
  last = json_files.read_lines(whole / 'metrics.jsonl')[-1]
  ran = [one for one in resumed if one['checkpoint'] <= last['step']]
  return {
    'config': case,
    'phases': max(span.phase for span in spans),
    'epochs': last['epoch'],
    'steps': last['step'],
    'resumed': ran,
    'valid_cell': is_valid((whole / 'genotype.json').read_text('utf-8')),
    'identical': not any(one['different'] for one in ran),
    'seconds': round(time.time() - begin),
    'commit': provenance.commit(),
  }


def _keep(rows: Sequence[dict[str, Any]]) -> None:
  """Writes all that is known so far."""
  each = [one for row in rows for one in row['resumed']]
  found = {
    'configs': len(rows),
    'of': len(CASES),
    'phases': sum(row['phases'] for row in rows),
    'resumed': {place: sum(one['place'] == place for one in each) for place in PLACES},
    'valid_cells': sum(row['valid_cell'] for row in rows),
    'bit_identical': sum(row['identical'] for row in rows),
    'not_identical': [row['config'] for row in rows if not row['identical']],
    'seconds': sum(row['seconds'] for row in rows),
  }
  print(json.dumps(found), flush=True)
  provenance.save('methods', found, rows)


def main() -> None:
  """Runs the program."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--seconds', type=float, default=float('inf'), help='no new config then')
  parser.add_argument('--only', nargs='*', default=CASES, help='configs, with their arguments')
  args = parser.parse_args()
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_disable_most_optimizations', True)
  end = time.monotonic() + args.seconds
  for case in args.only:
    # Several programs at work share the file, so that it is read again for each config.
    if case in _known() or time.monotonic() > end:
      continue
    with tempfile.TemporaryDirectory() as folder:
      row = row_of(case, pathlib.Path(folder))
    rows = _known() | {case: row}
    _keep([rows[case] for case in CASES if case in rows])


def _known() -> dict[str, dict[str, Any]]:
  """Returns the rows of all configs that are done."""
  return {row['config']: row for row in provenance.load('methods').get('each', [])}


if __name__ == '__main__':
  main()
