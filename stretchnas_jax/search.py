"""Searches a cell: `python -m stretchnas_jax.search --config=NAME --workdir=DIR`."""

import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import Option
from stretchnas_jax.runs import entry_points, parts, seeds

OPTIONS = (
  Option('seeds', None, 'for example 0,1,2: a search of each, with one compilation'),
  Option('start-from', None, 'begin with weights, alpha and beta of the search in this folder'),
)


def prepare(args: types.SimpleNamespace) -> Callable[[], object]:
  """Checks everything that the command line asks for; returns the function that searches."""
  return entry_points.prepare_search(
    args.config,
    args.workdir,
    None if args.seeds is None else seeds.parse(args.seeds),
    parts=parts.from_config_file(args.config_file, args.config),
    argv=args.argv,
    start_from=getattr(args, 'start-from'),
  )


def main() -> None:
  """Runs the command."""
  app.run(prepare, options=OPTIONS, kinds=('search',))


if __name__ == '__main__':
  main()
