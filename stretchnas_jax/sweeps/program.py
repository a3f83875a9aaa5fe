"""The program of an experiment: `python -m experiments.NAME list|run|collect|plot|pack`."""

import fnmatch
import json
import pathlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import Option
from stretchnas_jax.machine import output
from stretchnas_jax.runs import seeds as seeds_lib
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.sweeps.jobs import jobs_of
from stretchnas_jax.sweeps.scales import SCALES
from stretchnas_jax.sweeps.spec import Experiment
from stretchnas_jax.sweeps.trials import Setting

_LAUNCHERS = ('local', 'slurm')
_OPTIONS = (
  Option('scale', 'tiny', 'paper (as published), small (a GPU), cpu or tiny (two CPU cores)'),
  Option('only', None, 'keys of runs with commas, for example darts_*; default: all'),
  Option('seeds', None, 'for example 0,1,2; default: those of the scale'),
  Option('folder', None, 'of all runs; default: runs/experiments/SCALE'),
  Option('data-path', None, 'where the images are, as data.path of the configs'),
  Option('imagenet-path', None, 'where the images of ImageNet are'),
  Option('launcher', 'local', 'local (here, one after another) or slurm (needs submitit)'),
  Option('slurm', None, "submitit's, for example slurm_partition=gpu,gpus_per_node=1"),
  Option('out', None, 'folder of table, plot and archive; default: FOLDER/results'),
)


class _Request(NamedTuple):
  """A command line, read and checked.

  Attributes:
    experiment: the experiment.
    name: the name of its files.
    setting: the scale, the seeds and the folder of runs.
    keys: the keys of the chosen runs.
    launcher: a member of `_LAUNCHERS`.
    slurm: the text of `--slurm`, or None.
    out: the folder of table, plot and archive.
  """

  experiment: Experiment
  name: str
  setting: Setting
  keys: list[str]
  launcher: str
  slurm: str | None
  out: pathlib.Path


_Work = Callable[[], None]


def main(experiment: Experiment, argv: Sequence[str] | None = None) -> None:
  """Runs an experiment from its command line.

  Args:
    experiment: the runs and their comparisons.
    argv: the command line, with the program first; None for the command line of the process. The
      files have the name of the program.
  """
  argv = list(sys.argv if argv is None else argv)
  name = pathlib.Path(argv[0]).stem

  def prepare(args: types.SimpleNamespace) -> _Work:
    if args.verb not in _VERBS:
      raise ValueError(f'{args.verb!r} is not a verb; there are {", ".join(_VERBS)}')
    return _VERBS[args.verb](_request(experiment, name, args))

  # The docstring of the program is the help.
  prepare.__module__ = '__main__'
  app.run(prepare, config=False, options=_OPTIONS, positional=('verb',), argv=argv)


def _request(experiment: Experiment, name: str, args: types.SimpleNamespace) -> _Request:
  """Returns the request of a command line; raises ValueError for a wrong word."""
  setting = _setting(args)
  out = workdir_lib.absolute(args.out) if args.out else setting.folder / 'results'
  keys = chosen_keys(experiment.runs, args.only or '*')
  return _Request(experiment, name, setting, keys, args.launcher, args.slurm, out)


def _setting(args: types.SimpleNamespace) -> Setting:
  """Returns the setting of a command line; raises ValueError for a wrong word."""
  if args.scale not in SCALES:
    raise ValueError(f'--scale is {args.scale!r}; it must be one of {", ".join(SCALES)}')
  if args.launcher not in _LAUNCHERS:
    raise ValueError(f'--launcher is {args.launcher!r}; it must be {" or ".join(_LAUNCHERS)}')
  scale = SCALES[args.scale]
  return Setting(
    scale,
    workdir_lib.absolute(args.folder or f'runs/experiments/{args.scale}'),
    scale.seeds if args.seeds is None else seeds_lib.parse(args.seeds),
    getattr(args, 'data-path'),
    getattr(args, 'imagenet-path'),
    split=args.launcher == 'slurm',
  )


def chosen_keys(known: Iterable[str], only: str) -> tuple[str, ...]:
  """Returns the keys that the patterns of `--only` name, in their order.

  Args:
    known: all keys.
    only: patterns such as `darts*`, with commas between them.

  Raises:
    ValueError: a pattern names none of them.
  """
  known = list(known)
  found: dict[str, None] = {}
  for pattern in only.split(','):
    keys = fnmatch.filter(known, pattern.strip())
    if not keys:
      raise ValueError(f'--only has {pattern!r}; the runs are {", ".join(known)}')
    found |= dict.fromkeys(keys)
  return tuple(found)


# ---- the verbs -----------------------------------------------------------------------------------
# Each of them reads and checks, and returns the function that does the work.


def _list(request: _Request) -> _Work:
  """Prepares to print the commands, with a comment before those that are finished."""
  jobs = jobs_of(request.experiment, request.setting, request.keys)
  lines = [f'# finished: {job.command}' if job.finished else job.command for job in jobs]

  def work() -> None:
    output.result('\n'.join(lines))

  return work


def _run(request: _Request) -> _Work:
  """Prepares to run or submit the jobs that are not finished."""
  jobs = jobs_of(request.experiment, request.setting, request.keys)
  folder = request.setting.folder
  if request.launcher == 'slurm':
    from stretchnas_jax.sweeps import slurm

    executor = slurm.open_executor(folder / 'slurm', slurm.parameters_from(request.slurm))

    def work() -> None:
      for number, job in slurm.submit(executor, jobs):
        output.result(f'{number}: {job.command}')
  else:
    from stretchnas_jax.sweeps import running  # imports the programs, and with them Flax

    def work() -> None:
      failed = running.run_all(jobs, folder / 'locks')
      for job in failed:
        output.say(f'failed: {job.command}')
      if failed:
        raise SystemExit(1)

  return work


def _collect(request: _Request) -> _Work:
  """Prepares to write the table and all figures behind it, and to print the table."""
  from stretchnas_jax.sweeps import tables
  from stretchnas_jax.sweeps.collect import collect

  results = collect(request.experiment, request.setting)
  page = tables.markdown(results)
  figures = json.dumps(results, indent=1) + '\n'

  def work() -> None:
    _write(request.out, {f'{request.name}.json': figures, f'{request.name}.md': page})
    output.result(page)

  return work


def _plot(request: _Request) -> _Work:
  """Prepares to write the plots, and the cells where only searches are measured."""
  from stretchnas_jax.sweeps.collect import collect
  from stretchnas_jax.sweeps.plots import plots_of
  from stretchnas_jax.views import charts

  charts.require_matplotlib()
  plots = plots_of(request.experiment, collect(request.experiment, request.setting))
  files = {f'{request.name}{ending}.svg': text for ending, text in plots.items()}

  def work() -> None:
    _write(request.out, files)
    output.result('\n'.join(str(request.out / file) for file in files))

  return work


def _pack(request: _Request) -> _Work:
  """Prepares to write the files of finished runs, without their checkpoints, as one archive."""
  from stretchnas_jax.machine import files
  from stretchnas_jax.sweeps.packing import packed

  jobs = jobs_of(request.experiment, request.setting, request.keys)
  folders = {folder for job in jobs for folder in job.folders}
  path = request.out / f'{request.name}.tar.xz'
  content, count = packed(path, request.setting.folder, folders)

  def work() -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, content)
    output.result(f'{path}: {count} of {len(folders)} runs')

  return work


_VERBS: Mapping[str, Callable[[_Request], _Work]] = {
  'list': _list,
  'run': _run,
  'collect': _collect,
  'plot': _plot,
  'pack': _pack,
}


def _write(folder: pathlib.Path, files: Mapping[str, str]) -> None:
  """Writes texts into a folder, by their names."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, text in files.items():
    (folder / name).write_text(text, 'utf-8')
