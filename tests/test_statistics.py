"""Statistics of repeated runs: intervals, and differences on the same seeds."""

import numpy as np
import pytest

from stretchnas_jax.runs import statistics


@pytest.mark.parametrize(
  'values, level, quantile',
  [
    ((1.0, 2.0, 4.0), 0.95, 4.3027),
    ((1.0, 2.0, 4.0), 0.8, 1.8856),
    ((3.1, 2.9, 3.4, 2.2, 2.8), 0.95, 2.7764),
    ((3.1, 2.9, 3.4, 2.2, 2.8), 0.8, 1.5332),
  ],
)
def test_intervals_use_the_quantiles_of_students_t(values, level, quantile):
  half_width = quantile * np.std(values, ddof=1) / len(values) ** 0.5
  expected = np.mean(values) - half_width, np.mean(values) + half_width
  found = statistics.interval_of_mean(values, level)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_three_equal_values_have_an_interval_of_no_width():
  assert statistics.summarize([2.0, 2.0, 2.0]) == (3, 2.0, 0.0, (2.0, 2.0))


def test_fields_that_need_more_values_are_none():
  assert statistics.summarize([]) == (0, None, None, None)
  assert statistics.summarize([2.0]) == (1, 2.0, None, None)
  assert statistics.summarize([2.0, 4.0])[:3] == (2, 3.0, pytest.approx(2**0.5))


def test_differences_use_the_seeds_that_both_have():
  seeds, found = statistics.paired_difference({0: 3.0, 1: 5.0, 2: 9.0}, {2: 8.0, 1: 3.0, 7: 1.0})
  assert seeds == [1, 2] and found.n == 2 and found.mean == pytest.approx(1.5)
  assert found.interval == (1.0, 2.0)


def test_the_interval_of_an_accuracy_is_wilson_s():
  half = 1.96 / np.sqrt(100 + 1.96**2) / 2
  assert statistics.share_interval(0.5, 100) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)
  low, high = statistics.share_interval(1.0, 360)
  assert 0.98 < low < 0.99 and high == 1
