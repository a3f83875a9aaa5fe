"""A training of a fixed cell as a `Task`: its plan, its programs, its epoch ends, its result."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype as genotype_lib
from stretchnas_jax.learning import training as training_lib
from stretchnas_jax.networks import initializers
from stretchnas_jax.runs import commands, json_files, screen, steps, train_plan
from stretchnas_jax.runs.runner import Run
from stretchnas_jax.runs.task import Plan, Programs, Task
from stretchnas_jax.views import cells

_SUMS = ('train_loss', 'train_accuracy')


class Best(NamedTuple):
  """The weights after the epoch with the highest validation accuracy, the first of equal ones.

  Attributes:
    params: parameters of the network.
    batch_stats: its running averages.
    accuracy: -1 before the first epoch is done.
    step: after which they were taken.
  """

  params: PyTree
  batch_stats: PyTree
  accuracy: Any
  step: Any


def train_task(
  genotype: genotype_lib.AnyGenotype, target_params: float | int | None = None
) -> Task:
  """Returns the training of a cell as a task.

  Args:
    genotype: the cell.
    target_params: a number of parameters, without the auxiliary head, for which C is chosen; None
      takes `config.model.channels`.
  """
  return Task(
    kind='train',
    noun='training',
    line_files=('metrics.jsonl',),
    shared_fields=(
      'epochs', 'params', 'macs', 'flops_ptflops', 'channels', 'num_layers', 'genotype',
    ),
    defaults=config_lib.train_config,
    plan=functools.partial(
      train_plan.plan_train, genotype=genotype, target_params=target_params
    ),
    describe=train_plan.describe_plan,
    compile=compile_programs,
    evaluations=_evaluations,
    begin=_begin,
    end_epoch=_end_epoch,
    result=_result,
    report=_report,
    first=_first,
  )  # fmt: skip


def compile_programs(plan: Plan) -> Programs:
  """Returns the compiled parts of a training; those of one seed serve every other."""
  training, feeds, devices = plan.objects.training, plan.feeds, plan.settings.devices
  first = _first(plan)
  return Programs(
    initializers.compiled(lambda key: first(key)),
    steps.compile_step(training.step, lambda fields: fields['train'], feeds.train, devices),
    {
      part: steps.compile_evaluation(training.evaluate, feed, devices)
      for part in ('val', 'test')
      if (feed := getattr(feeds, part)) is not None
    },
    others={},
  )


def _first(plan: Plan) -> Callable[[PRNGKeyArray], steps.Position]:
  """Returns the function that gives the position before the first step."""
  keep_best = plan.feeds.val is not None
  return functools.partial(first_position, plan.objects.training, keep_best=keep_best)


def first_position(
  training: training_lib.Training, key: PRNGKeyArray, *, keep_best: bool
) -> steps.Position:
  """Returns the position before the first step.

  Args:
    training: the functions of the training.
    key: of the initial values.
    keep_best: makes room for the weights of the best epoch.
  """
  state, best = training.init(key), None
  if keep_best:
    params, batch_stats = jax.tree.map(jnp.zeros_like, (state.params, state.batch_stats))
    best = Best(params, batch_stats, jnp.float32(-1), jnp.int32(0))
  return steps.Position(state, steps.zero_sums(_SUMS), best)


def better(best: Best, state: training_lib.TrainState, accuracy: float) -> Best:
  """Returns copies of the weights of a state where these are more accurate, else `best`.

  Args:
    best: the most accurate weights so far.
    state: of the training, after an epoch.
    accuracy: on the validation images, after that epoch.
  """
  exact = np.float32(accuracy)
  if exact <= np.asarray(best.accuracy):
    return best
  # Copies: the next step reuses the memory of its state.
  params, batch_stats, step = jax.tree.map(jnp.copy, (state.params, state.batch_stats, state.step))
  return Best(params, batch_stats, exact, step)


def _evaluations(plan: Plan) -> dict[str, int]:
  """A hold-out is measured every epoch; test images once, unless the config says otherwise."""
  epochs = plan.settings.epochs
  tests = epochs if plan.config.train.test_every_epoch else 1
  times = {'val': epochs, 'test': tests}
  return {part: n for part, n in times.items() if getattr(plan.feeds, part) is not None}


def _begin(run: Run) -> None:
  """Writes down the cell that is trained."""
  genotype = run.plan.objects.net.genotype
  run.folder.write_text('genotype.json', genotype_lib.to_json(genotype))
  run.folder.write_text('cells.svg', cells.svg(genotype))


def _end_epoch(run: Run, state: Any, line: dict) -> tuple[dict, dict]:
  """Validates where there is a hold-out; measures the test images when they are due."""
  more, shown, train = {}, {}, run.plan.config.train
  names = _measured(run.plan)
  if run.plan.feeds.val is not None:
    more |= _measure(run, 'val', state, names)
    shown['val'] = more['val_accuracy']
    position = run.loop.position
    best = better(position.best, state, more['val_accuracy'])
    run.loop.position = position._replace(best=run.plan.settings.devices.replicate(best))
  more |= dict.fromkeys(f'test_{name}' for name in names)
  due = line['epoch'] == train.epochs or train.test_every_epoch
  if due and run.plan.feeds.test is not None:
    more |= _measure(run, 'test', state, names)
    shown['test'] = more['test_accuracy']
  return more, {**shown, 'row': screen.training_row(line | more, train.epochs)}


def _measured(plan: Plan) -> tuple[str, ...]:
  """Returns the names of the figures that are measured on a part of the data."""
  many = plan.objects.net.num_classes >= training_lib.TOP5_CLASSES
  return ('loss', 'accuracy', 'top5_accuracy') if many else ('loss', 'accuracy')


def _measure(run: Run, part: str, state: Any, names: tuple[str, ...]) -> dict:
  found = run.measure(part, state)
  return {f'{part}_{name}': found[name] for name in names}


def _result(run: Run) -> dict:
  plan, loop = run.plan, run.loop
  lines = json_files.read_lines(run.folder.path / 'metrics.jsonl')
  best = plan.settings.devices.fetch(loop.position.best)
  return accuracies(loop.last, best, plan.settings.steps_per_epoch, lines) | {
    'epochs': plan.settings.epochs,
    'seconds': loop.seconds,
    'seed': plan.config.seed,
    **plan.objects.sizes._asdict(),
    'channels': plan.objects.net.channels,
    'num_layers': plan.objects.net.num_layers,
    'genotype': plan.objects.net.genotype.to_dict(),
  }


def accuracies(last: dict, best: Best | None, steps_per_epoch: int, lines: list[dict]) -> dict:
  """Returns the accuracies of a result: of the last weights, and of the best validation epoch.

  The checkpoint decides which epoch was the best. A changed line of metrics changes no result.

  Args:
    last: the line of the last epoch.
    best: the weights of the best epoch, on the host; None where nothing is held out.
    steps_per_epoch: of the run.
    lines: of all epochs. They have more digits than the checkpoint.
  """
  test = last['test_accuracy']
  found = {
    'test_accuracy': test,
    'test_error_percent': None if test is None else 100 * (1 - test),
  }
  if (top5 := last.get('test_top5_accuracy')) is not None:
    found |= {'test_top5_accuracy': top5, 'test_top5_error_percent': 100 * (1 - top5)}
  if best is None:
    return found
  epoch, accuracy = int(best.step) // steps_per_epoch, float(best.accuracy)
  for line in lines:
    written = line.get('val_accuracy')
    if line.get('epoch') == epoch and isinstance(written, float):
      accuracy = written if np.float32(written) == np.float32(best.accuracy) else accuracy
  return found | {
    'last_val_accuracy': last['val_accuracy'],
    'best_val_accuracy': accuracy,
    'best_epoch': epoch,
  }


def _report(run: Run, result: dict) -> str:
  """Returns the last words of a training."""
  path, words = run.folder.path, []
  options = {'out': 'model.stablehlo', **commands.trust(run.plan.parts)}
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
      f'use it:    stretchnas_jax.load_trained({str(path)!r})',
      f'export it: {commands.command("export", [path], options=options)}',
    ]
  )
