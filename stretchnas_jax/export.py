"""Exports a trained network: `python -m stretchnas_jax.export RUN --out=model.stablehlo`.

StableHLO has the weights inside, and `jax.export.deserialize` reads it with jax alone.
"""

import logging
import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import TRUST
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import export, export_forms, trained
from stretchnas_jax.runs.export import export_trained

__all__ = ['OPTIONS', 'export_trained', 'main', 'prepare']

OPTIONS = (
  app.Option('out', 'model.stablehlo', 'the file to write'),
  app.Option(
    'to', None, 'stablehlo, torch, onnx, safetensors or dot; else the ending of --out tells it'
  ),
  app.Option('best', False, 'the weights of the best epoch; needs data.holdout in the training'),
  app.Option('force', False, 'replaces files that no export wrote'),
  TRUST,
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Checks the run and the path; returns the function that exports."""
  to = export_forms.form_of(args.out, args.to)
  if to == 'stablehlo':
    export.check_path(args.out, args.force)
  else:
    export_forms.check_paths(args.out, to, args.force)
  if to != 'dot':
    trained.read_run(args.workdir, args.best, trust=args.trust)

  def work() -> None:
    """Writes the files."""
    given = {'best': args.best, 'trust': args.trust, 'force': args.force}
    if to == 'stablehlo':
      export_trained(args.workdir, args.out, **given)
      remark = f'JAX promises to read it until {export.readable_until()}'
    else:
      with faults.checking():  # a form cannot hold every run, or needs another package
        remark = export_forms.export_as(args.workdir, args.out, to, **given)
    logging.info('wrote %s%s', args.out, f'; {remark}' if remark else '')

  return work


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, workdir=False, options=OPTIONS, positional=('workdir',))


if __name__ == '__main__':
  main()
