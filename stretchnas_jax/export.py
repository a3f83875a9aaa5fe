"""Exports a trained network: `python -m stretchnas_jax.export WORKDIR --out=model.stablehlo`.

The file holds StableHLO with the weights inside; `jax.export.deserialize` reads it with jax alone.
"""

import logging
import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import TRUST
from stretchnas_jax.runs import export, trained
from stretchnas_jax.runs.export import export_trained

__all__ = ['OPTIONS', 'export_trained', 'main', 'prepare']

OPTIONS = (
  app.Option('out', 'model.stablehlo', 'the file to write'),
  app.Option('best', False, 'the weights of the best epoch; needs data.holdout in the training'),
  app.Option('force', False, 'replaces files that no export wrote'),
  TRUST,
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Checks the run and the path; returns the function that exports."""
  export.check_path(args.out, args.force)
  trained.read_run(args.workdir, args.best, trust=args.trust)

  def work() -> None:
    """Writes the files."""
    export_trained(args.workdir, args.out, best=args.best, trust=args.trust, force=args.force)
    logging.info('wrote %s', args.out)

  return work


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, workdir=False, options=OPTIONS, positional=('workdir',))


if __name__ == '__main__':
  main()
