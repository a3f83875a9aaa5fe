"""Trains a cell: `python -m stretchnas_jax.train --config=FILE --workdir=DIR --genotype=CELL`."""

import contextlib
import functools
import json
import pathlib
import re
import sys

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.cli import app
from stretchnas_jax.runs import (
  checkpoint,
  find_cell,
  json_files,
  loop,
  train_plan,
  train_run,
  train_steps,
  trained,
)
from stretchnas_jax.runs import plan as plan_lib
from stretchnas_jax.runs import seeds as seeds_lib
from stretchnas_jax.runs import workdir as workdir_lib

OPTIONS = (
  app.Option('genotype', None, 'the cell: a name of the zoo, a file, or the folder of a search'),
  app.Option('seeds', None, 'as 0,1,2: a run of each, and their mean'),
  app.Option('target-params', None, 'choose C for this number of parameters, as 3.5e6'),
  app.Option('eval-only', False, 'measure the newest checkpoint of the folder, and no more'),
  app.Option('best', False, 'with --eval-only: measure the weights of the best epoch'),
)


def open_folder(workdir, config, genotype, argv):
  """The run's `Workdir`; a ValueError of one sentence where it is of another cell."""
  cell = genotype.to_dict()
  check_cell(workdir, cell)
  return workdir_lib.Workdir.open(
    workdir, {**config.to_dict(), 'genotype': cell}, argv=argv, ignore=plan_lib.FREE
  )


def check_cell(workdir, cell):
  path = workdir / 'config.json'
  if path.exists() and json_files.read_object(path).get('genotype', cell) != cell:
    raise workdir_lib.Refused(
      f'workdir {workdir} trains another cell than this --genotype: choose another workdir, or '
      'give the cell that is in its genotype.json'
    )


def prepare_train(config, workdir, genotype, argv=(), target_params=None):
  """Checks everything, the folder last; returns the function that runs the training."""
  plan = train_plan.plan_train(config, genotype, target_params=target_params)
  folder = open_folder(workdir, plan.config, genotype, argv)
  with contextlib.ExitStack() as until_work:
    until_work.enter_context(folder)
    if folder.finished:
      return functools.partial(finished_result, folder)
    loop.check_resumable(folder, train_run.identity_of(plan))
    until_work.pop_all()
  return functools.partial(run_plan, plan, folder)


def run_plan(plan, folder, programs=None):
  """Trains as planned, and closes the folder.

  `programs` are those of an earlier run of the same plan but for its seed.
  """
  if folder.writes:
    print(train_plan.describe_plan(plan), file=sys.stderr)
  saved = checkpoint.Checkpoints(folder.path / 'checkpoints', plan.config.checkpoint.keep)
  with folder, contextlib.closing(plan.feeds), saved:
    return train_run.Run(plan, folder, saved, programs or train_steps.compile_programs(plan)).go()


def finished_result(folder):
  print(f'{folder.path} holds a finished training; choose another --workdir for a new one')
  return json.loads((folder.path / 'result.json').read_text('utf-8'))


# ---- several seeds -------------------------------------------------------------------------------


def prepare_seeds(config, workdir, genotype, seeds, argv=(), target_params=None):
  """As `prepare_train`, for a run of each seed in `workdir/seed_0` and so on."""
  first = seeds_lib.with_seed(config, seeds[0])
  plan = train_plan.plan_train(first, genotype, target_params=target_params)
  configs = [seeds_lib.with_seed(plan.config, seed) for seed in seeds]
  folder = open_seeds(workdir, plan.config, genotype, seeds, argv)
  if seeds_lib.finished(folder, seeds):
    folder.close()
    return functools.partial(finished_result, folder)

  def work():
    with folder:
      programs, results = train_steps.compile_programs(plan), []
      for seed, seed_config in zip(seeds, configs):
        # The first plan's programs serve all: they take the key and the batches as arguments.
        prepared = functools.partial(train_plan.plan_train, seed_config, genotype)
        get_plan = prepared if seed != seeds[0] else lambda: plan
        results.append(run_seed(folder, seed, seed_config, genotype, argv, get_plan, programs))
      summary = seeds_lib.summary(seeds, results)
      folder.write_json('result.json', summary)
    if folder.writes:
      print(seeds_lib.report(folder.path, summary), file=sys.stderr)
    return summary

  return work


def run_seed(folder, seed, config, genotype, argv, get_plan, programs):
  """The result of one seed, from its folder if it is there."""
  with open_folder(folder.path / f'seed_{seed}', config, genotype, argv) as inner:
    if inner.finished:
      return finished_result(inner)
    if folder.writes:
      print(f'seed {seed}', file=sys.stderr)
    plan = get_plan()
    loop.check_resumable(inner, train_run.identity_of(plan))
    return run_plan(plan, inner, programs)


def open_seeds(workdir, config, genotype, seeds, argv):
  """The folder of several runs; it may have been made with other seeds, but not for one run."""
  cell = genotype.to_dict()
  check_cell(workdir, cell)
  fields = {**config.to_dict(), 'genotype': cell}
  return seeds_lib.open_folder(workdir, fields, seeds, argv, plan_lib.FREE)


# ---- as a function and as a program --------------------------------------------------------------


def run_train(config, workdir, genotype, seeds=None, target_params=None):
  """The whole training program as a function.

  Args:
    config: a ConfigDict as `config.train_config()` gives, or a config file's `get_config()`.
    workdir: the folder of the run; one that was stopped is resumed.
    genotype: a `Genotype`, or what `--genotype` takes: a name of the zoo, a file, or the folder of
      a search.
    seeds: for several runs, in `workdir/seed_0` and so on; None for one, of `config.seed`.
    target_params: a number of parameters for which C is chosen, in place of `model.channels`.

  Returns:
    The content of `result.json`.

  Raises:
    ValueError, OSError: one sentence that names what is wrong.
  """
  return prepare_any(config, workdir, genotype, seeds, target_params=target_params)()


def prepare_any(config, workdir, genotype, seed_list=None, argv=(), target_params=None):
  workdir = pathlib.Path(workdir).absolute()
  if not isinstance(genotype, genotype_lib.Genotype):
    genotype = find_cell.genotype_from(genotype)
  if seed_list is None:
    return prepare_train(config, workdir, genotype, argv, target_params)
  return prepare_seeds(config, workdir, genotype, seed_list, argv, target_params)


def prepare(args):
  if getattr(args, 'eval-only'):
    return trained.prepare_evaluation(args.workdir, getattr(args, 'config', None), args.best)
  if args.best:
    raise ValueError('--best is for --eval-only; a training always ends with its last weights')
  if not args.genotype:
    raise ValueError('--genotype=CELL is required: a name of the zoo, a file, or a search folder')
  seed_list = None if args.seeds is None else seeds_lib.parse(args.seeds)
  target = getattr(args, 'target-params')
  target = None if target is None else find_cell.target_of(target)
  return prepare_any(args.config, args.workdir, args.genotype, seed_list, args.argv, target)


def main():
  given = [re.split('[=.]', word, maxsplit=1)[0].lstrip('-') for word in sys.argv[1:]]
  # The folder of a run knows its config.
  config = 'eval-only' not in given or 'config' in given
  app.run(prepare, config=config, workdir=True, options=OPTIONS)


if __name__ == '__main__':
  main()
