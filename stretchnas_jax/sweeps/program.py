"""The program of an experiment: `python -m experiments.NAME list|run|collect|plot|pack`."""

import fnmatch
import json
import pathlib
import sys

from stretchnas_jax.cli import app
from stretchnas_jax.runs import seeds as seeds_lib
from stretchnas_jax.sweeps import jobs as jobs_lib
from stretchnas_jax.sweeps.scales import SCALES

LAUNCHERS = ('local', 'slurm')
OPTIONS = (
  app.Option('scale', 'tiny', 'paper (as published), small (a GPU), cpu or tiny (two CPU cores)'),
  app.Option('only', None, 'keys of runs with commas, also as darts_*; default: all'),
  app.Option('seeds', None, 'as 0,1,2; default: those of the scale'),
  app.Option('folder', None, 'of all runs; default: runs/experiments/SCALE'),
  app.Option('data-path', None, 'where the images are, as data.path of the configs'),
  app.Option('imagenet-path', None, 'where those of ImageNet are, likewise'),
  app.Option('launcher', 'local', 'local (here, one after another) or slurm (needs submitit)'),
  app.Option('slurm', None, 'of submitit, as slurm_partition=gpu,gpus_per_node=1,timeout_min=600'),
  app.Option('out', None, 'folder of table, plot and archive; default: FOLDER/results'),
)


def main(experiment, name=None, argv=None):
  """Runs an experiment from its command line.

  Args:
    experiment: an `Experiment`.
    name: of its files; by default that of the program.
    argv: as of `app.run`.
  """
  argv = list(sys.argv if argv is None else argv)
  name = name or pathlib.Path(argv[0]).stem

  def prepare(args):
    if args.verb not in VERBS:
      raise ValueError(f'{args.verb!r} is no verb; there are {", ".join(VERBS)}')
    setting, keys = setting_of(args), chosen(experiment, args.only)
    return VERBS[args.verb](experiment, name, setting, keys, args)

  prepare.__module__ = '__main__' if name in argv[0] else __name__  # whose docstring is the help
  app.run(prepare, config=False, options=OPTIONS, positional=('verb',), argv=argv)


def setting_of(args):
  """A `jobs.Setting` from the command line."""
  if args.scale not in SCALES:
    raise ValueError(f'--scale is {args.scale!r}; it must be one of {", ".join(SCALES)}')
  if args.launcher not in LAUNCHERS:
    raise ValueError(f'--launcher is {args.launcher!r}; it must be {" or ".join(LAUNCHERS)}')
  scale = SCALES[args.scale]
  return jobs_lib.Setting(
    scale,
    pathlib.Path(args.folder or f'runs/experiments/{args.scale}'),
    scale.seeds if args.seeds is None else seeds_lib.parse(args.seeds),
    getattr(args, 'data-path'),
    getattr(args, 'imagenet-path'),
    split=args.launcher == 'slurm',
  )


def chosen(experiment, only):
  """The keys of the runs that `--only` names; ValueError for one that there is not."""
  known, found = list(experiment.runs), {}
  for pattern in (only or '*').split(','):
    keys = fnmatch.filter(known, pattern.strip())
    if not keys:
      raise ValueError(f'--only has {pattern!r}; the runs are {", ".join(known)}')
    found |= dict.fromkeys(keys)
  return list(found)


# ---- the verbs: each checks and reads, and returns the function that does the work ---------------


def list_commands(experiment, name, setting, keys, args):
  """Prints the commands, a comment before what is finished."""
  jobs = jobs_lib.jobs_of(experiment, setting, keys)
  lines = [f'# finished: {job.command}' if job.finished else job.command for job in jobs]
  return lambda: print('\n'.join(lines))


def run(experiment, name, setting, keys, args):
  """Runs or submits what is not finished."""
  jobs = jobs_lib.jobs_of(experiment, setting, keys)
  if args.launcher == 'slurm':
    from stretchnas_jax.sweeps import slurm

    executor = slurm.open_executor(setting.folder / 'slurm', slurm.parse(args.slurm))
    return lambda: submit(slurm, executor, jobs)
  return lambda: run_here(jobs, setting.folder / 'locks')


def submit(slurm, executor, jobs):
  for number, job in slurm.submit(executor, jobs):
    print(f'{number}: {job.command}')


def run_here(jobs, locks):
  from stretchnas_jax.sweeps import running

  failed = running.run_all(jobs, locks)
  for job in failed:
    print(f'failed: {job.command}', file=sys.stderr)
  if failed:
    raise SystemExit(1)


def collect(experiment, name, setting, keys, args):
  """Prints the table, and writes it and all figures behind it."""
  from stretchnas_jax.sweeps import tables

  results = results_of(experiment, setting)
  page = tables.markdown(results)
  files = {f'{name}.json': json.dumps(results, indent=1) + '\n', f'{name}.md': page}

  def work():
    write(out_folder(setting, args), files)
    print(page)

  return work


def plot(experiment, name, setting, keys, args):
  """Writes the plot, and for searches alone their cells too."""
  from stretchnas_jax.sweeps import plots

  drawn = plots.draw(experiment, results_of(experiment, setting))
  files = {f'{name}{ending}.svg': text for ending, text in drawn.items()}
  folder = out_folder(setting, args)

  def work():
    write(folder, files)
    print('\n'.join(str(folder / file) for file in files))

  return work


def pack(experiment, name, setting, keys, args):
  """Writes what finished runs have left, but for their checkpoints, as one archive."""
  from stretchnas_jax.machine import files
  from stretchnas_jax.sweeps import packing

  jobs = jobs_lib.jobs_of(experiment, setting, keys)
  folders = {folder for job in jobs for folder in job.folders}
  path = out_folder(setting, args) / f'{name}.tar.xz'
  content, count = packing.packed(path, setting.folder, folders)

  def work():
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, content)
    print(f'{path}: {count} of {len(folders)} runs')

  return work


def results_of(experiment, setting):
  from stretchnas_jax.sweeps import collect as collect_lib

  return collect_lib.collect(experiment, setting)


def out_folder(setting, args):
  return pathlib.Path(args.out) if args.out else setting.folder / 'results'


def write(folder, files):
  folder.mkdir(parents=True, exist_ok=True)
  for name, text in files.items():
    (folder / name).write_text(text, 'utf-8')


VERBS = {'list': list_commands, 'run': run, 'collect': collect, 'plot': plot, 'pack': pack}
