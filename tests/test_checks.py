"""The checks of the arguments of networks."""

import numpy as np
import pytest

from stretchnas_jax.networks import checks


@pytest.mark.parametrize('value', [0, -2, 2.0, True, '4', None])
def test_sizes_are_positive_whole_numbers(value):
  with pytest.raises(ValueError, match='channels is .*whole number'):
    checks.check_size('channels', value)


def test_even_sizes():
  checks.check_size('channels', np.int64(6), even=True)
  with pytest.raises(ValueError, match='channels is 5; it must be a positive even whole number'):
    checks.check_size('channels', 5, even=True)
