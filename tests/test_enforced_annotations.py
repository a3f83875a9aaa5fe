"""Annotations are enforced at every call; those of inner functions whoever made the function."""

import beartype
import enforced_annotations
import jaxtyping
import numpy as np
import pytest
from beartype.roar import BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation
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
  with pytest.raises(BeartypeCallHintReturnViolation, match='inner.* return'):
    wrong(x)
  np.testing.assert_array_equal(twice(x, times=3), 3 * x)
  assert twice.__name__ == 'inner' and twice.__wrapped__ is not wrong.__wrapped__


@pytest.mark.parametrize('args', [(np.ones(3),), (np.ones((2, 3)), 'two')])
def test_wrong_arguments_are_refused_by_later_functions_too(args):
  for _ in range(2):
    with pytest.raises(BeartypeCallHintParamViolation, match='inner'):
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


@jaxtyping.jaxtyped(typechecker=beartype.beartype)
def _sum(x: Float[np.ndarray, 'n'], y: Float[np.ndarray, 'n']) -> Float[np.ndarray, 'n']:
  return x + y


def test_sizes_of_one_name_agree_within_a_call_and_not_between_calls():
  for n in (2, 3):
    np.testing.assert_array_equal(_sum(np.ones(n), np.ones(n)), 2 * np.ones(n))
  with pytest.raises(BeartypeCallHintParamViolation, match='_sum'):
    _sum(np.ones(2), np.ones(3))


def test_annotations_can_be_turned_off(unchecked):
  np.testing.assert_array_equal(_sum(np.ones(1), np.ones(3)), 2 * np.ones(3))


def test_a_default_is_that_of_the_function_that_is_called():
  def with_default(value):
    @jaxtyping.jaxtyped(typechecker=beartype.beartype)
    def inner(*, x: int = value) -> int:
      return x

    return inner

  assert [with_default(n)() for n in (1, 2)] == [1, 2]
