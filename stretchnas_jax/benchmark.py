"""Times a search or a training here: `python -m stretchnas_jax.benchmark --config=NAME --steps=5`.

It runs the same programs as the run itself, on random images in the shape of the data set, and
needs no data. It prints one JSON object on one line; everything else goes to stderr. With
`--target=h100` or `--target=v5e:2x2` it compiles the step for chips that are not here.
"""

import contextlib
import json
import logging
import os
import platform
import types
from collections.abc import Callable
from typing import Any

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import TRUST
from stretchnas_jax.machine import compiler_process, devices, output, targets
from stretchnas_jax.runs import benchmarking, parts, record, target_benchmark

OPTIONS = (
  app.Option('steps', 5, 'how often the time is taken, after a first step that compiles'),
  app.Option('genotype', None, 'cell of a training: a name of the zoo, a file, a search folder'),
  app.Option('profile', None, 'folder for a trace that TensorBoard and Perfetto open'),
  app.Option('evaluation', True, 'time evaluations too, which takes compilations; for the hours'),
  app.Option(
    'target', None, 'a chip that need not be here, h100, a100, h200, b200, v5e:2x2 ...: compiles '
    'for it and tells whether the step fits and how long it takes at least',
  ),
  TRUST,
)  # fmt: skip


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Checks the config and builds all programs; returns the function that times them."""
  if args.steps < 1:
    raise ValueError(f'--steps is {args.steps}; it must be at least 1')
  if args.target is not None:
    return _prepare_target(args, targets.parse(args.target))
  own = parts.from_config_file(args.config_file, args.config)
  subject = benchmarking.prepare(args.config, args.genotype, own, args.trust)
  if args.profile is not None:
    os.makedirs(args.profile, exist_ok=True)

  def work() -> None:
    output.say(subject.describe())
    if subject.assumed:
      words = ', '.join(f'{value} {name}' for name, value in subject.assumed.items())
      logging.info('assumed of the images: %s', words)
    found = _asked(args)
    found |= benchmarking.report(subject, args.steps, args.profile, args.evaluation)
    found |= {
      'assumed': subject.assumed,
      'device': devices.kind(),
      'devices': subject.plan.settings.devices.count,
      'versions': _versions(),
    }
    if devices.process()[0] == 0:
      output.result(_line(found))

  return work


def _prepare_target(args: types.SimpleNamespace, target: targets.Target) -> Callable[[], None]:
  """Returns the function that compiles for a target, in a process of its own.

  Args:
    args: the command line.
    target: the chips.
  """
  if args.profile is not None:
    raise ValueError('--profile takes a trace on the device; leave it out with --target')
  if args.distributed is not None:
    raise ValueError('--distributed is for a job that runs; leave it out with --target')
  targets.check_installed(target)
  if compiler_process.is_here(target):
    return _prepare_here(args, target)

  def work() -> None:
    output.say(f'compiling for {target.name}, which takes minutes for a large step ...')
    line = compiler_process.run('stretchnas_jax.benchmark', args.argv[1:], target)
    output.result(line)

  return work


def _prepare_here(args: types.SimpleNamespace, target: targets.Target) -> Callable[[], None]:
  """Returns the function that compiles for a target in this process.

  Args:
    args: the command line.
    target: the chips.
  """
  subject = benchmarking.prepare_target(
    args.config, args.genotype, parts.from_config_file(args.config_file, args.config), args.trust,
    target,
  )  # fmt: skip

  def work() -> None:
    output.say(subject.describe())
    with contextlib.closing(subject.plan):
      found = target_benchmark.report(subject.task, subject.plan, target)
    output.say('\n'.join(target_benchmark.words(found, subject.task.kind)))
    found |= {'optimization_level': os.environ.get(compiler_process.LEVEL)}
    output.result(
      _line(_asked(args) | found | {'assumed': subject.assumed, 'versions': _versions()})
    )

  return work


def _asked(args: types.SimpleNamespace) -> dict[str, Any]:
  """Returns the request: the config, its overrides and the cell."""
  return {'config': args.config_file, 'overrides': args.overrides, 'genotype': args.genotype}


def _versions() -> dict[str, str | None]:
  return {'python': platform.python_version(), **record.versions()}


def _line(found: dict[str, Any]) -> str:
  """Returns figures as one line of JSON."""
  return json.dumps({name: _rounded(value) for name, value in found.items()})


def _rounded(value: Any) -> Any:
  """Returns a float, or the floats of a list, rounded to a millionth; other values as they are."""
  if isinstance(value, list):
    return [_rounded(item) for item in value]
  if isinstance(value, dict):
    return {name: _rounded(item) for name, item in value.items()}
  return round(value, 6) if isinstance(value, float) else value


def main() -> None:
  """Runs the command."""
  app.run(
    prepare, workdir=False, options=OPTIONS, kinds=('search', 'train'),
    needs_devices=_needs_devices,
  )  # fmt: skip


def _needs_devices(args: types.SimpleNamespace) -> bool:
  """Returns False for a process that has its work done by another one."""
  return args.target is None or compiler_process.is_here(targets.parse(args.target))


if __name__ == '__main__':
  main()
