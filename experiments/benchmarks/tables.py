"""The figures of a comparison as one table."""

import statistics

MARKS = ('plain', 'tuned')
HEAD = (
  'what', 'ours, s', 'plain, s', 'tuned, s', 'plain / ours', 'tuned / ours', 'trace + compile, s',
  'peak MB: ours, plain, tuned',
)  # fmt: skip


def spread(values):
  """`{'median', 'min', 'max'}`"""
  return {'median': statistics.median(values), 'min': min(values), 'max': max(values)}


def summary(title, rounds):
  """What the rounds of one row come to.

  Args:
    title: what is measured.
    rounds: `[{'ours': {...}, 'plain': {...}, 'tuned': {...}}]`, each what a process printed.

  Returns:
    A dict: spreads of the seconds of a step, of the ratios within each round (above 1: ours is
    faster), and of all else that the table shows; and the rounds themselves.
  """
  column = lambda who, field: [entry[who][field] for entry in rounds]
  step, memory = 'median_step_seconds', 'peak_memory_mb'
  ratios = {
    mark: [p / o for p, o in zip(column(mark, step), column('ours', step))] for mark in MARKS
  }
  return {
    'title': title,
    'step_seconds': {who: spread(column(who, step)) for who in ('ours', *MARKS)},
    'ratio': {mark: spread(values) for mark, values in ratios.items()},
    'compile_seconds': spread(column('ours', 'compile_seconds')),
    'trace_seconds': spread(column('ours', 'trace_seconds')),
    'peak_memory_mb': {who: max(column(who, memory)) for who in ('ours', *MARKS)},
    'rounds': rounds,
  }


def start_summary(title, rounds):
  """As `summary`, for `[{'first': seconds, 'second': seconds}]` from a process' start to a step."""
  return {
    'title': title,
    'start_seconds': {name: spread([r[name] for r in rounds]) for name in ('first', 'second')},
    'rounds': rounds,
  }


def seconds(value):
  return f'{value["median"]:.3g} ({value["min"]:.3g} - {value["max"]:.3g})'


def ratio(value):
  return f'**{value["median"]:.2f}** ({value["min"]:.2f} - {value["max"]:.2f})'


def cells(row):
  """The texts of one line of the table."""
  step, memory = row['step_seconds'], row['peak_memory_mb']
  waiting = (row[f'{what}_seconds']['median'] for what in ('trace', 'compile'))
  return [
    row['title'],
    *(seconds(step[who]) for who in ('ours', *MARKS)),
    *(ratio(row['ratio'][mark]) for mark in MARKS),
    ' + '.join(f'{value:.0f}' for value in waiting),
    ', '.join(f'{memory[who]:.0f}' for who in ('ours', *MARKS)),
  ]


def made_with(results):
  """The line of `processes.facts`: machine, versions, date, commit."""
  machine, versions = results['machine'], results['versions']
  hardware = [f'{machine["cpu"]}, {machine["cores"]} cores', machine['gpu']]
  return (
    f'{", ".join(filter(None, hardware))}; '
    f'{", ".join(f"{name} {number}" for name, number in versions.items() if number)}; '
    f'{results["date"][:10]}, commit {results["git_commit"]}.'
  )


def markdown(results):
  """The table of what `compare` writes: facts, further words, `'rows': {name: summary}`."""
  steps = [row for row in results['rows'].values() if 'ratio' in row]
  starts = [row for row in results['rows'].values() if 'start_seconds' in row]
  line = lambda texts: f'| {" | ".join(texts)} |'
  text = [made_with(results), '']
  for side in ('ours', 'peer'):
    if words := results[side]:
      text += [f'Each {side} with `{" ".join(words)}`.', '']
  if steps:
    text += [line(HEAD), line(['---'] * len(HEAD)), *(line(cells(row)) for row in steps), '']
  for row in starts:
    first, second = (seconds(row['start_seconds'][name]) for name in ('first', 'second'))
    text += [f'{row["title"]}: first {first} s, second {second} s.', '']
  return '\n'.join(text)
