"""Searches a cell: `python -m stretchnas_jax.search --config=FILE --workdir=DIR`."""

import contextlib
import functools
import json
import logging
import sys
import time

import jax
import numpy as np

from stretchnas_jax import app
from stretchnas_jax import plan as plan_lib
from stretchnas_jax.architecture import genotype
from stretchnas_jax.runtime import checkpoint, metrics, parallel
from stretchnas_jax.runtime import workdir as workdir_lib
from stretchnas_jax.views import cells


class Run:
  """A search under way in its folder."""

  def __init__(self, plan, folder, checkpoints):
    self.plan, self.folder, self.checkpoints = plan, folder, checkpoints
    self.backend = plan.config.parallel.backend
    self.key = jax.random.key(plan.config.seed)
    self.lines, self.genotypes = folder.lines('metrics.jsonl'), folder.lines('genotypes.jsonl')
    self.seconds, self.epoch_seconds = 0.0, 0.0
    self.batches, self.last, self.compiled = None, None, set()

  def start(self):
    """The state of the newest checkpoint, or a fresh one; what came after it is cut away."""
    init_key, self.step_key = jax.random.split(self.key)
    search = jax.jit(self.plan.search.init)(init_key)
    position = parallel.replicate(plan_lib.Position(search, plan_lib.zero_sums()), self.backend)
    restored = self.checkpoints.restore_latest(position)
    step, position, meta = restored or (0, position, {})
    self.seconds = meta.get('seconds', 0.0)
    self.epoch_seconds = meta.get('epoch_seconds', 0.0)
    self.lines.cut_back(step)
    self.genotypes.cut_back(step)
    return step, position

  def go(self):
    """Runs to the end; returns the result."""
    plan, config = self.plan, self.plan.config
    step, position = self.start()
    images, labels = plan.dataset.train_images, plan.dataset.train_labels
    data = parallel.replicate(plan_lib.Data(images, labels), self.backend)
    self.programs, self.validation = (
      plan_lib.compile_programs(plan),
      plan_lib.validation_batches(plan),
    )
    writers = [metrics.JsonLines(self.lines)]
    if config.log.tensorboard:
      writers.append(metrics.TensorBoard(self.folder.path / 'tensorboard', step))
    self.writer = metrics.Writers(*writers)
    progress = metrics.Progress(
      plan.num_steps, plan.steps_per_epoch, config.search.batch_size, start_step=step,
      enabled=self.folder.writes,
    )  # fmt: skip
    if step:
      progress.message(f'resumed at step {step} of {plan.num_steps}')
    with progress:
      while step < plan.num_steps:
        step, position = self.advance(step, position, data, progress)
    return self.finish(position, progress)

  def advance(self, step, position, data, progress):
    """Some steps, up to the next call, checkpoint or end of an epoch, and what is due then."""
    config, per_epoch = self.plan.config, self.plan.steps_per_epoch
    epoch, done = divmod(step, per_epoch)
    every = config.checkpoint.every_steps
    count = min(config.search.steps_per_call, per_epoch - done)
    count = min(count, every - step % every) if every else count
    if not done or self.batches is None:
      self.batches = plan_lib.epoch_batches(self.plan, epoch)
    length = min(config.search.steps_per_call, per_epoch)
    indices = plan_lib.chunk_of(self.batches, done, count, length)
    begin = time.perf_counter()
    args = position, data, indices, self.step_key, np.int32(count)
    with self.compiling(progress, 'the search step', steps_inside=True):
      position = self.programs.train(*args)
      loss = float(position.sums['train_loss']) / (done + count)  # waits for the steps
    step += count
    self.epoch_seconds += time.perf_counter() - begin
    self.seconds += time.perf_counter() - begin
    if step % per_epoch:
      progress.update(step, loss=loss)
    else:
      position = self.end_epoch(step, position, data, progress)
    if not step % per_epoch or (every and not step % every):
      clock = {'seconds': self.seconds, 'epoch_seconds': self.epoch_seconds}
      self.checkpoints.save(step, position, clock)
    return step, position

  def compiling(self, progress, what, steps_inside=False):
    """The first call of a program says that it compiles."""
    if what in self.compiled:
      return contextlib.nullcontext()
    self.compiled.add(what)
    return progress.compiling(what, steps_inside)

  def end_epoch(self, step, position, data, progress):
    """Validates, derives and writes a line of each; the sums begin anew."""
    plan, begin = self.plan, time.perf_counter()
    with self.compiling(progress, 'the evaluation'):
      counted = parallel.fetch(self.programs.evaluate(position.search, data, *self.validation))
    arch = parallel.fetch(position.search.arch)
    line = plan_lib.epoch_metrics(plan, position, arch, counted, self.epoch_seconds)
    line['evaluation_seconds'] = time.perf_counter() - begin
    plan_lib.check_finite(line)
    found, notes = genotype.derive(plan.net.space, plan.table, arch.alpha, arch.beta)
    self.writer.write_scalars(step, line)
    as_json = json.loads(genotype.to_json(found))
    self.genotypes.append(
      {'step': step, 'epoch': line['epoch'], 'genotype': as_json, 'notes': notes}
    )
    progress.update(step, loss=line['train_loss'], val=line['val_accuracy'], r=line['penalty'])
    progress.message(genotype.summary(found).replace('\n', ' | '))
    self.epoch_seconds, self.last = 0.0, (line, found, notes)
    zeros = parallel.replicate(plan_lib.zero_sums(), self.backend)
    return plan_lib.Position(position.search, zeros)

  def finish(self, position, progress):
    """Writes the result, last of all `result.json`, which marks the run as done."""
    plan, folder = self.plan, self.folder
    line, found, notes = self.last or self.read_last(position)
    for note in notes:
      logging.warning('%s', note)
    folder.write_text('genotype.json', genotype.to_json(found))
    folder.write_text('cells.svg', cells.svg(found))
    result = {
      'val_accuracy': line['val_accuracy'],
      'epochs': plan.config.search.epochs,
      'seconds': self.seconds,
      'seed': plan.config.seed,
      'supernet_params': sum(x.size for x in jax.tree.leaves(position.search.params)),
      'penalty': line['penalty'],
      'genotype': json.loads(genotype.to_json(found)),
    }
    self.writer.close()
    self.checkpoints.close()
    folder.write_json('result.json', result)
    progress.message(report(folder.path, result, found, notes))
    return result

  def read_last(self, position):
    """What the last epoch gave, for a run that stopped between its last step and its result."""
    arch = parallel.fetch(position.search.arch)
    line = workdir_lib.read(self.lines.path)[-1]
    return line, *genotype.derive(self.plan.net.space, self.plan.table, arch.alpha, arch.beta)


def report(path, result, found, notes):
  """The last words of a search."""
  penalty = result['penalty']
  state = 'every node is reached' if penalty == 0 else 'a node is not reached by the best codes'
  pruned = '; '.join(notes) if notes else 'nothing was pruned'
  return '\n'.join(
    [
      genotype.summary(found),
      f'validation accuracy {result["val_accuracy"]:.4f}; r(beta) {penalty:.3g}, {state}; {pruned}',
      f'{result["seconds"]:.0f} s; the cell is in {path / "genotype.json"}, drawn in cells.svg',
      f'draw it:  python -m stretchnas_jax.draw {path / "genotype.json"} --out=cells.png',
      f'sizes:    python -m stretchnas_jax.describe {path / "genotype.json"}',
    ]
  )


def prepare_search(config, workdir, argv=()):
  """Checks everything, the folder last; returns the function that runs the search."""
  plan = plan_lib.plan_search(config)
  folder = workdir_lib.Workdir.open(
    workdir, config.to_dict(), argv=argv, ignore=('search.steps_per_call', 'checkpoint', 'log')
  )
  if folder.finished:
    return functools.partial(finished_result, folder)

  def work():
    if folder.writes:
      print(plan_lib.describe_plan(plan), file=sys.stderr)
    with checkpoint.Checkpoints(folder.path / 'checkpoints', config.checkpoint.keep) as saved:
      return Run(plan, folder, saved).go()

  return work


def finished_result(folder):
  print(f'{folder.path} holds a finished search; choose another --workdir for a new one')
  return json.loads((folder.path / 'result.json').read_text('utf-8'))


def run_search(config, workdir):
  """The whole search program as a function.

  Args:
    config: a ConfigDict as `config.search_config()` gives, or a config file's `get_config()`.
    workdir: the folder of the run; one that was stopped is resumed.

  Returns:
    The content of `result.json`.

  Raises:
    ValueError, OSError: one sentence that names what is wrong.
  """
  return prepare_search(config, workdir)()


def prepare(args):
  return prepare_search(args.config, args.workdir, args.argv)


def main():
  app.run(prepare)


if __name__ == '__main__':
  main()
