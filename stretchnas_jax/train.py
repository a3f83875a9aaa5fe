"""Trains a cell: `python -m stretchnas_jax.train --config=NAME --workdir=DIR --genotype=CELL`."""

import re
import sys
import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import TRUST, Option
from stretchnas_jax.runs import entry_points, evaluation, find_cell, parts, seeds

OPTIONS = (
  Option('genotype', None, 'the cell: a name of the zoo, a file, or the folder of a search'),
  Option(
    'seeds',
    None,
    'for example 0,1,2: a training of each, and their mean; on several devices, at once',
  ),
  Option('target-params', None, 'choose C for this number of parameters, for example 3.5e6'),
  Option('eval-only', False, 'only measure the newest checkpoint of the folder'),
  Option('start-from', None, 'begin with the weights of the training in this folder'),
  Option('best', False, 'with --eval-only: measure the weights of the best epoch'),
  TRUST,
)


def prepare(args: types.SimpleNamespace) -> Callable[[], object]:
  """Checks everything that the command line asks for; returns the function that trains."""
  if getattr(args, 'eval-only'):
    config = getattr(args, 'config', None)
    own = None if config is None else parts.from_config_file(args.config_file, config)
    own = own if own is not None and own.names() else None
    return evaluation.prepare_evaluation(args.workdir, config, args.best, own, args.trust)
  if args.best:
    raise ValueError('--best is for --eval-only; a training always ends with its last weights')
  if not args.genotype:
    raise ValueError('--genotype=CELL is required: a name of the zoo, a file, or a search folder')
  target = getattr(args, 'target-params')
  return entry_points.prepare_train(
    args.config,
    args.workdir,
    args.genotype,
    None if args.seeds is None else seeds.parse(args.seeds),
    None if target is None else find_cell.target_of(target),
    parts=parts.from_config_file(args.config_file, args.config),
    trust=args.trust,
    argv=args.argv,
    start_from=getattr(args, 'start-from'),
  )


def main() -> None:
  """Runs the command; `--eval-only` needs no config, since the folder of a run knows its own."""
  given = [re.split('[=.]', word, maxsplit=1)[0].lstrip('-') for word in sys.argv[1:]]
  config = 'eval-only' not in given or 'config' in given
  app.run(prepare, config=config, workdir=True, options=OPTIONS, kinds=('train',))


if __name__ == '__main__':
  main()
