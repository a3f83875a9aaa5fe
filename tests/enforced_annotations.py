"""Enforced annotations that cost little.

`jaxtyping.jaxtyped` binds the arguments of each call for its messages, and checks them twice. One
check by beartype in a scope of its own for the sizes of arrays finds the same faults.

It also writes and compiles the checks of a function each time that its `def` runs. For inner
functions that is at each call of the outer one, and takes longer than all checks together.
"""

import functools
import inspect
import threading
import types
from collections.abc import Callable
from typing import Any

import beartype
import jaxtyping

# Sizes such as `N` are the same within one call alone.
_SCOPE = jaxtyping.jaxtyped('context')

# The checks of an inner function by its code, for all functions that its `def` has made.
_checks: dict[types.CodeType, Callable[..., Any]] = {}


class _Calls(threading.local):
  """The inner functions that are being called in this thread, the last one last."""

  def __init__(self) -> None:
    self.functions: list[Callable[[], Any]] = []

  def last(self) -> Any:
    """Runs the function that is being called, with the arguments of the call."""
    return self.functions[-1]()


_calls = _Calls()


def install() -> None:
  """Makes the import hook check each call once, and prepare an inner function's checks once.

  The annotations of an inner function are taken from the first that its `def` makes.
  """
  plain = jaxtyping.jaxtyped

  def jaxtyped(fn: Any = None, *, typechecker: Any) -> Any:
    if fn is None:
      return functools.partial(jaxtyped, typechecker=typechecker)
    if not _is_readable(fn):
      return plain(fn, typechecker=typechecker)
    if '<locals>' not in fn.__qualname__:
      return _checked(fn, beartype.beartype(fn))
    if fn.__code__ not in _checks:
      _checks[fn.__code__] = beartype.beartype(_stand_in(fn))
    return _checked_as_its_kind(fn, _checks[fn.__code__])

  jaxtyping.jaxtyped = jaxtyped


def _is_readable(fn: Any) -> bool:
  """Returns True for a function whose annotations need no names from its module."""
  return (
    isinstance(fn, types.FunctionType)
    and not inspect.isgeneratorfunction(fn)
    and not any(isinstance(value, str) for value in fn.__annotations__.values())
  )


def _checked(fn: Callable[..., Any], check: Callable[..., Any]) -> Callable[..., Any]:
  @functools.wraps(fn)
  def call(*args: Any, **kwargs: Any) -> Any:
    if jaxtyping.config.jaxtyping_disable:
      return fn(*args, **kwargs)
    with _SCOPE:
      return check(*args, **kwargs)

  return call


def _checked_as_its_kind(fn: Callable[..., Any], check: Callable[..., Any]) -> Callable[..., Any]:
  @functools.wraps(fn)
  def call(*args: Any, **kwargs: Any) -> Any:
    if jaxtyping.config.jaxtyping_disable:
      return fn(*args, **kwargs)
    # A signal may call another function before `check` calls this one.
    _calls.functions.append(functools.partial(fn, *args, **kwargs))
    try:
      with _SCOPE:
        return check(*args, **kwargs)
    finally:
      _calls.functions.pop()

  return call


class _Name:
  """Stands for a default value in the text of a signature."""

  def __init__(self, name: str) -> None:
    self.name = name

  def __repr__(self) -> str:
    return self.name


def _stand_in(fn: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a function with the signature of `fn` that runs the function that is being called.

  It holds no reference to `fn`, which may hold large arrays.
  """
  empty = inspect.Parameter.empty
  signature = inspect.signature(fn)
  names: dict[str, Any] = {'_last': _calls.last}
  parameters = []
  for parameter in signature.parameters.values():
    default = parameter.default
    if default is not empty:
      names[f'_default_{parameter.name}'] = default
      default = _Name(f'_default_{parameter.name}')
    parameters.append(parameter.replace(annotation=empty, default=default))
  bare = signature.replace(parameters=parameters, return_annotation=empty)
  exec(f'def {fn.__name__}{bare}: return _last()', names)
  stand_in = names[fn.__name__]
  stand_in.__annotations__ = dict(fn.__annotations__)
  stand_in.__module__, stand_in.__qualname__ = fn.__module__, fn.__qualname__
  return stand_in
