"""The facts in which every start of a run must agree: its data, and the settings of JAX.

The folder of a run keeps them in `identity.json`. So the images of a run may move to another place,
and changed images are noticed before a step is made with them.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stretchnas_jax.machine import devices, facts, faults
from stretchnas_jax.machine.faults import Fault
from stretchnas_jax.runs import fields as fields_lib
from stretchnas_jax.runs import record
from stretchnas_jax.runs.fields import Refused
from stretchnas_jax.runs.json_files import plain, read_object

FILE = 'identity.json'

# The field that says where the data are. The fingerprint says which data they are.
PLACE = ('data.path',)

_WORDS = {
  'shape': 'the shape of the images',
  'names': 'the names of the files',
  'labels': 'the labels',
  'sizes': 'the sizes of the files',
  'times': 'the times of the files',
  'version': 'the prepared version',
  'contents': 'the contents of the images',
}
_ORDER = 'contents in any order'

# Fields in which the processes of one job may differ.
_OF_EACH_PROCESS = ('data.path', 'data.workers')

# The times of files among the facts; they may differ where `data.compare_times` is False.
_TIMES = {f'data.{part}.times' for part in ('train', 'val', 'test')}


class Disagreement(Fault):
  """A difference between the processes of one job; all of them raise it at the same time.

  Attributes:
    exit_code: of each process, as for another error of the user.
  """

  exit_code = 2


def facts_of(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the facts of a start, as JSON holds them.

  Args:
    fingerprint: of the data, see `data.datasets.fingerprints`.
  """
  return plain({'data': fingerprint, 'jax': facts.jax_settings()})


def check_processes(fields: Mapping[str, Any], now: Mapping[str, Any]) -> None:
  """Raises Disagreement unless all processes of this job have the same config, data and versions.

  Each process of the job must call this. A job of one process needs no answer.

  Args:
    fields: of the run, nested.
    now: the facts of this start, see `facts_of`.
  """
  values = {'config': fields, **now, 'version of': record.versions(), 'flags': facts.flags()}
  flat = fields_lib.flatten(plain(values))
  apart = {f'config.{name}' for name in _OF_EACH_PROCESS}
  if not fields.get('data', {}).get('compare_times', True):
    apart |= _TIMES
  own = {name: value for name, value in flat.items() if name not in apart}
  first, *others = map(json.loads, devices.all_texts(json.dumps(own)))
  for number, other in enumerate(others, 1):
    for name in sorted(first.keys() | other.keys()):
      if first.get(name) != other.get(name):
        raise Disagreement(
          f'the processes of this job do not agree: {name} is {json.dumps(first.get(name))} in '
          f'process 0 and {json.dumps(other.get(name))} in process {number}: start all with the '
          f'same command, data and versions{_advice([_WORDS["times"]]) if name in _TIMES else ""}'
        )


def known(path: pathlib.Path) -> dict[str, Any] | None:
  """Returns the facts that a folder keeps; None for a run of an earlier version.

  Args:
    path: the folder of a run, or of several runs.

  Raises:
    ValueError: the file is damaged.
  """
  return read_object(path / FILE) if (path / FILE).is_file() else None


def check(
  path: pathlib.Path, before: Mapping[str, Any], now: Mapping[str, Any], compare_times: bool = True
) -> None:
  """Raises Refused, in one sentence, where a run was begun with other data or settings.

  Args:
    path: the folder of the run.
    before: the facts that the folder keeps.
    now: the facts of this start.
    compare_times: False where the times of image files may differ.
  """
  with faults.reading(path / FILE):
    found = list(data_differences(before.get('data', {}), now['data'], compare_times))
    settings = dict(before.get('jax', {}))
  if found:
    raise Refused(
      f'the data are not those that {path} was made with: {"; ".join(found[:4])}. Bring the old '
      f'data back, or choose another workdir{_advice(found)}'
    )
  for name, value in settings.items():
    if name in now['jax'] and value != now['jax'][name]:
      raise Refused(
        f'{path} was made with {name}={json.dumps(value)}, now {json.dumps(now["jax"][name])}: '
        f'set {name.upper()}={_shell_value(value)} in the environment, or choose another workdir'
      )


def check_read(path: pathlib.Path, fingerprint: Mapping[str, Any]) -> None:
  """Raises Refused where the images that are read for a run are not those that made it.

  Args:
    path: the folder of the run; one of version 0.1 keeps nothing to compare.
    fingerprint: of the images.
  """
  before = known(path)
  found = list(data_differences((before or {}).get('data', fingerprint), fingerprint, False))
  if found:
    raise Refused(f'the images here are not those of {path} ({"; ".join(found)})')


def data_differences(
  before: Mapping[str, Any], now: Mapping[str, Any], compare_times: bool = True
) -> Iterator[str]:
  """Yields a few words about each fact that differs between two fingerprints.

  Args:
    before: the older fingerprint.
    now: the newer one.
    compare_times: False where the times of image files may differ.
  """
  if before.get('classes', now.get('classes')) != now.get('classes'):
    yield f'the classes are {_short(now.get("classes"))}, and were {_short(before["classes"])}'
  for part in ('train', 'val', 'test'):
    if (part in before) != (part in now):
      yield f'{part} is there now' if part in now else f'{part} is missing'
    elif part in before:
      yield from _part_differences(part, before[part], now[part], compare_times)


def _part_differences(
  part: str, before: Mapping, now: Mapping, compare_times: bool
) -> Iterator[str]:
  if before.get('images') != now.get('images'):
    yield f'{part} has {now.get("images")} images, and had {before.get("images")}'
    return
  other = [name for name in _WORDS if name in before and name in now and before[name] != now[name]]
  if 'contents' in other and _ORDER in before and before[_ORDER] == now.get(_ORDER):
    other.remove('contents')
    yield f'{part}: the images are in another order'
  if not compare_times and 'times' in other:
    other.remove('times')
  for name in other:
    yield f'{part}: {_WORDS[name]} differ'


def _advice(found: list[str]) -> str:
  """Returns a way out where nothing but the times of files differs."""
  if not all(_WORDS['times'] in words for words in found):
    return ''
  return (
    ' (if the images are the same, copy them with their times, for example by rsync -a, or compare '
    'names and sizes alone: --config.data.compare_times=False)'
  )


def _shell_value(value: Any) -> str:
  return str(int(value)) if isinstance(value, bool) else str(value)


def _short(names: Any) -> str:
  text = ', '.join(map(str, names or ()))
  return text if len(text) <= 80 else f'{text[:77]}...'


def of_checkpoint(now: Mapping[str, Any], config: dict, free: Iterable[str]) -> dict[str, str]:
  """Returns short texts that each checkpoint of a run keeps.

  Args:
    now: the facts of a start, see `facts_of`. The times of files do not count here.
    config: the fields with which the run was made, without the cell.
    free: fields that may differ from one start to the next.
  """
  data = {
    name: {fact: value for fact, value in part.items() if fact != 'times'}
    if isinstance(part, dict)
    else part
    for name, part in now['data'].items()
  }
  return {
    'data': _digest(data),
    'settings of JAX': _digest(now['jax']),
    'fields': fields_lib.digest(config, (*free, *PLACE)),
  }


def of_config(config: dict, free: Iterable[str]) -> dict[str, str]:
  """Returns short texts of a config alone, of which a checkpoint keeps one.

  Args:
    config: the fields with which the run was made, without the cell.
    free: fields that may differ from one start to the next.

  Returns:
    `fields`, and `config` as version 0.1 kept it: there the path of the data counts.
  """
  return {
    'fields': fields_lib.digest(config, (*free, *PLACE)),
    'config': fields_lib.digest(config, free),
  }


def _digest(values: Any) -> str:
  return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
