"""Searches a cell: `python -m stretchnas_jax.search --config=FILE --workdir=DIR`."""

import contextlib
import functools
import json
import logging
import pathlib
import sys

import jax

from stretchnas_jax.cells import genotype
from stretchnas_jax.cli import app
from stretchnas_jax.machine import parallel
from stretchnas_jax.runs import checkpoint, search_plan, search_steps, steps
from stretchnas_jax.runs import loop as loop_lib
from stretchnas_jax.runs import plan as plan_lib
from stretchnas_jax.runs import seeds as seeds_lib
from stretchnas_jax.runs import workdir as workdir_lib
from stretchnas_jax.views import cells

LINES = ('metrics.jsonl', 'genotypes.jsonl')
OPTIONS = (app.Option('seeds', None, 'as 0,1,2: a search of each, with one compilation'),)

# The data sets whose training has a config of another name.
CONFIGS = {'cifar100': 'cifar10', 'imagenet2012': 'imagenet'}


class Run:
  """A search under way in its folder."""

  def __init__(self, plan, folder, checkpoints, programs):
    self.plan, self.folder, self.checkpoints = plan, folder, checkpoints
    self.programs = programs
    self.loop = loop_lib.Loop(
      folder, checkpoints, plan.settings, identity_of(plan), LINES, called=programs.called
    )

  def go(self):
    """Runs to the end; returns the result."""
    feeds, loop = self.plan.feeds, self.loop
    init_key, step_key = jax.random.split(jax.random.key(self.plan.config.seed))
    loop.restore(self.programs.init(init_key))
    step_key = parallel.replicate(step_key, self.plan.settings.backend)
    data = parallel.replicate(feeds.train.data, self.plan.settings.backend)
    self.val_data = steps.place(feeds.val, feeds.train, data, self.plan.settings.backend)
    train = lambda position, chunk, count: steps.run_chunk(
      self.programs.train, position, data, chunk, step_key, count, loop.tell_memory
    )
    loop.run(feeds.train, train, self.end_epoch)
    return self.finish()

  def end_epoch(self, state, line):
    """Validates, derives and writes down the cell."""
    plan, loop = self.plan, self.loop
    with loop.compiling('the evaluation'):
      val = steps.measure(
        self.programs.evaluate, state, self.val_data, plan.feeds.val, plan.settings.steps_per_call
      )
    arch, step = parallel.fetch((state.arch, state.step))
    op_weights, _ = plan.search.mixture(arch, step)
    more = {'val_loss': val['loss'], 'val_accuracy': val['accuracy']}
    more |= search_steps.architecture_metrics(
      arch, plan.table, op_weights, plan.net.space.primitives
    )
    found, notes = self.derive(state)
    loop.lines['genotypes.jsonl'].append(
      {'step': line['step'], 'epoch': line['epoch'], 'genotype': found.to_dict(), 'notes': notes}
    )
    loop.progress.message(genotype.summary(found).replace('\n', ' | '))
    return more, {'val': val['accuracy'], 'r': more['penalty']}

  def derive(self, state):
    return self.plan.search.decode(*parallel.fetch((state.arch, state.step)))

  def finish(self):
    """Writes the result, last of all `result.json`, which marks the run as done."""
    plan, folder, loop = self.plan, self.folder, self.loop
    found, notes = self.derive(loop.position.state)
    for note in notes:
      logging.warning('%s', note)
    folder.write_text('genotype.json', genotype.to_json(found))
    folder.write_text('cells.svg', cells.svg(found))
    result = {
      'val_accuracy': loop.last['val_accuracy'],
      'epochs': plan.settings.epochs,
      'seconds': loop.seconds,
      'seed': plan.config.seed,
      'supernet_params': sum(x.size for x in jax.tree.leaves(loop.position.state.params)),
      'penalty': loop.last['penalty'],
      'genotype': found.to_dict(),
    }
    self.checkpoints.close()
    folder.write_json('result.json', result)
    loop.progress.message(report(folder.path, plan.config.data, result, found, notes))
    return result


def identity_of(plan):
  """In what a checkpoint must agree with a search."""
  return plan_lib.identity_of(plan.feeds, plan.config.to_dict())


def train_command(data, path):
  """How the cell of a search on `data`, a config's group, is trained."""
  name = CONFIGS.get(data.name, data.name)
  words = [f'python -m stretchnas_jax.train --config=configs/train_{name}.py']
  words += [f'--config.data.name={data.name}'] * (data.name == 'cifar100')
  words += ['--config.data.stream=True'] * data.stream
  words += [f'--config.data.path={data.path}'] * bool(data.path)
  return ' '.join([*words, f'--workdir={path}-trained', f'--genotype={path / "genotype.json"}'])


def report(path, data, result, found, notes):
  """The last words of a search."""
  penalty = result['penalty']
  state = 'every node is reached' if penalty == 0 else 'a node is not reached by the best codes'
  pruned = '; '.join(notes) if notes else 'nothing was pruned'
  return '\n'.join(
    [
      genotype.summary(found),
      f'validation accuracy {result["val_accuracy"]:.4f}; r(beta) {penalty:.3g}, {state}; {pruned}',
      f'{result["seconds"]:.0f} s; the cell is in {path / "genotype.json"}, drawn in cells.svg',
      f'train it: {train_command(data, path)}',
      f'draw it:  python -m stretchnas_jax.draw {path / "genotype.json"} --out=cells.png',
      f'sizes:    python -m stretchnas_jax.describe {path / "genotype.json"}',
    ]
  )


def prepare_search(config, workdir, argv=()):
  """Checks everything, the folder last; returns the function that runs the search."""
  plan = search_plan.plan_search(config)
  folder = workdir_lib.Workdir.open(workdir, config.to_dict(), argv=argv, ignore=plan_lib.FREE)
  with contextlib.ExitStack() as until_work:
    until_work.enter_context(folder)
    if folder.finished:
      return functools.partial(finished_result, folder)
    loop_lib.check_resumable(folder, identity_of(plan))
    until_work.pop_all()
  return functools.partial(run_plan, plan, folder)


def run_plan(plan, folder, programs=None):
  """Searches as planned, and closes the folder.

  `programs` are those of a plan that differs in the seed alone.
  """
  if folder.writes:
    print(search_plan.describe_plan(plan), file=sys.stderr)
  saved = checkpoint.Checkpoints(folder.path / 'checkpoints', plan.config.checkpoint.keep)
  with folder, contextlib.closing(plan.feeds), saved:
    return Run(plan, folder, saved, programs or search_steps.compile_programs(plan)).go()


def finished_result(folder):
  print(f'{folder.path} holds a finished search; choose another --workdir for a new one')
  return json.loads((folder.path / 'result.json').read_text('utf-8'))


def prepare_seeds(config, workdir, seeds, argv=()):
  """As `prepare_search`, for a run of each seed in `workdir/seed_0` and so on."""
  configs = [seeds_lib.with_seed(config, seed) for seed in seeds]
  plan = search_plan.plan_search(configs[0])
  folder = seeds_lib.open_folder(workdir, config.to_dict(), seeds, argv, plan_lib.FREE)
  if seeds_lib.finished(folder, seeds):
    folder.close()
    return functools.partial(finished_result, folder)

  def work():
    with folder:
      # The first plan's programs serve all: they take the key and the batches as arguments.
      programs, results = search_steps.compile_programs(plan), []
      for seed_config in configs:
        get_plan = functools.partial(search_plan.plan_search, seed_config)
        get_plan = (lambda: plan) if seed_config is configs[0] else get_plan
        results.append(run_seed(folder, seed_config, argv, get_plan, programs))
      summary = seeds_lib.summary(seeds, results, seeds_lib.SEARCHED)
      folder.write_json('result.json', summary)
    if folder.writes:
      print(seeds_lib.report(folder.path, summary), file=sys.stderr)
    return summary

  return work


def run_seed(folder, config, argv, get_plan, programs):
  """The result of one seed, from its folder if it is there."""
  path = folder.path / f'seed_{config.seed}'
  with workdir_lib.Workdir.open(path, config.to_dict(), argv=argv, ignore=plan_lib.FREE) as inner:
    if inner.finished:
      return finished_result(inner)
    plan = get_plan()
    loop_lib.check_resumable(inner, identity_of(plan))
    return run_plan(plan, inner, programs)


def run_search(config, workdir, seeds=None):
  """The whole search program as a function.

  Args:
    config: a ConfigDict as `config.search_config()` gives, or a config file's `get_config()`.
    workdir: the folder of the run; one that was stopped is resumed.
    seeds: for several runs, in `workdir/seed_0` and so on; None for one, of `config.seed`.

  Returns:
    The content of `result.json`.

  Raises:
    ValueError, OSError: one sentence that names what is wrong.
  """
  return prepare_any(config, workdir, seeds)()


def prepare_any(config, workdir, seed_list=None, argv=()):
  workdir = pathlib.Path(workdir).absolute()
  if seed_list is None:
    return prepare_search(config, workdir, argv)
  return prepare_seeds(config, workdir, seed_list, argv)


def prepare(args):
  seed_list = None if args.seeds is None else seeds_lib.parse(args.seeds)
  return prepare_any(args.config, args.workdir, seed_list, args.argv)


def main():
  app.run(prepare, options=OPTIONS)


if __name__ == '__main__':
  main()
