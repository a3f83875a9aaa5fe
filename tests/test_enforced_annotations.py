"""The annotations of inner functions are enforced at every call, whoever made the function."""

import beartype
import enforced_annotations
import jaxtyping
import numpy as np
import pytest
from jaxtyping import Float


def make(keeps_shape):
  @jaxtyping.jaxtyped(typechecker=beartype.beartype)
  def inner(x: Float[np.ndarray, 'a b'], times: int = 2) -> Float[np.ndarray, 'a b']:
    return times * x if keeps_shape else x[0]

  return inner


def test_each_inner_function_is_the_one_that_runs():
  twice, wrong = make(True), make(False)
  x = np.ones((2, 3))
  np.testing.assert_array_equal(twice(x), 2 * x)
  with pytest.raises(jaxtyping.TypeCheckError, match='checking the return value of .*inner'):
    wrong(x)
  np.testing.assert_array_equal(twice(x, times=3), 3 * x)
  assert twice.__name__ == 'inner' and twice.__wrapped__ is not wrong.__wrapped__


@pytest.mark.parametrize('args', [(np.ones(3),), (np.ones((2, 3)), 'two')])
def test_wrong_arguments_are_refused_by_later_functions_too(args):
  for _ in range(2):
    with pytest.raises(jaxtyping.TypeCheckError, match='checking the parameters of .*inner'):
      make(True)(*args)


def test_the_checks_are_prepared_once():
  prepared = enforced_annotations._checks
  before = len(prepared)
  assert make(True).__wrapped__.__code__ is make(False).__wrapped__.__code__
  assert len(prepared) - before in (0, 1)


def test_a_function_that_calls_itself_through_others_is_checked():
  inner = make(True)

  @jaxtyping.jaxtyped(typechecker=beartype.beartype)
  def outer(x: Float[np.ndarray, 'a b'], depth: int) -> Float[np.ndarray, 'a b']:
    return outer(inner(x), depth - 1) if depth else inner(x)

  np.testing.assert_array_equal(outer(np.ones((1, 2)), 2), 8 * np.ones((1, 2)))
