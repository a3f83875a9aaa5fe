"""The table of the searches: their lines with the accuracies of a table of cells."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.nas_bench_201 import ranking
from experiments.nas_bench_201.chance import baselines
from experiments.nas_bench_201.lines import Line
from experiments.nas_bench_201.rows import PAIRS, ROWS
from experiments.nas_bench_201.scales import Scale
from stretchnas_jax.cells.nas_bench_201 import Table
from stretchnas_jax.runs import statistics


def collect(lines: Sequence[Line], scale: Scale, table: Table) -> dict[str, Any]:
  """Returns all figures behind the table, as plain values.

  Args:
    lines: of all searches.
    scale: their sizes.
    table: of accuracies.
  """
  rows = {key: [line for line in lines if line['row'] == key] for key in ROWS}
  rows = {key: found for key, found in rows.items() if found}
  return {
    'about': scale.about,
    'source': table.source,
    'chance': baselines(table),
    'order_of_table': ranking.order_of_table(ranking.drawn_codes(scale.ranked), table)._asdict(),
    'rows': {key: _row(key, found, table) for key, found in rows.items()},
    'pairs': [_pair(rows, table, *pair) for pair in PAIRS if set(pair) <= set(rows)],
  }


def _row(key: str, lines: Sequence[Line], table: Table) -> dict[str, Any]:
  """Returns one row of the table, with the curves of its seeds."""
  codes = [line['cells'][-1] for line in lines]
  accuracies = _accuracies(table, codes)
  mean = lambda name: float(np.mean([line[name] for line in lines]))
  return {
    'title': ROWS[key].title,
    'seeds': [line['seed'] for line in lines],
    **statistics.summarize(accuracies)._asdict(),
    'median': float(np.median(accuracies)),
    'accuracies': accuracies,
    'ranks': [table.rank(code) for code in codes],
    'regrets': [table.regret(code) for code in codes],
    'alpha_entropy': float(
      np.mean([line['alpha_entropy'][-1] / np.log(line['alpha_options']) for line in lines])
    ),
    'alpha_rate': lines[0]['alpha_rate'],
    'beta_rate': lines[0]['beta_rate'],
    'split': lines[0]['split'],
    'image_passes': mean('image_passes'),
    'steps': mean('steps'),
    'seconds': mean('seconds'),
    'taus': _taus(lines, table),
    'six_edges': _less_six_edges(lines, table) if key.partition('_sc')[1] else None,
    'curve': _curve(lines, table),
  }


def _less_six_edges(lines: Sequence[Line], table: Table) -> dict[str, Any]:
  """Summarizes the cells less the same operations with all six edges kept."""
  kept = _accuracies(table, [line['cells'][-1] for line in lines])
  whole = _accuracies(table, [line['six_edges'][-1] for line in lines])
  return statistics.summarize(a - b for a, b in zip(kept, whole))._asdict()


def _taus(lines: Sequence[Line], table: Table) -> list[dict[str, Any]]:
  """Returns how the supernets of each epoch order cells, over the seeds with most epochs.

  The summary is that of Kendall's tau with the table.
  """
  found = [ranking.orders(line['ranking'], table) for line in lines if line['ranking']]
  most = max(found, key=len, default={}).keys()
  whole = [orders for orders in found if orders.keys() == most]  # the same seeds at every epoch
  points = []
  for epoch in whole[0] if whole else ():
    orders = [one[epoch] for one in whole]
    points.append({
      'epoch': epoch, **statistics.summarize(order.tau for order in orders)._asdict(),
      'convolutions': float(np.mean([order.convolutions for order in orders])),
      'accuracy': float(np.mean([order.accuracy for order in orders])),
    })  # fmt: skip
  return points


def _curve(lines: Sequence[Line], table: Table) -> list[dict[str, Any]]:
  """Returns the accuracies of the cells of each epoch over the seeds that came so far."""
  points = []
  for epoch in range(max(len(line['cells']) for line in lines)):
    codes = [line['cells'][epoch] for line in lines if epoch < len(line['cells'])]
    values = _accuracies(table, codes)
    summary = statistics.summarize(values)
    points.append({
      'epoch': epoch + 1, 'n': summary.n, 'mean': summary.mean, 'interval': summary.interval,
      'median': float(np.median(values)),
    })  # fmt: skip
  return points


def _pair(
  rows: Mapping[str, Sequence[Line]], table: Table, first: str, second: str
) -> dict[str, Any]:
  """Returns the difference of two rows, seed by seed."""
  values = [
    dict(zip(
      [line['seed'] for line in rows[key]],
      _accuracies(table, [line['cells'][-1] for line in rows[key]]),
    ))
    for key in (first, second)
  ]  # fmt: skip
  seeds, difference = statistics.paired_difference(*values)
  return {'first': first, 'second': second, 'seeds': seeds, **difference._asdict()}


def _accuracies(table: Table, codes: Sequence[int]) -> list[float]:
  return [table.accuracy(code) for code in codes]
