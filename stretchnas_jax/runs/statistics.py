"""Statistics of repeated runs: means, deviations, intervals, and differences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

_LEVEL = 0.95


class Summary(NamedTuple):
  """A summary of n values; fields that need more values are None.

  Attributes:
    n: the number of values.
    mean: needs one value.
    std: the standard deviation with n - 1; needs two values.
    interval: see `interval_of_mean`; needs two values.
  """

  n: int
  mean: float | None
  std: float | None
  interval: tuple[float, float] | None


class Difference(NamedTuple):
  """The difference of two means, with Welch's test of it.

  Attributes:
    difference: the first mean less the second.
    standard_error: of the difference.
    interval: the 95 % interval of the difference.
    t: the statistic.
    degrees_of_freedom: after Welch.
    p: the two-sided p value.
  """

  difference: float
  standard_error: float
  interval: tuple[float, float]
  t: float
  degrees_of_freedom: float
  p: float


def summarize(values: Iterable[float | int]) -> Summary:
  """Returns the summary of any number of values.

  Example:
    >>> summarize([0.9, 0.8, 1.0]).n, round(summarize([0.9, 0.8, 1.0]).std, 3)
    (3, 0.1)
  """
  values = [float(value) for value in values]
  mean = float(np.mean(values)) if values else None
  std = float(np.std(values, ddof=1)) if len(values) > 1 else None
  return Summary(len(values), mean, std, interval_of_mean(values))


def interval_of_mean(
  values: Sequence[float | int], level: float = _LEVEL
) -> tuple[float, float] | None:
  """Returns an interval of the mean.

  Args:
    values: one number for each seed.
    level: the confidence, 0.95 for 95 %.

  Returns:
    Of three or more values, Student's t interval. Of two values, which say too little for that
    interval, the lower and the higher one. Of fewer, None.

  Example:
    >>> [round(end, 2) for end in interval_of_mean([0.9, 0.8, 1.0])]
    [0.65, 1.15]
  """
  if len(values) < 2:
    return None
  if len(values) == 2:
    return float(min(values)), float(max(values))
  mean = float(np.mean(values))
  half_width = float(stats.sem(values) * stats.t.ppf((1 + level) / 2, len(values) - 1))
  return mean - half_width, mean + half_width


def share_interval(share: float | int, count: int) -> tuple[float, float]:
  """Returns Wilson's 95 % interval of a share, for example of an accuracy.

  Args:
    share: the part of the images that are right, from 0 to 1.
    count: the number of images.

  Example:
    >>> [round(end, 3) for end in share_interval(0.9, 100)]
    [0.826, 0.945]
  """
  found = stats.binomtest(round(min(max(share, 0), 1) * count), count)
  low, high = found.proportion_ci(_LEVEL, 'wilson')
  return float(low), float(high)


def paired_difference(
  first: Mapping[int, float | int], second: Mapping[int, float | int]
) -> tuple[list[int], Summary]:
  """Summarizes the difference of two rows, seed by seed.

  Args:
    first: the value of each seed.
    second: the values that are subtracted.

  Returns:
    The seeds that both have, and the summary of `first - second` over these.

  Example:
    >>> seeds, found = paired_difference({0: 3.0, 1: 4.0, 2: 5.0}, {0: 1.0, 1: 2.0})
    >>> seeds, found.mean
    ([0, 1], 2.0)
  """
  seeds = sorted(first.keys() & second.keys())
  return seeds, summarize(first[seed] - second[seed] for seed in seeds)


def difference_of_means(first: Sequence[float | int], second: Sequence[float | int]) -> Difference:
  """Compares two samples whose variances may differ.

  Args:
    first: at least two values.
    second: at least two values, which are subtracted.

  Example:
    >>> round(difference_of_means([1.0, 2.0, 3.0], [2.0, 3.0, 5.0]).p, 2)
    0.28
  """
  test = stats.ttest_ind(first, second, equal_var=False)
  low, high = test.confidence_interval(_LEVEL)
  return Difference(
    difference=float(np.mean(first) - np.mean(second)),
    standard_error=float(np.hypot(stats.sem(first), stats.sem(second))),
    interval=(float(low), float(high)),
    t=float(test.statistic),
    degrees_of_freedom=float(test.df),
    p=float(test.pvalue),
  )
