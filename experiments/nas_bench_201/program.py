"""The program: `python -m experiments.nas_bench_201 list|run|rank|collect|plot|pack`.

`run` makes the searches that are missing, and adds each to the lines in the folder `--out`. A run
that was stopped goes on with the same command, also where the folder of its searches is gone. The
same command started several times shares the work. `rank` measures 300 cells with the supernets
that are there, of every tenth epoch. `collect` writes the table, `plot` the charts, `pack`
all files of the searches except checkpoints as one archive.
"""

import gc
import json
import pathlib
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import filelock
import jax

from experiments.nas_bench_201 import lines, plan
from experiments.nas_bench_201.plan import Setting, Trial
from experiments.nas_bench_201.rows import ROWS
from experiments.nas_bench_201.scales import SCALES
from stretchnas_jax.cells import nas_bench_201
from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import Option
from stretchnas_jax.machine import files, output
from stretchnas_jax.runs import seeds as seeds_lib
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.sweeps import packing
from stretchnas_jax.sweeps.program import chosen_keys

_LAUNCHERS = ('local', 'slurm')
_OPTIONS = (
  Option('scale', 'tiny', 'paper, paper_250, gpu, cpu (two cores) or tiny (digits, minutes)'),
  Option('only', None, 'keys of rows with commas, for example darts*; default: those of the scale'),
  Option('seeds', None, 'for example 0,1,2; default: as many as each row wants'),
  Option('folder', None, 'of all searches; default: runs/experiments/nas_bench_201/SCALE'),
  Option('data-path', None, 'CIFAR-10: its files, or class folders in train/ and test/'),
  Option('data-title', 'CIFAR-10', 'the name of its images in table and charts'),
  Option('table', None, 'a CSV file of accuracies; default: the table of the extra nasbench'),
  Option('launcher', 'local', 'local (here, one after another) or slurm (needs submitit)'),
  Option('slurm', None, "submitit's, for example slurm_partition=gpu,gpus_per_node=1"),
  Option('out', None, 'of lines, table and charts; default: FOLDER/results'),
)

_Work = Callable[[], None]


class _Request(NamedTuple):
  """A command line, read and checked.

  Attributes:
    setting: the scale, the rows and the seeds.
    shown: the keys of the rows in table and charts.
    table: a CSV file of accuracies, or None.
    launcher: a member of `_LAUNCHERS`.
    slurm: the text of `--slurm`, or None.
    out: the folder of lines, table and charts.
    title: the name of the images in table and charts.
  """

  setting: Setting
  shown: tuple[str, ...]
  table: str | None
  launcher: str
  slurm: str | None
  out: pathlib.Path
  title: str

  @property
  def lines_path(self) -> pathlib.Path:
    """The file with a line for each search."""
    return self.out / f'{self.setting.name}.jsonl'

  def add_lines(self, trials: Sequence[Trial]) -> list[lines.Line]:
    """Adds finished searches to the lines; several processes take turns."""
    self.out.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(self.lines_path.with_suffix('.lock')):
      return lines.add(self.lines_path, trials, self.setting.scale)


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  argv = list(sys.argv if argv is None else argv)

  def prepare(args: types.SimpleNamespace) -> _Work:
    if args.verb not in _VERBS:
      raise ValueError(f'{args.verb!r} is not a verb; there are {", ".join(_VERBS)}')
    return _VERBS[args.verb](_request(args))

  # The docstring of this module is the help.
  prepare.__module__ = __name__
  app.run(prepare, config=False, options=_OPTIONS, positional=('verb',), argv=argv)


def _request(args: types.SimpleNamespace) -> _Request:
  """Returns the request of a command line; raises ValueError for a wrong word."""
  if args.scale not in SCALES:
    raise ValueError(f'--scale is {args.scale!r}; it must be one of {", ".join(SCALES)}')
  if args.launcher not in _LAUNCHERS:
    raise ValueError(f'--launcher is {args.launcher!r}; it must be {" or ".join(_LAUNCHERS)}')
  scale = SCALES[args.scale]
  folder = workdir_lib.absolute(args.folder or f'runs/experiments/nas_bench_201/{args.scale}')
  seeds = None if args.seeds is None else tuple(seeds_lib.parse(args.seeds))
  shown = chosen_keys(ROWS, args.only) if args.only else tuple(ROWS)
  keys = shown if args.only else scale.rows or shown
  setting = Setting(args.scale, scale, folder, keys, seeds, getattr(args, 'data-path'))
  out = workdir_lib.absolute(args.out) if args.out else folder / 'results'
  title = getattr(args, 'data-title')
  return _Request(setting, shown, args.table, args.launcher, args.slurm, out, title)


# ---- the verbs -----------------------------------------------------------------------------------
# Each of them reads and checks, and returns the function that does the work.


def _list(request: _Request) -> _Work:
  """Prepares to print the commands, with a comment before those that are finished."""
  trials = plan.trials(request.setting)
  left = _missing(request, trials)
  words = [('' if one in left else '# finished: ') + one.job.command for one in trials]

  def work() -> None:
    output.result('\n'.join(words))

  return work


def _run(request: _Request) -> _Work:
  """Prepares to run or submit the searches that are missing."""
  trials = plan.trials(request.setting)
  left = _missing(request, trials)
  folder = request.setting.folder
  if request.launcher == 'slurm':
    from stretchnas_jax.sweeps import slurm

    executor = slurm.open_executor(folder / 'slurm', slurm.parameters_from(request.slurm))

    def work() -> None:
      for number, job in slurm.submit(executor, [one.job for one in left]):
        output.result(f'{number}: {job.command}')

    return work
  from stretchnas_jax.sweeps import running  # imports the programs, and with them Flax

  by_job = {one.job: one for one in left}

  def work() -> None:
    add = lambda job: request.add_lines([by_job[job]])
    failed = running.run_all(by_job, folder / 'locks', add)
    for job in failed:
      output.say(f'failed: {job.command}')
    if failed:
      raise SystemExit(1)

  return work


def _missing(request: _Request, trials: Sequence[Trial]) -> list[Trial]:
  """Returns the searches that must still run."""
  known = {lines.identity(line) for line in lines.read(request.lines_path)}
  return plan.missing(trials, known)


def _rank(request: _Request) -> _Work:
  """Prepares to measure random cells with the supernets of finished searches."""
  from experiments.nas_bench_201 import ranking
  from stretchnas_jax.sweeps import running  # imports the programs, and with them Flax

  table = nas_bench_201.load(request.table)
  scale, locks = request.setting.scale, request.setting.folder / 'locks'
  trials = [one for one in plan.trials(request.setting) if one.job.finished]
  if not trials:
    raise ValueError(
      f'{request.setting.folder} has none of the chosen searches as a finished folder. Start with '
      'the verb run. Where only the line of a search is left, its weights are gone.'
    )

  def work() -> None:
    for one in trials:
      with running.lock(locks, one.job) as is_mine:
        for epoch, found in ranking.rank(one, scale) if is_mine else ():
          order = ranking.orders(found, table)[epoch]
          output.result(f'{one.key} seed {one.seed}, epoch {epoch}: tau {order.tau:.3f}')
      request.add_lines([one])
      gc.collect()
      jax.clear_caches()  # programs of many searches fill the memory

  return work


def _collect(request: _Request) -> _Work:
  """Prepares to write the table and all figures behind it, and to print the table."""
  from experiments.nas_bench_201 import tables

  results = _results(request)
  page = tables.markdown(results)

  def work() -> None:
    _write(request, {'.json': json.dumps(results, indent=1) + '\n', '.md': page})
    output.result(page)

  return work


def _plot(request: _Request) -> _Work:
  """Prepares to write the charts."""
  from experiments.nas_bench_201 import plots
  from stretchnas_jax.views import charts

  charts.require_matplotlib()
  drawn = plots.plots_of(_results(request))

  def work() -> None:
    _write(request, {f'{ending}.svg': text for ending, text in drawn.items()})

  return work


def _pack(request: _Request) -> _Work:
  """Prepares to write the folders of finished searches, without checkpoints, as one archive."""
  path = request.out / f'{request.setting.name}.tar.xz'
  folders = [one.folder for one in plan.trials(request.setting)]
  content, count = packing.packed(path, request.setting.folder, folders)

  def work() -> None:
    request.out.mkdir(parents=True, exist_ok=True)
    files.replace(path, content)
    output.result(f'{path}: {count} of {len(folders)} searches')

  return work


def _results(request: _Request) -> dict[str, Any]:
  """Returns the figures of all searches that are there; ValueError without any."""
  from experiments.nas_bench_201.collect import collect

  table = nas_bench_201.load(request.table)
  seeds = request.setting.seeds
  found = [
    line
    for line in request.add_lines(plan.trials(request.setting))
    if line['row'] in request.shown and (seeds is None or line['seed'] in seeds)
  ]
  if not found:
    raise ValueError(f'{request.lines_path} has no such search: start with the verb run')
  results = collect(found, request.setting.scale, table)
  return results | {'about': results['about'].replace('CIFAR-10', request.title)}


def _write(request: _Request, texts: Mapping[str, str]) -> None:
  """Writes texts beside the lines, by the ending of their names."""
  for ending, text in texts.items():
    (request.out / f'{request.setting.name}{ending}').write_text(text, 'utf-8')


_VERBS: Mapping[str, Callable[[_Request], _Work]] = {
  'list': _list,
  'run': _run,
  'rank': _rank,
  'collect': _collect,
  'plot': _plot,
  'pack': _pack,
}
