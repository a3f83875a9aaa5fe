"""Counts the multiplications and additions of a traced program.

Convolutions and matrix products alone count; they are nearly all. A multiplication and an addition
are two. Zeros at the borders of an image count as if they were multiplied.
"""

import math
from collections.abc import Iterator
from typing import Any

from jax.extend import core


def count(jaxpr: core.Jaxpr | core.ClosedJaxpr) -> float:
  """Returns the operations of one run on one device.

  A conditional counts as the mean of its branches, and a loop of unknown length as one turn.

  Args:
    jaxpr: of a traced program.
  """
  closed = getattr(jaxpr, 'jaxpr', jaxpr)
  return float(sum(map(_of_one, closed.eqns)))


def _of_one(equation: Any) -> float:
  """Returns the operations of an equation and of all that it calls."""
  kind, params = equation.primitive.name, equation.params
  if kind == 'conv_general_dilated':
    return _convolution(equation)
  if kind == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2.0 * math.prod(out) * math.prod(left[axis] for axis in contracted)
  inner = list(_inner(params))
  if kind == 'cond':
    return float(sum(map(count, inner))) / max(1, len(inner))
  turns = params['length'] if kind == 'scan' else 1
  return float(turns * sum(map(count, inner)))


def _convolution(equation: Any) -> float:
  """Returns the operations of a convolution; zeros between the rows of its input do not count."""
  params = equation.params
  kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
  spec = params['dimension_numbers'].rhs_spec
  per_output = math.prod(kernel[axis] for axis in spec[1:])
  return 2 * math.prod(out) * per_output / math.prod(params['lhs_dilation'])


def _inner(params: dict[str, Any]) -> Iterator[Any]:
  """Yields the programs that an equation calls."""
  for value in params.values():
    for one in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(one, (core.Jaxpr, core.ClosedJaxpr)):
        yield one
