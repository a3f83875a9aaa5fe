"""Compares runs: `python -m stretchnas_jax.compare RUN RUN...`."""

import logging
import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import TRUST
from stretchnas_jax.machine import files, output
from stretchnas_jax.runs import compare_runs, json_files, outputs

OPTIONS = (
  app.Option('json', False, 'prints JSON for programs'),
  app.Option('out', None, 'a page to write, FILE.html'),
  app.Option('force', False, 'replaces a file that this program did not write'),
  TRUST,
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Reads the runs; returns the function that prints, and writes the page."""
  out = None
  if args.out is not None:
    if not args.out.endswith('.html'):
      raise ValueError(f'--out is {args.out!r}; its name must end in .html')
    out = outputs.check_free(args.out, outputs.is_marked, args.force)
  runs = compare_runs.read(args.runs, args.trust)

  def work() -> None:
    """Prints the comparison."""
    if out is not None:
      page = f'{compare_runs.page(runs)}<!-- {outputs.MARK} -->\n'
      files.replace(out, outputs.marked(page.encode()))
      logging.info('wrote %s', args.out)
    as_json = json_files.dumps(compare_runs.to_dict(runs), indent=2) if args.json else ''
    output.result(as_json or compare_runs.text(runs))

  return work


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, options=OPTIONS, positional=('runs...',))


if __name__ == '__main__':
  main()
