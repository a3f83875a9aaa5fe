"""Searches a cell: `python -m stretchnas_jax.search --config=NAME --workdir=DIR`."""

import functools
import json
import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import Option
from stretchnas_jax.machine import output
from stretchnas_jax.runs import dry_run, entry_points, parts, seeds

OPTIONS = (
  Option('seeds', None, 'for example 0,1,2: a search of each; on several devices, at once'),
  Option('start-from', None, 'begin with weights, alpha and beta of the search in this folder'),
  Option('dry-run', False, 'say what would be done, and do nothing; it needs no --workdir'),
  Option('json', False, 'with --dry-run: one JSON object instead of lines'),
)


def prepare(args: types.SimpleNamespace) -> Callable[[], object]:
  """Checks everything that the command line asks for; returns the function that searches."""
  own = parts.from_config_file(args.config_file, args.config)
  if getattr(args, 'dry-run'):
    return functools.partial(_tell, dry_run.describe(args.config, own), args.json)
  if args.json:
    raise ValueError('--json goes with --dry-run only')
  return entry_points.prepare_search(
    args.config,
    args.workdir,
    None if args.seeds is None else seeds.parse(args.seeds),
    parts=own,
    argv=args.argv,
    start_from=getattr(args, 'start-from'),
  )


def _tell(found: dict, as_json: bool) -> None:
  """Writes what a search would do."""
  text = found.pop('text')
  output.result(json.dumps(found) if as_json else text)


def main() -> None:
  """Runs the command."""
  app.run(prepare, options=OPTIONS, kinds=('search',))


if __name__ == '__main__':
  main()
