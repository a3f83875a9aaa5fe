"""Writes a page about a run: `python -m stretchnas_jax.report runs/x --out=x.html`."""

import logging
import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import TRUST
from stretchnas_jax.runs import report

OPTIONS = (
  app.Option('out', None, 'the file to write; report.html in the folder of the run'),
  app.Option('force', False, 'replaces a file that this program did not write'),
  app.Option('images', 1000, 'images of a training that are measured for its confusion; 0: none'),
  TRUST,
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Reads the run; returns the function that writes the page."""
  path, out = report.checked(args.run, args.out, args.force)

  def work() -> None:
    """Writes the page."""
    report.write(path, out, images=args.images, trust=args.trust)
    logging.info('wrote %s', out)

  return work


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, options=OPTIONS, positional=('run',))


if __name__ == '__main__':
  main()
