"""The results of an experiment as a Markdown page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stretchnas_jax.sweeps.collect import CLOSE
from stretchnas_jax.sweeps.searched import search_title
from stretchnas_jax.sweeps.spec import MEASURES

_HEAD = (
  'run', 'paper', 'ours', '95 % interval', 'n', 'best (not the result)', 'paper: params, M',
  'ours: params, M', 'paper: FLOPs, M', 'ours: FLOPs, M', 'ours: MACs, M',
  'paper: search, GPU days', 'ours: search, h',
)  # fmt: skip
_TOP5_HEAD = ('paper: top-5 error, %', 'ours: top-5 error, %')
_COMPARISON_HEAD = ('on the same seeds', 'difference', '95 % interval', 'n')
_SEARCH_HEAD = (
  'search', 'layers', 'n', 'depth of the normal cell', 'its edges', 'validation accuracy',
  'r(beta) is 0 from epoch', 'weight of none at the end: mean, largest',
)  # fmt: skip
_EMPTY = '-'
_NOTE = (
  'Ours: mean ± standard deviation (n - 1) over seeds, each a search and a training of its own. '
  "Intervals are Student's t intervals of the mean. Two seeds say too little for one, and the "
  'range stands there. FLOPs as papers on cells count them.'
)

_Row = Mapping[str, Any]
_Figure = float | int | None


def markdown(results: Mapping[str, Any]) -> str:
  """Returns the page of an experiment; it has top-5 errors where the paper prints some.

  Args:
    results: the result of `collect.collect`.
  """
  rows = results['rows']
  parts = [
    f'# {results["title"]}',
    f'{MEASURES[results["measure"]]}. Scale: {results["scale"]}; seeds: '
    f'{len(results["seeds"])}. {results["date"][:10]}.',
    _run_table(rows),
    _NOTE,
  ]
  if results['comparisons']:
    lines = [_comparison_line(rows, found) for found in results['comparisons']]
    parts.append(_table(_COMPARISON_HEAD, lines))
  if results['searches']:
    lines = [
      _search_line(search_title(name, results), row) for name, row in results['searches'].items()
    ]
    parts.append(_table(*_without_empty_columns(_SEARCH_HEAD, lines)))
  parts += [f'- {remark}' for remark in results['remarks']]
  parts += [_made_with(facts) for facts in results['made_with']]
  return '\n\n'.join(parts) + '\n'


# ---- runs ----------------------------------------------------------------------------------------


def _run_table(rows: Mapping[str, _Row]) -> str:
  """Returns the table of all runs."""
  head = _HEAD
  lines = [_run_line(row) for row in rows.values()]
  if any(row['paper']['top5'] is not None for row in rows.values()):
    head += _TOP5_HEAD
    lines = [line + _top5_texts(row) for line, row in zip(lines, rows.values())]
  return _table(*_without_empty_columns(head, lines))


def _run_line(row: _Row) -> list[str]:
  """Returns the texts of one run."""
  paper = row['paper']
  return [
    row['title'],
    _mean_and_std(paper['error'], paper['std']),
    _our_value(row),
    _interval(row['interval'], row['n']),
    _seed_count(row),
    _best(row['best']),
    _number(paper['params']),
    _params(row),
    _number(paper['flops'], 0),
    _millions(row['flops_ptflops']),
    _millions(row['macs']),
    _number(paper['days']),
    _number(row['search_hours']),
  ]


def _our_value(row: _Row) -> str:
  if row['status'] == 'of others':
    return _EMPTY
  if row['status'] == 'not run':
    return 'not run'
  return _mean_and_std(row['mean'], row['std'])


def _seed_count(row: _Row) -> str:
  if row['status'] == 'of others':
    return _EMPTY
  return f'{row["n"]}' if row['status'] == 'run' else row['status']


def _best(best: Mapping[str, Any] | None) -> str:
  return _EMPTY if best is None else f'{best["value"]:.2f} (seed {best["seed"]})'


def _params(row: _Row) -> str:
  """Returns the size, and its distance from the wanted size where that is large."""
  text = _millions(row['params'], 3)
  off = row['params_off']
  if off is None or off <= CLOSE:
    return text
  return f'{text} (up to {100 * off:.0f} % off)'


def _top5_texts(row: _Row) -> list[str]:
  ours = row['top5']
  return [_mean_and_std(row['paper']['top5'], None), _mean_and_std(ours['mean'], ours['std'])]


def _comparison_line(rows: Mapping[str, _Row], found: Mapping[str, Any]) -> list[str]:
  """Returns the texts of the difference of two runs."""
  titles = f'{rows[found["first"]]["title"]} minus {rows[found["second"]]["title"]}'
  difference = 'not run' if found['mean'] is None else f'{found["mean"]:+.2f}'
  return [titles, difference, _interval(found['interval'], found['n']), f'{found["n"]}']


# ---- searches ------------------------------------------------------------------------------------


def _search_line(name: str, search: _Row) -> list[str]:
  """Returns the texts of one search, with its seeds beside one another."""
  runs = search['runs']
  return [
    name,
    f'{search["layers"]}',
    f'{len(runs)}',
    ', '.join(f'{run["depth"]}' for run in runs),
    ', '.join(f'{run["edges"]}' for run in runs),
    ', '.join(f'{run["val_accuracy"]:.3f}' for run in runs),
    _zero_epochs(runs, search['epochs']),
    _none_weights(runs),
  ]


def _zero_epochs(runs: Sequence[_Row], epochs: int) -> str:
  """Returns the epochs from which r(beta) is 0; empty for a search without topology variables."""
  if not any(any(run['history']['penalty']) for run in runs):
    return _EMPTY
  texts = ['never' if run['zero_from'] is None else f'{run["zero_from"]}' for run in runs]
  return f'{", ".join(texts)} of {epochs}'


def _none_weights(runs: Sequence[_Row]) -> str:
  """Returns the last weights of `none`; empty for a search without that operation."""
  if 'none_weight_mean' not in runs[0]['history']:
    return _EMPTY
  histories = [run['history'] for run in runs]
  return '; '.join(
    f'{history["none_weight_mean"][-1]:.2f}, {history["none_weight_max"][-1]:.2f}'
    for history in histories
  )


# ---- texts ---------------------------------------------------------------------------------------


def _without_empty_columns(
  head: Sequence[str], lines: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
  """Returns a table without the columns that are empty in all lines."""
  kept = [i for i in range(len(head)) if any(line[i] != _EMPTY for line in lines)]
  return [head[i] for i in kept], [[line[i] for i in kept] for line in lines]


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
  """Returns a Markdown table."""
  rows = [head, ['---'] * len(head), *lines]
  return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _millions(value: _Figure, digits: int = 2) -> str:
  return _number(None if value is None else value / 1e6, digits)


def _number(value: _Figure, digits: int = 2) -> str:
  """Returns a number with these decimals; a small one keeps two figures."""
  if value is None:
    return _EMPTY
  return f'{value:.2g}' if 0 < abs(value) < 0.1 else f'{value:.{digits}f}'


def _mean_and_std(mean: _Figure, std: _Figure) -> str:
  if mean is None:
    return _EMPTY
  return f'{mean:.2f}' if std is None else f'{mean:.2f} ± {std:.2f}'


def _interval(interval: Sequence[float | int] | None, n: int) -> str:
  """Returns the two ends of an interval; those of two values are called their range."""
  if interval is None:
    return _EMPTY
  text = f'{interval[0]:.2f} .. {interval[1]:.2f}'
  return text if n > 2 else f'{text} (range)'


def _made_with(facts: _Row) -> str:
  """Returns one line on the machine, the devices, the versions and the commit of runs."""
  machine = facts['machine'] or {}
  words = [f'{machine.get("cpu")}, {machine.get("cores")} cores', *sorted(set(facts['devices']))]
  words += [f'{name} {version}' for name, version in facts['versions'].items() if version]
  return f'{"; ".join(words)}; commit {facts["git_commit"]}.'
