"""Comparisons of two configs, field by field.

A run keeps its config for years. A field that a later version adds is absent there. An absent field
counts as its default, so that the run still resumes.
"""

import json
import pathlib
import shlex
import zlib
from collections.abc import Iterable

from stretchnas_jax.machine.faults import Fault
from stretchnas_jax.runs.json_files import dumps

# Schedules depend on the number of epochs, so that a run cannot simply go on for longer.
_EPOCHS = ('search.epochs=', 'train.epochs=')


class Refused(Fault):
  """A folder that a run cannot have."""


def flatten(values: dict, prefix: str = '') -> dict:
  """Returns `{'search.epochs': 50, ...}`; an empty group is a value.

  Args:
    values: a nested dict.
    prefix: put before every name.
  """
  flat = {}
  for name, value in values.items():
    nested = isinstance(value, dict) and value
    flat |= flatten(value, f'{prefix}{name}.') if nested else {prefix + name: value}
  return flat


def _is_among(field: str, names: Iterable[str]) -> bool:
  """Tells if a field, or a group that holds it, is named.

  Args:
    field: for example `log.tensorboard`.
    names: fields and groups, for example `('log', 'checkpoint.keep')`.
  """
  return any(field == name or field.startswith(f'{name}.') for name in names)


def check_same(
  path: pathlib.Path, old: dict, new: dict, ignore: Iterable[str], defaults: dict | None = None
) -> None:
  """Raises Refused, with the fields, where two configs differ.

  Args:
    path: the folder, for the sentence.
    old: the config that made it.
    new: the config of this start.
    ignore: fields and groups that may differ.
    defaults: of every field; an absent field counts as its default.
  """
  known, cells_of = flatten(defaults or {}), (old, new)
  old, new = known | flatten(old), known | flatten(new)
  differences = [
    f'{field}={_shown(old, field)}, now {_shown(new, field)}'
    for field in sorted(old.keys() | new.keys())
    if _shown(old, field) != _shown(new, field) and not _is_among(field, ignore)
  ]
  both_train = 'genotype' in cells_of[0] and 'genotype' in cells_of[1]
  if both_train and any(difference.startswith('genotype.') for difference in differences):
    raise Refused(
      f'workdir {path} trains another cell than this --genotype: choose another workdir, or give '
      'the cell that is in its genotype.json'
    )
  if differences:
    advice = 'choose another workdir, or give the fields their old values'
    if all(difference.startswith(_EPOCHS) for difference in differences):
      advice += (
        f'; for more epochs begin in a new workdir with --start-from={shlex.quote(str(path))}'
      )
    raise Refused(f'workdir {path} was made with {"; ".join(differences)}: {advice}')


def kept(old: dict, new: dict, defaults: dict) -> dict:
  """Returns `new` without the fields that `old` lacks and whose values are the defaults.

  A resumed run keeps the fields it was made with. So the digest in its checkpoints stays the same.

  Args:
    old: the config that made the folder, nested.
    new: the config of this start, nested; no other field differs from its default.
    defaults: of every field, nested.
  """
  result = {}
  for name, value in new.items():
    default = defaults.get(name)
    if isinstance(value, dict) and isinstance(default, dict):
      before = old.get(name)
      inner = kept(before if isinstance(before, dict) else {}, value, default)
      if inner or name in old:
        result[name] = inner
    elif name in old or name not in defaults or value != default:
      result[name] = value
  return result


def digest(config: dict, ignore: Iterable[str]) -> str:
  """Returns a short text that changes with every field of a config.

  Args:
    config: a nested dict.
    ignore: fields and groups that do not count.
  """
  flat = flatten(json.loads(dumps(config)))
  counted = {field: value for field, value in flat.items() if not _is_among(field, ignore)}
  return f'{zlib.crc32(json.dumps(counted, sort_keys=True).encode()):08x}'


def _shown(values: dict, field: str) -> str:
  return json.dumps(values[field]) if field in values else 'absent'
