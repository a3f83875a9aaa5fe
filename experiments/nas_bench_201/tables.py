"""The table of the searches as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.nas_bench_201.rows import ROWS

_HEAD = (
  'search', 'n', 'accuracy', 'median', 't interval of the mean', 'ranks', 'regret',
  'entropy of alpha', 'rate', 'parts', 'image passes', 'steps', 'seconds',
)  # fmt: skip
_NOTES = (
  'Accuracy, median and regret are percent, of the cell after the last epoch. An accuracy is a '
  'mean ± the standard deviation over n seeds; of two seeds the interval is their range. A rank '
  'is among all cells of the table, 1 is the best. The entropy of alpha is 1 where nothing is '
  'decided. The rate is that of alpha and beta. Image passes are images forward and back. '
  "Seconds hold compilation and depend on the machine's other work."
)
_TAU_NOTE = (
  "Kendall's tau compares the accuracies of random cells with the weights of a supernet and in the "
  'table. The same order gives 1, the opposite -1, no relation 0. The second tau compares the '
  'former with the numbers of convolutions in the cells. Accuracy is percent, a mean over the '
  'cells; guesses give 10. All numbers are means over n seeds.'
)


def markdown(results: Mapping[str, Any]) -> str:
  """Returns the text of the table.

  Args:
    results: the result of `collect.collect`.
  """
  return '\n'.join([
    '# Searches in NAS-Bench-201', '',
    f'{results["about"]}. Accuracies: {results["source"]}.', '',
    *_table(_HEAD, [_row(row) for row in results['rows'].values()]), '', _NOTES, '',
    '## Differences, seed by seed', '',
    *_table(
      ('first less second', 'n', 'mean', 't interval'),
      [_pair(pair) for pair in results['pairs']],
    ), '',
    '## Stretchable cells less the same operations on all six edges', '',
    *_table(
      ('search', 'n', 'mean', 't interval'),
      [(row['title'], *_difference(row['six_edges']))
       for row in results['rows'].values() if row['six_edges']],
    ), '',
    *_taus(results['rows'], results['order_of_table']),
    '## Cells without a search', '',
    *_table(
      ('cell', 'mean', 'deviation', 'median', 'middle 80 %'),
      [_chance(name, found) for name, found in results['chance'].items()],
    ), '',
  ])  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
  lines = [head, ['---'] * len(head), *rows]
  return [f'| {" | ".join(map(str, cells))} |' for cells in lines]


def _row(row: Mapping[str, Any]) -> tuple[Any, ...]:
  """Returns the cells of one search's row."""
  std = '' if row['std'] is None else f' ± {row["std"]:.2f}'
  return (
    row['title'],
    row['n'],
    f'{row["mean"]:.2f}{std}',
    f'{row["median"]:.2f}',
    interval(row['interval']),
    ' '.join(map(str, sorted(row['ranks']))),
    f'{sum(row["regrets"]) / row["n"]:.2f}',
    f'{row["alpha_entropy"]:.2f}',
    _rates(row),
    row['split'].replace('_', ' '),
    f'{row["image_passes"]:,.0f}',
    f'{row["steps"]:,.0f}',
    f'{row["seconds"]:,.0f}',
  )


def _rates(row: Mapping[str, Any]) -> str:
  """Returns the learning rate of alpha, and that of beta where it differs."""
  alpha, beta = row['alpha_rate'], row['beta_rate']
  return f'{alpha:g}' if alpha == beta else f'{alpha:g}, beta {beta:g}'


def _taus(rows: Mapping[str, Any], of_table: Mapping[str, float]) -> list[str]:
  """Returns the section with Kendall's tau by epoch; none where no supernet was measured."""
  ranked = [row for row in rows.values() if row['taus']]
  if not ranked:
    return []
  lines = [
    (
      row['title'], point['epoch'], point['n'], f'{point["mean"]:.2f}',
      interval(point['interval']), *_why(point),
    )
    for row in ranked
    for point in row['taus']
  ]  # fmt: skip
  lines.append(('the table itself', '', '', f'{of_table["tau"]:.2f}', '', *_why(of_table)))
  head = 'search', 'epoch', 'n', 'tau', 't interval', 'tau with convolutions', 'accuracy'
  return ['## How well the supernets rank cells', '', *_table(head, lines), '', _TAU_NOTE, '']


def _why(order: Mapping[str, float]) -> tuple[str, str]:
  """Returns the two figures that explain an order."""
  return f'{order["convolutions"]:.2f}', f'{100 * order["accuracy"]:.1f}'


def _pair(pair: Mapping[str, Any]) -> tuple[Any, ...]:
  titles = [ROWS[pair[name]].title for name in ('first', 'second')]
  return (' less '.join(titles), *_difference(pair))


def _difference(found: Mapping[str, Any]) -> tuple[Any, ...]:
  mean = '' if found['mean'] is None else f'{found["mean"]:+.2f}'
  return found['n'], mean, interval(found['interval'], '+.2f')


def interval(ends: Sequence[float] | None, form: str = '.2f') -> str:
  """Returns an interval as text; '' where there is none.

  Args:
    ends: the lower and the higher end.
    form: of each end.
  """
  return '' if ends is None else f'{ends[0]:{form}} to {ends[1]:{form}}'


def _chance(name: str, found: Mapping[str, float]) -> tuple[Any, ...]:
  numbers = [f'{found[field]:.2f}' for field in ('mean', 'std', 'median')]
  return (name, *numbers, interval((found['low'], found['high'])))
