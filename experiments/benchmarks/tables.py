"""The figures of a comparison as one table.

This file imports nothing of the package: that would import JAX, which would count as memory of the
processes that `compare` starts.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PEERS = ('plain', 'tuned')
_SIDES = ('ours', *_PEERS)
_HEAD = (
  'what', 'ours, s', 'plain, s', 'tuned, s', 'plain / ours', 'tuned / ours', 'trace + compile, s',
  'peak MB: ours, plain, tuned',
)  # fmt: skip

_Range = dict[str, float]  # 'median', 'min' and 'max'
_Round = Mapping[str, Mapping[str, Any]]  # by side, the figures that its process printed


def range_of(values: Sequence[float]) -> _Range:
  """Returns the median, the least and the greatest of some values."""
  return {'median': statistics.median(values), 'min': min(values), 'max': max(values)}


def summary(title: str, rounds: Sequence[_Round]) -> dict[str, Any]:
  """Summarizes the rounds of one row.

  Args:
    title: the name of the row.
    rounds: the figures of all sides in each round.

  Returns:
    The ranges of the seconds of a step, and of the ratios within each round; above 1, ours is
    faster. Then all else that the table shows, and the rounds themselves.
  """
  steps = {side: _column(rounds, side, 'median_step_seconds') for side in _SIDES}
  ratios = {
    peer: [theirs / ours for theirs, ours in zip(steps[peer], steps['ours'])] for peer in _PEERS
  }
  return {
    'title': title,
    'step_seconds': {side: range_of(seconds) for side, seconds in steps.items()},
    'ratio': {peer: range_of(values) for peer, values in ratios.items()},
    'compile_seconds': range_of(_column(rounds, 'ours', 'compile_seconds')),
    'trace_seconds': range_of(_column(rounds, 'ours', 'trace_seconds')),
    'peak_memory_mb': {side: max(_column(rounds, side, 'peak_memory_mb')) for side in _SIDES},
    'rounds': rounds,
  }


def start_summary(title: str, rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
  """Summarizes the seconds from the start of a process to its first step.

  Args:
    title: the name of the row.
    rounds: the seconds of the `first` and the `second` start, in each round.
  """
  names = ('first', 'second')
  return {
    'title': title,
    'start_seconds': {name: range_of([entry[name] for entry in rounds]) for name in names},
    'rounds': rounds,
  }


def seconds_text(value: _Range) -> str:
  """Returns a range of seconds as text."""
  return f'{value["median"]:.3g} ({value["min"]:.3g} - {value["max"]:.3g})'


def ratio_text(value: _Range) -> str:
  """Returns a range of ratios as text, with the median in bold."""
  return f'**{value["median"]:.2f}** ({value["min"]:.2f} - {value["max"]:.2f})'


def table_line(texts: Iterable[str]) -> str:
  """Returns a line of a Markdown table."""
  return f'| {" | ".join(texts)} |'


def made_with(results: Mapping[str, Any]) -> str:
  """Returns a line with the machine, the versions, the date and the commit of `results`."""
  machine, versions = results['machine'], results['versions']
  hardware = [f'{machine["cpu"]}, {machine["cores"]} cores', machine['gpu']]
  return (
    f'{", ".join(filter(None, hardware))}; '
    f'{", ".join(f"{name} {number}" for name, number in versions.items() if number)}; '
    f'{results["date"][:10]}, commit {results["git_commit"]}.'
  )


def markdown(results: Mapping[str, Any]) -> str:
  """Returns the page of the file that `compare` writes.

  Args:
    results: the facts of the machine, further words of both sides, and `rows`: summaries by name.
  """
  steps = [row for row in results['rows'].values() if 'ratio' in row]
  starts = [row for row in results['rows'].values() if 'start_seconds' in row]
  text = [made_with(results), '']
  for side in ('ours', 'peer'):
    if results[side]:
      text += [f'Each {side} with `{" ".join(results[side])}`.', '']
  if steps:
    text += [table_line(_HEAD), table_line(['---'] * len(_HEAD))]
    text += [*(table_line(_texts(row)) for row in steps), '']
  for row in starts:
    first, second = (seconds_text(row['start_seconds'][name]) for name in ('first', 'second'))
    text += [f'{row["title"]}: first {first} s, second {second} s.', '']
  return '\n'.join(text)


def _column(rounds: Sequence[_Round], side: str, field: str) -> list[float]:
  """Returns one figure of one side in all rounds."""
  return [entry[side][field] for entry in rounds]


def _texts(row: Mapping[str, Any]) -> list[str]:
  """Returns the texts of one line of the table."""
  trace, compilation = row['trace_seconds']['median'], row['compile_seconds']['median']
  return [
    row['title'],
    *(seconds_text(row['step_seconds'][side]) for side in _SIDES),
    *(ratio_text(row['ratio'][peer]) for peer in _PEERS),
    f'{trace:.0f} + {compilation:.0f}',
    ', '.join(f'{row["peak_memory_mb"][side]:.0f}' for side in _SIDES),
  ]
