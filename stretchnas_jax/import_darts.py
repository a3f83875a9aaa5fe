"""Reads weights of DARTS' PyTorch code: `python -m stretchnas_jax.import_darts WEIGHTS`.

It writes the folder of a training whose first checkpoint has these weights. So `train --eval-only`
measures them, `export` carries them on, and `train` in that folder trains them further.
"""

import logging
import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.runs import commands, import_darts

__all__ = ['OPTIONS', 'main', 'prepare']

OPTIONS = (app.Option('genotype', None, 'the cell of the network: a name of the zoo, or a file'),)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Checks the command line; returns the function that reads and writes."""
  if not args.genotype:
    raise ValueError('--genotype=CELL is required: a name of the zoo, or a file')
  given = args.weights, args.genotype, args.config, args.workdir, args.argv
  ready = import_darts.planned(*given)

  def work() -> None:
    """Writes the folder."""
    net = ready()
    logging.info(
      'read a network of %d cells, C %d, for %d classes; measure it: %s',
      net.num_layers, net.channels, net.num_classes,
      commands.command('train', options={'workdir': args.workdir, 'eval-only': True}),
    )  # fmt: skip

  return work


def main() -> None:
  """Runs the command."""
  app.run(
    prepare, config=True, workdir=True, options=OPTIONS, positional=('weights',), kinds=('train',)
  )


if __name__ == '__main__':
  main()
