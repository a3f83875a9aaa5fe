"""Compares the forms of a supernet: `python -m experiments.benchmarks.forms`.

`planes` and `merged` give the same numbers. The machine decides which of them is faster, and how
much `model.remat` costs and saves. Every figure is of a fresh process with an empty compilation
cache. In each round all forms take turns. A form that fails, or does not compile in time, is left
out of later rounds, and the table says so. The program writes forms.json and forms.md.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.benchmarks import compare, gpu_tables, processes, tables

FORMS = {
  f'{form}{", remat" * remat}': (f'--config.model.form={form}', f'--config.model.remat={remat}')
  for form in ('planes', 'merged')
  for remat in (False, True)
}
_ROWS = ('search_7ops', 'stretchable', 'digits')
_HEAD = (
  'form', 'step, s', 'times the first', 'trace + compile, s', 'a step takes, MB', 'peak, MB',
)  # fmt: skip

_Figures = dict[str, Any]  # the object that the benchmark prints


def measure(
  row: compare.Row, forms: Mapping[str, Sequence[str]], rounds: int, steps: int, limit: float
) -> tuple[dict[str, list[_Figures]], dict[str, str]]:
  """Measures the forms of one row; each round begins with another form.

  Args:
    row: the work.
    forms: for each its further words.
    rounds: the number of processes of each form.
    steps: the number of timed steps in each process.
    limit: the most seconds of a process.

  Returns:
    The figures of each form in all rounds, and the reason of each form that failed.
  """
  found: dict[str, list[_Figures]] = {form: [] for form in forms}
  failed: dict[str, str] = {}
  for i in range(rounds):
    names, start = list(forms), i % len(forms)
    for form in names[start:] + names[:start]:
      if form in failed:
        continue
      try:
        words = [*row.ours, *forms[form], f'--steps={steps}', '--noevaluation']
        found[form].append(processes.benchmark(words, timeout=limit))
        message = f'{found[form][-1]["median_step_seconds"]:.4g} s'
      except subprocess.TimeoutExpired:
        message = failed[form] = f'not done after {limit:g} s'
      except RuntimeError as error:
        message = failed[form] = f'failed: {gpu_tables.last_line(str(error))}'
      print(f'{i + 1}/{rounds} {form}: {message}', file=sys.stderr)
  return found, failed


def markdown(results: Mapping[str, Any]) -> str:
  """Returns the page of the file that this program writes."""
  text = [tables.made_with(results), '']
  for row in results['rows'].values():
    text += [f'{row["title"]}:', '', tables.table_line(_HEAD)]
    text.append(tables.table_line(['---'] * len(_HEAD)))
    successful = [runs for form, runs in row['forms'].items() if form not in row['failed']]
    for form, runs in row['forms'].items():
      reason = row['failed'].get(form)
      texts = _texts(form, runs, successful[0]) if reason is None else [form, reason, *'----']
      text.append(tables.table_line(texts))
    text.append('')
  return '\n'.join(text)


def _texts(form: str, runs: Sequence[_Figures], first: Sequence[_Figures]) -> list[str]:
  """Returns the texts of one line; `first` are the runs of the first form that did not fail."""
  steps = [run['median_step_seconds'] for run in runs]
  ratios = [step / run['median_step_seconds'] for step, run in zip(steps, first)]
  trace = tables.range_of([run['trace_seconds'] for run in runs])['median']
  compilation = tables.range_of([run['compile_seconds'] for run in runs])['median']
  memory = runs[0]['step_memory_mb']
  return [
    form,
    tables.seconds_text(tables.range_of(steps)),
    tables.ratio_text(tables.range_of(ratios)),
    f'{trace:.0f} + {compilation:.0f}',
    '-' if memory is None else f'{memory:.0f}',
    f'{max(run["peak_memory_mb"] for run in runs):.0f}',
  ]


def _write(folder: pathlib.Path, results: Mapping[str, Any]) -> None:
  """Writes the figures and their table."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'forms.json').write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
  (folder / 'forms.md').write_text(markdown(results), 'utf-8')


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads and checks the command line; None stands for that of the process."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', default=','.join(_ROWS), help='which, by commas (default: all)')
  parser.add_argument('--forms', default=';'.join(FORMS), help='which, by ; (default: all)')
  parser.add_argument('--rounds', type=int, default=2)
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--limit', type=float, default=300, help='seconds for each (default: 300)')
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/benchmarks')
  args = parser.parse_args(argv)
  args.rows, args.forms = args.rows.split(','), args.forms.split(';')
  for field, known in (('rows', _ROWS), ('forms', FORMS)):
    unknown = [name for name in getattr(args, field) if name not in known]
    if unknown:
      parser.error(f'--{field} has {unknown[0]!r}; there are {"; ".join(known)}')
  if min(args.rounds, args.steps) < 1:
    parser.error('--rounds and --steps must be at least 1')
  return args


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the program; None stands for the command line of the process."""
  args = parse(argv)
  results = processes.facts() | {'rows': {}}
  for name in args.rows:
    row = compare.ROWS[name]
    words = {form: FORMS[form] for form in args.forms}
    forms, failed = measure(row, words, args.rounds, args.steps, args.limit)
    results['rows'][name] = {'title': row.title, 'forms': forms, 'failed': failed}
    _write(args.out, results)  # after every row, so that an interruption loses little
  print(markdown(results))


if __name__ == '__main__':
  main()
