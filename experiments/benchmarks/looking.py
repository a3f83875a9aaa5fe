"""Measures what it costs to look at searches: `python -m experiments.benchmarks.looking`.

A search on digits runs for a few epochs. Then the program measures how long one epoch's line of
scores takes, `what_if` without accuracies, and the page of 200 epochs, for which the lines of the
search are repeated. It writes looking.json and looking.md.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import stretchnas_jax
from experiments.benchmarks import processes
from stretchnas_jax.config import files
from stretchnas_jax.runs import history, json_files, report, trained, what_if
from stretchnas_jax.runs.workdir import Workdir

_LINES = ('metrics.jsonl', 'genotypes.jsonl', history.SCORES)
_EPOCHS = 200  # of the page


def _median(work: Callable[[], Any], rounds: int) -> float:
  """Returns the median of the seconds that a function takes."""
  seconds = []
  for _ in range(rounds):
    begin = time.perf_counter()
    work()
    seconds.append(time.perf_counter() - begin)
  return statistics.median(seconds)


def writing(run: pathlib.Path, rounds: int) -> tuple[float, int]:
  """Returns the seconds and the bytes of one epoch's line of scores.

  Args:
    run: the folder of a search.
    rounds: how often it is measured.
  """
  saved = trained.read_run(run)
  search, state = saved.objects.search, saved.state
  weights, scores = search.mixture(state.arch, saved.step, state.control)
  with tempfile.TemporaryDirectory() as folder:
    lines = Workdir(pathlib.Path(folder)).lines(history.SCORES)

    def write() -> None:
      strength = search.strength(state.arch, saved.step, state.control)
      line = history.scores_line(state.arch, saved.objects.table, weights, scores, strength)
      lines.append({'step': saved.step, 'epoch': 1, **line})

    seconds = _median(write, rounds)
    return seconds, lines.path.stat().st_size // rounds


def lengthen(run: pathlib.Path, epochs: int) -> None:
  """Repeats the lines of a search, as if it had had so many epochs.

  Args:
    run: its folder.
    epochs: how many.
  """
  for name in _LINES:
    lines = json_files.read_lines(run / name)
    text = ''
    for epoch in range(1, epochs + 1):
      line = lines[(epoch - 1) % len(lines)]
      text += json_files.dumps({**line, 'epoch': epoch, 'step': epoch}) + '\n'
    (run / name).write_text(text, 'utf-8')


def measure(epochs: int, rounds: int) -> dict[str, Any]:
  """Searches, and measures everything.

  Args:
    epochs: of the search.
    rounds: how often everything is measured.
  """
  config = files.load_module(files.find('digits').path).get_config()
  config.search.epochs, config.log.cell_every = epochs, 0
  config.space.num_intermediate, config.model.num_layers = 6, 1  # many scores, and a short epoch
  with tempfile.TemporaryDirectory() as folder:
    run = pathlib.Path(folder) / 'run'
    stretchnas_jax.run_search(config, run)
    lines = json_files.read_lines(run / 'metrics.jsonl')
    epoch = min(line['seconds'] for line in lines)
    write, size = writing(run, rounds)
    asked = _median(lambda: what_if.ask(run), rounds)
    lengthen(run, _EPOCHS)
    page = _median(lambda: report.write(run), rounds)
    written = (run / report.NAME).stat().st_size
  return {
    **processes.facts(),
    'nodes': config.space.num_intermediate,
    'epoch_seconds': epoch,
    'write_seconds': write,
    'write_part': write / epoch,
    'line_bytes': size,
    'what_if_seconds': asked,
    'page_epochs': _EPOCHS,
    'page_seconds': page,
    'page_bytes': written,
  }


def markdown(found: dict[str, Any]) -> str:
  """Returns the table."""
  rows = [
    ('an epoch of the search', f'{found["epoch_seconds"]:.2f} s', ''),
    ('its line of scores', f'{1e3 * found["write_seconds"]:.1f} ms, {found["line_bytes"]:,} bytes',
     f'{found["write_part"]:.2%} of the epoch'),
    ('`what_if`, without accuracies', f'{found["what_if_seconds"]:.2f} s', 'after imports'),
    (f'`report` of {found["page_epochs"]} epochs', f'{found["page_seconds"]:.2f} s',
     f'{found["page_bytes"] / 1e6:.1f} MB'),
  ]  # fmt: skip
  text = f'A search on digits, S {found["nodes"]}, 1 cell, on {found["machine"]["cpu"]}.\n\n'
  table = ['| what | cost | |', '|---|---|---|', *(f'| {" | ".join(row)} |' for row in rows)]
  return text + '\n'.join(table) + '\n'


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--epochs', type=int, default=4, help='of the search (default: 4)')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/benchmarks')
  args = parser.parse_args(argv)
  if min(args.epochs, args.rounds) < 1:
    parser.error('--epochs and --rounds must be at least 1')
  found = measure(args.epochs, args.rounds)
  args.out.mkdir(parents=True, exist_ok=True)
  (args.out / 'looking.json').write_text(json.dumps(found, indent=1) + '\n', 'utf-8')
  (args.out / 'looking.md').write_text(markdown(found), 'utf-8')
  print(markdown(found))


if __name__ == '__main__':
  main()
