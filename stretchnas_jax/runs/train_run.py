"""A training under way, and what it leaves."""

import jax

from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.learning import training
from stretchnas_jax.machine import parallel
from stretchnas_jax.runs import json_files, steps, train_steps
from stretchnas_jax.runs import loop as loop_lib
from stretchnas_jax.runs import plan as plan_lib
from stretchnas_jax.views import cells


class Run:
  """A training under way in its folder."""

  def __init__(self, plan, folder, checkpoints, programs):
    self.plan, self.folder, self.checkpoints = plan, folder, checkpoints
    self.programs, self.data = programs, {}
    self.loop = loop_lib.Loop(
      folder, checkpoints, plan.settings, identity_of(plan), called=programs.called
    )

  def go(self):
    """Runs to the end; returns the result."""
    feeds, loop, programs = self.plan.feeds, self.loop, self.programs
    init_key, step_key = jax.random.split(jax.random.key(self.plan.config.seed))
    loop.restore(programs.init(init_key))
    self.folder.write_text('genotype.json', genotype_lib.to_json(self.plan.genotype))
    self.folder.write_text('cells.svg', cells.svg(self.plan.genotype))
    step_key = parallel.replicate(step_key, self.plan.settings.backend)
    data = self.data['train'] = parallel.replicate(feeds.train.data, self.plan.settings.backend)
    train = lambda position, chunk, count: steps.run_chunk(
      programs.train, position, data, chunk, step_key, count, loop.tell_memory
    )
    loop.run(feeds.train, train, self.end_epoch)
    return self.finish()

  def end_epoch(self, state, line):
    """Validates where there is a hold-out; looks at the test images when they are due."""
    more, shown, train = {}, {}, self.plan.config.train
    if self.plan.feeds.val is not None:
      more |= self.measure('val', state)
      shown['val'] = more['val_accuracy']
      self.keep_best(state, more['val_accuracy'])
    more |= dict.fromkeys(f'test_{name}' for name in self.measures)
    due = line['epoch'] == train.epochs or train.test_every_epoch
    if due and self.plan.feeds.test is not None:
      more |= self.measure('test', state)
      shown['test'] = more['test_accuracy']
    return more, shown

  @property
  def measures(self):
    """What is measured of a part of the data."""
    many = self.plan.net.num_classes >= training.TOP5_CLASSES
    return ('loss', 'accuracy', *('top5_accuracy',) * many)

  def keep_best(self, state, accuracy):
    """Keeps the weights, in the checkpoints to come, if they are the most accurate so far."""
    position, backend = self.loop.position, self.plan.settings.backend
    best = train_steps.better(position.best, state, accuracy)
    self.loop.position = position._replace(best=parallel.replicate(best, backend))

  def measure(self, part, state):
    """Loss and accuracies on 'val' or 'test', under the names of the lines of metrics."""
    feeds, settings = self.plan.feeds, self.plan.settings
    feed = getattr(feeds, part)
    if part not in self.data:
      learning = self.data['train']
      self.data[part] = steps.place(feed, feeds.train, learning, settings.backend)
    with self.loop.compiling(f'the evaluation ({part})'):
      found = steps.measure(
        getattr(self.programs, part), state, self.data[part], feed, settings.steps_per_call
      )
    return {f'{part}_{name}': found[name] for name in self.measures}

  def finish(self):
    """Writes `result.json`, which marks the run as done."""
    plan, loop = self.plan, self.loop
    result = accuracies(json_files.read_lines(self.folder.path / 'metrics.jsonl'))
    result |= {
      'epochs': plan.settings.epochs,
      'seconds': loop.seconds,
      'seed': plan.config.seed,
      **plan.sizes._asdict(),
      'channels': plan.net.channels,
      'num_layers': plan.net.num_layers,
      'genotype': plan.genotype.to_dict(),
    }
    self.checkpoints.close()
    self.folder.write_json('result.json', result)
    loop.progress.message(report(self.folder.path, result))
    return result


def identity_of(plan):
  """In what a checkpoint must agree with a training."""
  cell = plan.genotype.to_dict()
  return {'genotype': cell, **plan_lib.identity_of(plan.feeds, plan.config.to_dict())}


def accuracies(lines):
  """What the result says of all epochs: of the last weights, and of the best under its own name."""
  test = lines[-1]['test_accuracy']
  found = {
    'test_accuracy': test,
    'test_error_percent': None if test is None else 100 * (1 - test),
  }
  if (top5 := lines[-1].get('test_top5_accuracy')) is not None:
    found |= {'test_top5_accuracy': top5, 'test_top5_error_percent': 100 * (1 - top5)}
  if 'val_accuracy' in lines[-1]:
    best = max(lines, key=lambda line: line['val_accuracy'])  # the first of equal ones
    found |= {
      'last_val_accuracy': lines[-1]['val_accuracy'],
      'best_val_accuracy': best['val_accuracy'],
      'best_epoch': best['epoch'],
    }
  return found


def report(path, result):
  """The last words of a training."""
  words = []
  if result['test_accuracy'] is not None:
    words += [f'test accuracy {result["test_accuracy"]:.4f} (error '
              f'{result["test_error_percent"]:.2f} %)']  # fmt: skip
  if 'test_top5_accuracy' in result:
    words += [f'top-5 {result["test_top5_accuracy"]:.4f}']
  if 'best_epoch' in result:
    words += [
      f'validation accuracy {result["last_val_accuracy"]:.4f} at the end, '
      f'{result["best_val_accuracy"]:.4f} in epoch {result["best_epoch"]}'
    ]
  return '\n'.join(
    [
      '; '.join(words),
      f'{result["params"]:,} weights; {result["seconds"]:.0f} s; all of it is in {path}',
      f"use it:    stretchnas_jax.load_trained('{path}')",
      f'export it: python -m stretchnas_jax.export {path} --out=model.stablehlo',
    ]
  )
