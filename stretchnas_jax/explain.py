"""Explains one edge of a search: `python -m stretchnas_jax.explain RUN 0-3`."""

import types
from collections.abc import Callable

from stretchnas_jax.cli import app
from stretchnas_jax.cli.command_line import TRUST
from stretchnas_jax.machine import output
from stretchnas_jax.runs import explain_edge, json_files, scores

OPTIONS = (
  app.Option('json', False, 'prints JSON for programs'),
  app.Option('measure', True, 'measures the cost of its removal, where the data are there'),
  TRUST,
)


def prepare(args: types.SimpleNamespace) -> Callable[[], None]:
  """Reads the scores; returns the function that measures and prints."""
  cells, edge = explain_edge.parse(args.edge)
  found = scores.load(args.run, args.trust)
  facts = explain_edge.explain(found, cells, edge)

  def work() -> None:
    """Prints the facts."""
    notes = [found.note]
    shown = facts
    if args.measure:
      shown, reason = explain_edge.measured(facts, args.run, args.trust)
      notes.append(reason)
    if args.json:
      output.result(json_files.dumps(explain_edge.to_dict(shown, notes), indent=2))
    else:
      output.result(explain_edge.text(shown, notes))

  return work


def main() -> None:
  """Runs the command."""
  app.run(prepare, config=False, options=OPTIONS, positional=('run', 'edge'))


if __name__ == '__main__':
  main()
