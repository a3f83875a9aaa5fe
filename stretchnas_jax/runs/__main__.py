"""Lists all runs below a folder: `python -m stretchnas_jax.runs FOLDER`."""

import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.machine import output
from stretchnas_jax.runs import json_files, run_table

OPTIONS = (
  app.Option('sort', 'name', 'the column to sort by, for example accuracy'),
  app.Option('json', False, 'prints JSON for programs'),
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Reads all runs; returns the function that prints them."""
  rows = run_table.rows_of(args.folder, args.sort)
  text = json_files.dumps(rows, indent=2) if args.json else run_table.text(rows)
  return lambda: output.result(text)


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, options=OPTIONS, positional=('folder',))


if __name__ == '__main__':
  main()
