"""The kinds of a researcher's own objects, each checked with one sentence, and their names."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from stretchnas_jax.cells.relaxation import Relaxation
from stretchnas_jax.cells.space import SearchSpace
from stretchnas_jax.cells.topology import TopologyTable
from stretchnas_jax.learning.rules import Rule


class _Kind(NamedTuple):
  """A kind of own object.

  Attributes:
    fits: whether a value is one.
    words: how a sentence names it.
  """

  fits: Callable[[Any], bool]
  words: str


def _is_monitor(value: Any) -> bool:
  return all(callable(getattr(value, name, None)) for name in ('init', 'end_epoch'))


def _holds_functions(value: Any) -> bool:
  return isinstance(value, Mapping) and all(map(callable, value.values()))


def _is_decoding(value: Any) -> bool:
  """Tells whether a value is a rule, or has one for each cell type; None is the usual one."""
  rules = value.values() if isinstance(value, Mapping) else (value,)
  return all(rule is None or callable(rule) for rule in rules)


_OPTIMIZER = _Kind(
  lambda value: isinstance(value, optax.GradientTransformation) or callable(value),
  'an optax transformation, or a function of the number of steps',
)

_ONE = {
  'space': _Kind(lambda value: isinstance(value, SearchSpace), 'a SearchSpace'),
  'operations': _Kind(_holds_functions, 'a dict of functions (channels, stride) -> linen module'),
  'topology': _Kind(
    lambda value: isinstance(value, TopologyTable) or callable(value),
    'a TopologyTable, or a function of a CellGraph',
  ),
  'relaxation': _Kind(lambda value: isinstance(value, Relaxation), 'a Relaxation'),
  'rule': _Kind(lambda value: isinstance(value, Rule) or callable(value), 'a Rule, or a function'),
  'knobs': _Kind(callable, 'a function of the step'),
  'decoding': _Kind(_is_decoding, 'a function, or a dict of functions by cell type'),
  'weights_tx': _OPTIMIZER,
  'alpha_tx': _OPTIMIZER,
  'beta_tx': _OPTIMIZER,
}

_MANY = {
  'penalties': _Kind(callable, 'a function (arch, op_weights, edge_scores, knobs)'),
  'phases': _Kind(lambda value: isinstance(value, Mapping), 'a dict'),
  'monitors': _Kind(_is_monitor, 'a Monitor'),
}


def check(parts: Mapping[str, Any]) -> None:
  """Raises ValueError, in one sentence, for an own object of the wrong kind.

  Args:
    parts: own objects by name; None where there is none.
  """
  for name, kind in _ONE.items():
    if (value := parts.get(name)) is not None:
      _check_one(name, value, kind)
  for name, kind in _MANY.items():
    values = parts.get(name, ())
    # A Monitor is a tuple too, with fields.
    if not isinstance(values, tuple | list) or hasattr(values, '_fields'):
      raise ValueError(
        f'parts has {name} of the type {type(values).__name__}; it must be a tuple, such as (x,)'
      )
    for i, value in enumerate(values):
      _check_one(f'{name}[{i}]', value, kind)


def _check_one(name: str, value: Any, kind: _Kind) -> None:
  if not kind.fits(value):
    raise ValueError(
      f'parts has {name} of the type {type(value).__name__}; it must be {kind.words}'
    )


def names(parts: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a name for each own object.

  Args:
    parts: own objects by name; None or () where there is none.
  """
  found: dict[str, Any] = {}
  for name, value in parts.items():
    if name == 'operations' and value:
      found[name] = sorted(value)
    elif name == 'penalties' and value:
      found[name] = [_name_of(penalty) for penalty in value]
    elif name == 'monitors' and value:
      found[name] = [_name_of(monitor.end_epoch) for monitor in value]
    elif name == 'phases' and value:
      found[name] = [_plain(phase) for phase in value]
    elif name == 'data' and value is not None:
      found[name] = 'given'
    elif value is not None and value != ():
      found[name] = _name_of(value)
  return found


def _plain(phase: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a phase as JSON holds it: its functions and objects have their names."""
  names = {name: _name_of(value) for name, value in phase.get('parts', {}).items()}
  own = {'parts': names} if names else {}
  own |= {'begin': _name_of(phase['begin'])} if phase.get('begin') else {}
  return {name: value for name, value in phase.items() if name not in ('begin', 'parts')} | own


def _name_of(value: Any) -> str:
  """Returns the name of a function or class, or the class of another object."""
  named = value if hasattr(value, '__qualname__') else type(value)
  return f'{named.__module__}.{named.__qualname__}'
