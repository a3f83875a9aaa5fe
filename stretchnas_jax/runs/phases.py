"""The phases of a search, as data: how long each is, its fields, and what is new in it.

`config.search.phases` is a tuple of dicts, which JSON can hold. A phase has

- `epochs`, its share of `config.search.epochs`: a search of other length scales all phases;
- fields by their full names, such as `'model.num_layers': 11`, in place of those of the config;
- `new`, names of the things that are new, see `NEW`; everything else goes on;
- `keep`, how many operations stay on each edge, the strongest ones. `keep: 'groups'` keeps the
  strongest one of each group of the relaxation.

A search without phases is a search of one phase. Warm-up epochs of a phase scale with it.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stretchnas_jax import config as config_lib
from stretchnas_jax.config import ConfigDict
from stretchnas_jax.config import names as names_lib

NEW = ('weights', 'momentum', 'schedule', 'alpha', 'beta', 'arch_optimizer')
"""What may be new in a phase.

`weights`: the weights, their running averages, and the momentum of their optimizer. `momentum`:
that alone. `schedule`: the learning rate begins its curve again, over the epochs up to the next
phase that names it. `alpha`, `beta`: the logits, and the state of their optimizer.
`arch_optimizer`: only the state of both optimizers.
"""

GROUPS = 'groups'
"""The value of `keep` by which the strongest operation of each group stays."""

_OWN = ('begin', 'parts')
_KEYS = ('epochs', 'new', 'keep')
# Groups and fields that are of the whole run.
_WHOLE_RUN = ('parallel', 'checkpoint', 'log', 'data', 'seed')
_WHOLE_RUN_FIELDS = (
  'search.epochs', 'search.batch_size', 'search.steps_per_call', 'search.phases',
  'model.batch_norm',
)  # fmt: skip
_SCALED = '_epochs'  # fields that end so are numbers of epochs of a phase


class Phase(NamedTuple):
  """One phase of a search.

  Attributes:
    number: counted from 0.
    config: with the fields of this phase.
    epochs: its length.
    schedule: the number of epochs of the learning rate's curve, and how many of them are over when
      the phase begins.
    several: whether it is one of several phases.
    new: names of `NEW`.
    keep: operations of each edge that stay when it begins: a number, `GROUPS`, or None for all.
    begin: a researcher's function `(state, new) -> state` in place of the usual carrying over; None
      for that one.
    parts: a researcher's own objects for this phase.
  """

  number: int
  config: ConfigDict
  epochs: int
  schedule: tuple[int, int] = (0, 0)
  several: bool = False
  new: frozenset[str] = frozenset()
  keep: int | str | None = None
  begin: Any = None
  parts: Mapping[str, Any] = {}


def read(config: ConfigDict, own: Sequence[Mapping[str, Any]] = ()) -> tuple[Phase, ...]:
  """Returns the phases of a search; one that is the whole search, where none are given.

  Args:
    config: a checked search config.
    own: phases from a researcher's program, in place of `config.search.phases`. They may have
      `begin` and `parts` too, see `Phase`.

  Raises:
    ValueError: one sentence that names the phase and the mistake.
  """
  given = tuple(own) or tuple(config.search.phases)
  total = config.search.epochs
  if not given:
    return (Phase(0, config, total, schedule=(total, 0)),)
  for number, phase in enumerate(given):
    _check_phase(number, phase, (*_KEYS, *_OWN) if own else _KEYS)
  shares = [phase['epochs'] for phase in given]
  lengths = scaled(shares, total)
  curves = _curves(lengths, [i == 0 or 'schedule' in p.get('new', ()) for i, p in enumerate(given)])
  return tuple(
    Phase(
      i,
      _config_of(i, config, phase, lengths[i], shares[i]),
      lengths[i],
      curves[i],
      len(given) > 1,
      frozenset(phase.get('new', ())),
      phase.get('keep'),
      phase.get('begin'),
      phase.get('parts', {}),
    )
    for i, phase in enumerate(given)
  )


def scaled(shares: Sequence[int], total: int) -> list[int]:
  """Returns lengths in proportion to shares, each at least 1, whose sum is `total`.

  Args:
    shares: whole numbers.
    total: the sum of the lengths.

  Raises:
    ValueError: there are more shares than `total`.
  """
  count, whole = len(shares), sum(shares)
  if total < count:
    raise ValueError(
      f'config.search.epochs is {total}; it must be at least {count}, one for each phase'
    )
  ends, before = [], 0
  for i, sum_of_shares in enumerate(itertools.accumulate(shares)):
    rounded = (2 * total * sum_of_shares + whole) // (2 * whole)
    before = min(max(rounded, before + 1), total - (count - 1 - i))
    ends.append(before)
  return [end - start for start, end in zip([0, *ends], ends)]


def _curves(lengths: Sequence[int], begins: Sequence[bool]) -> list[tuple[int, int]]:
  """Returns for each phase the epochs of its learning rate's curve, and those that are over."""
  found, first = [], 0
  for i, new in enumerate(begins):
    first = i if new else first
    end = next((j for j in range(i + 1, len(begins)) if begins[j]), len(begins))
    found.append((sum(lengths[first:end]), sum(lengths[first:i])))
  return found


def _check_phase(number: int, phase: Mapping[str, Any], keys: Sequence[str]) -> None:
  """Raises ValueError for a wrong name or value beside the fields of a phase."""
  where = f'config.search.phases[{number}]'
  names = [name for name in phase if '.' not in name]
  for name in names:
    if name not in keys:
      hint = names_lib.did_you_mean(name, keys) or f'its names are {names_lib.some(keys)}'
      raise ValueError(f'{where} has {name!r}; {hint}, and fields such as model.num_layers')
  epochs, keep = phase.get('epochs'), phase.get('keep')
  if type(epochs) is not int or epochs < 1:
    raise ValueError(f'{where} has epochs={epochs!r}; it must be a whole number of at least 1')
  if keep is not None and keep != GROUPS and not (type(keep) is int and keep >= 1):
    raise ValueError(f'{where} has keep={keep!r}; it must be a whole number, or {GROUPS!r}')
  new = phase.get('new', ())
  if not isinstance(new, tuple | list) or not all(name in NEW for name in new):
    raise ValueError(f'{where} has new={new!r}; it must hold names of {", ".join(NEW)}, in a tuple')
  if not number and (keep is not None or new):
    raise ValueError(f'{where} is the first phase, where all is new; it needs no new and no keep')
  own, begin = phase.get('parts', {}), phase.get('begin')
  if not isinstance(own, Mapping):
    raise ValueError(f'{where} has parts of the type {type(own).__name__}; it must be a dict')
  if begin is not None and not callable(begin):
    raise ValueError(f'{where} has begin={begin!r}; it must be a function (state, new) -> state')


def _config_of(
  number: int, config: ConfigDict, phase: Mapping[str, Any], length: int, share: int
) -> ConfigDict:
  """Returns the config with the fields of a phase; fields in epochs scale with its length."""
  found = config.copy_and_resolve_references()
  found.unlock()
  known = config_lib.flatten(config)
  fields = {name: value for name, value in phase.items() if '.' in name}
  where = f'config.search.phases[{number}]'
  for name in fields:
    if name not in known:
      hint = names_lib.did_you_mean(name, known) or 'a phase has fields of the config'
      raise ValueError(f'{where} has the field {name!r}, which is unknown; {hint}')
    of_run = name.partition('.')[0] in _WHOLE_RUN and name != 'data.split'
    if of_run or name in _WHOLE_RUN_FIELDS:
      raise ValueError(f'{where} has the field {name!r}, which is of the whole search')
  try:
    found.update_from_flattened_dict(fields)
  except (TypeError, ValueError) as error:
    raise ValueError(f'{where} has a field that does not fit: {error}') from error
  in_epochs = [name for name in known if name.startswith('search.') and name.endswith(_SCALED)]
  for name in in_epochs:
    value = config_lib.flatten(found)[name]
    if isinstance(value, int):
      found.update_from_flattened_dict({name: value * length // share})
  # Alone, the phase would be a search of so many epochs.
  found.search.phases, found.search.epochs = (), length
  return found
