"""The forms of a supernet side by side: `python -m experiments.benchmarks.forms`.

`planes` and `merged` give the same numbers; which one is faster is a question to the machine, and
what `model.remat` takes of the one and gives of the other too. Every figure is of a fresh process
with an empty compilation cache; in each round all forms take turns. A form that fails, or does not
compile in time, as `merged` on a CPU, is left out of the rounds to come, and the table says so.
Writes forms.json and forms.md.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from experiments.benchmarks import compare, gpu_tables, processes, tables

FORMS = {
  f'{form}{", remat" * remat}': (f'--config.model.form={form}', f'--config.model.remat={remat}')
  for form in ('planes', 'merged')
  for remat in (False, True)
}
ROWS = ('search_7ops', 'stretchable', 'digits')
HEAD = (
  'form', 'step, s', 'times the first', 'trace + compile, s', 'a step takes, MB', 'peak, MB',
)  # fmt: skip


def measure(row, forms, rounds, steps, limit):
  """(`{form: [what the benchmark prints, of each round]}`, `{form: how it failed}`)"""
  found, failed = {form: [] for form in forms}, {}
  for i in range(rounds):
    for form in [*forms[i % len(forms) :], *forms[: i % len(forms)]]:
      if form in failed:
        continue
      words = [*row.ours, *FORMS[form], f'--steps={steps}', '--noevaluation']
      try:
        found[form].append(processes.benchmark(words, timeout=limit))
        said = f'{found[form][-1]["median_step_seconds"]:.4g} s'
      except subprocess.TimeoutExpired:
        said = failed[form] = f'not done after {limit:g} s'
      except RuntimeError as error:
        said = failed[form] = f'failed: {gpu_tables.last_line(str(error))}'
      print(f'{i + 1}/{rounds} {form}: {said}', file=sys.stderr)
  return found, failed


def cells(form, runs, first):
  """The texts of one line of a table; `first` are the runs of the first that did not fail."""
  column = lambda name: [run[name] for run in runs]
  steps = column('median_step_seconds')
  ratios = [step / run['median_step_seconds'] for step, run in zip(steps, first)]
  waiting = (tables.spread(column(f'{what}_seconds'))['median'] for what in ('trace', 'compile'))
  memory = runs[0]['step_memory_mb']
  return [
    form,
    tables.seconds(tables.spread(steps)),
    tables.ratio(tables.spread(ratios)),
    ' + '.join(f'{value:.0f}' for value in waiting),
    '-' if memory is None else f'{memory:.0f}',
    f'{max(column("peak_memory_mb")):.0f}',
  ]


def markdown(results):
  line = lambda texts: f'| {" | ".join(texts)} |'
  text = [tables.made_with(results), '']
  for row in results['rows'].values():
    first = next((runs for form, runs in row['forms'].items() if form not in row['failed']), None)
    text += [f'{row["title"]}:', '', line(HEAD), line(['---'] * len(HEAD))]
    for form, runs in row['forms'].items():
      failed = row['failed'].get(form)
      text.append(line([form, failed, *'----'] if failed else cells(form, runs, first)))
    text.append('')
  return '\n'.join(text)


def write(folder, results):
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'forms.json').write_text(json.dumps(results, indent=1) + '\n', 'utf-8')
  (folder / 'forms.md').write_text(markdown(results), 'utf-8')


def parse(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', default=','.join(ROWS), help='which, by commas (default: all)')
  parser.add_argument('--forms', default=';'.join(FORMS), help='which, by ; (default: all)')
  parser.add_argument('--rounds', type=int, default=2)
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--limit', type=float, default=300, help='seconds for each (default: 300)')
  parser.add_argument('--out', type=pathlib.Path, default='experiments/results/benchmarks')
  args = parser.parse_args(argv)
  args.rows, args.forms = args.rows.split(','), args.forms.split(';')
  for field, known in (('rows', ROWS), ('forms', FORMS)):
    if unknown := [name for name in getattr(args, field) if name not in known]:
      parser.error(f'--{field} has {unknown[0]!r}; there are {"; ".join(known)}')
  if min(args.rounds, args.steps) < 1:
    parser.error('--rounds and --steps must be at least 1')
  return args


def main(argv=None):
  args = parse(argv)
  results = processes.facts() | {'rows': {}}
  for name in args.rows:
    row = compare.ROWS[name]
    forms, failed = measure(row, args.forms, args.rounds, args.steps, args.limit)
    results['rows'][name] = {'title': row.title, 'forms': forms, 'failed': failed}
    write(args.out, results)  # after every row: what is interrupted is not lost
  print(markdown(results))


if __name__ == '__main__':
  main()
