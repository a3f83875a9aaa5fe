"""Reads a search by other decodings: `python -m stretchnas_jax.what_if RUN`."""

import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import TRUST
from stretchnas_jax.machine import output
from stretchnas_jax.runs import json_files, supernet_accuracy, what_if

OPTIONS = (
  app.Option('json', False, 'prints JSON for programs'),
  app.Option('accuracy', False, "measures each cell with the supernet's weights; needs the data"),
  TRUST,
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Decodes the search; returns the function that measures, where asked for, and prints."""
  answer = what_if.ask(args.run, args.trust)

  def work() -> None:
    """Prints the rows."""
    found = supernet_accuracy.measured(answer, args.trust) if args.accuracy else answer
    as_json = json_files.dumps(what_if.to_dict(found), indent=2)
    output.result(as_json if args.json else what_if.text(found))

  return work


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, options=OPTIONS, positional=('run',))


if __name__ == '__main__':
  main()
