"""Enforced annotations whose preparation for an inner function is done once.

`jaxtyping.jaxtyped` writes and compiles the checks of a function each time that its `def` runs. For
inner functions that is at each call of the outer one, and takes longer than all checks together.
"""

import functools
import inspect
import threading
import types
from collections.abc import Callable
from typing import Any

import jaxtyping

# The checks of an inner function by its code, for all functions that its `def` has made.
_checks: dict[types.CodeType, Callable[..., Any]] = {}


class _Calls(threading.local):
  """The inner functions that are being called in this thread, the last one last."""

  def __init__(self) -> None:
    self.functions: list[Callable[..., Any]] = []


_calls = _Calls()


def install() -> None:
  """Makes the import hook prepare the checks of each inner function once.

  Its annotations are taken from the first function that its `def` makes.
  """
  plain = jaxtyping.jaxtyped

  def jaxtyped(fn: Any = None, *, typechecker: Any) -> Any:
    if fn is None:
      return functools.partial(jaxtyped, typechecker=typechecker)
    if not _is_inner(fn):
      return plain(fn, typechecker=typechecker)
    if fn.__code__ not in _checks:
      _checks[fn.__code__] = plain(_forwarding(fn), typechecker=typechecker)
    return _checked(fn, _checks[fn.__code__])

  jaxtyping.jaxtyped = jaxtyped


def _is_inner(fn: Any) -> bool:
  """Returns True for an inner function whose annotations need no names from its module."""
  if not isinstance(fn, types.FunctionType) or '<locals>' not in fn.__qualname__:
    return False
  return not any(isinstance(value, str) for value in fn.__annotations__.values())


def _forwarding(fn: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a function with the signature of `fn` that calls the function that is being called."""

  @functools.wraps(fn)
  def forward(*args: Any, **kwargs: Any) -> Any:
    return _calls.functions[-1](*args, **kwargs)

  # Without a reference to `fn`, which may hold large arrays.
  forward.__signature__ = inspect.signature(fn)
  del forward.__wrapped__
  return forward


def _checked(fn: Callable[..., Any], check: Callable[..., Any]) -> Callable[..., Any]:
  @functools.wraps(fn)
  def call(*args: Any, **kwargs: Any) -> Any:
    # A signal may call another function before `check` calls this one.
    _calls.functions.append(fn)
    try:
      return check(*args, **kwargs)
    finally:
      _calls.functions.pop()

  return call
