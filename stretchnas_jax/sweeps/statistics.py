"""What repeated runs say: means, deviations, bootstrap intervals, differences on the same seeds."""

import statistics
from typing import NamedTuple

import numpy as np

DRAWS, LEVEL = 20_000, 0.95


class Summary(NamedTuple):
  """Of n values; what cannot be said of so few is None."""

  n: int
  mean: float | None
  std: float | None  # n - 1
  interval: tuple[float, float] | None  # bootstrap, of the mean


def summary(values):
  values = [float(value) for value in values]
  mean = statistics.fmean(values) if values else None
  std = statistics.stdev(values) if len(values) > 1 else None
  return Summary(len(values), mean, std, interval(values))


def interval(values, level=LEVEL, draws=DRAWS):
  """The percentile bootstrap interval of the mean; the same one for the same values.

  Args:
    values: numbers.
    level: of the interval, 0.95 for 95 %.
    draws: how often as many values are drawn, with replacement.

  Returns:
    `(low, high)`, or None for fewer than two values. Of two or three values it goes from the
    lowest to the highest, and holds the true mean less often than the level says.
  """
  values = np.asarray(values, np.float64)
  if len(values) < 2:
    return None
  rows = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
  tail = 50 * (1 - level)
  low, high = np.percentile(values[rows].mean(1), [tail, 100 - tail], method='inverted_cdf')
  return float(low), float(high)


def paired(first, second):
  """The difference `first - second` on the seeds that both have.

  Args:
    first, second: `{seed: value}`.

  Returns:
    `(seeds, Summary)`.
  """
  seeds = sorted(first.keys() & second.keys())
  return seeds, summary([first[seed] - second[seed] for seed in seeds])
