"""The promotion of shapes and types that traced functions of this package rely on."""

import functools
from collections.abc import Callable
from typing import Any

import jax


def with_usual_promotion(function: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a function that JAX traces with its usual promotion of ranks and types.

  A user may forbid promotion in all of a program (JAX_NUMPY_RANK_PROMOTION=raise,
  JAX_NUMPY_DTYPE_PROMOTION=strict). Flax and this package use it, as most code does. The setting
  holds for the time of one trace, and for gradients that are taken inside it.

  Args:
    function: any function that is traced.
  """

  @functools.wraps(function)
  def promoting(*args: Any, **kwargs: Any) -> Any:
    with jax.numpy_rank_promotion('allow'), jax.numpy_dtype_promotion('standard'):
      return function(*args, **kwargs)

  return promoting
