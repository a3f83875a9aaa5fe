"""Times a search or a training here: `python -m stretchnas_jax.benchmark --config=NAME --steps=5`.

It runs the same programs as the run itself, on random images in the shape of the data set, and
needs no data. It prints one JSON object on one line; everything else goes to stderr.
"""

import json
import logging
import os
import platform
import types
from collections.abc import Callable
from typing import Any

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import TRUST
from stretchnas_jax.machine import devices, output
from stretchnas_jax.runs import benchmarking, parts, record

OPTIONS = (
  app.Option('steps', 5, 'how often the time is taken, after a first step that compiles'),
  app.Option('genotype', None, 'cell of a training: a name of the zoo, a file, a search folder'),
  app.Option('profile', None, 'folder for a trace that TensorBoard and Perfetto open'),
  app.Option('evaluation', True, 'time evaluations too, which takes compilations; for the hours'),
  TRUST,
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Checks the config and builds all programs; returns the function that times them."""
  if args.steps < 1:
    raise ValueError(f'--steps is {args.steps}; it must be at least 1')
  own = parts.from_config_file(args.config_file, args.config)
  subject = benchmarking.prepare(args.config, args.genotype, own, args.trust)
  if args.profile is not None:
    os.makedirs(args.profile, exist_ok=True)

  def work() -> None:
    output.say(subject.describe())
    if subject.assumed:
      words = ', '.join(f'{value} {name}' for name, value in subject.assumed.items())
      logging.info('assumed of the images: %s', words)
    found = {'config': args.config_file, 'overrides': args.overrides, 'genotype': args.genotype}
    found |= benchmarking.report(subject, args.steps, args.profile, args.evaluation)
    found |= {
      'assumed': subject.assumed,
      'device': devices.kind(),
      'devices': subject.plan.settings.devices.count,
      'versions': {'python': platform.python_version(), **record.versions()},
    }
    if devices.process()[0] == 0:
      output.result(json.dumps({name: _rounded(value) for name, value in found.items()}))

  return work


def _rounded(value: Any) -> Any:
  """Returns a float, or the floats of a list, rounded to a millionth; other values as they are."""
  if isinstance(value, list):
    return [_rounded(item) for item in value]
  return round(value, 6) if isinstance(value, float) else value


def main() -> None:
  """Runs the command."""
  app.run(prepare, workdir=False, options=OPTIONS, kinds=('search', 'train'))


if __name__ == '__main__':
  main()
