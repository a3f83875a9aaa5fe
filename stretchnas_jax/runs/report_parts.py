"""The parts that the pages of all runs share: state, method, command, config, data, versions."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from stretchnas_jax import config as config_lib
from stretchnas_jax.machine import faults
from stretchnas_jax.runs import fields, identity
from stretchnas_jax.runs.overview import Overview
from stretchnas_jax.views import page, tables
from stretchnas_jax.views.page import Section

IMAGES = 1000
"""Images of a training that are measured for the confusion of its classes."""

Page = tuple[str, str, list[Section], Any]
"""Title, lead, sections, and data for the script."""

_MOST_CLASSES = 50  # classes of which a page counts the images
_LONGEST_VALUE = 300  # characters of a field's value


def field(config: Mapping[str, Any], name: str) -> Any:
  """Returns a field of a config by its full name; None where it has none.

  Args:
    config: nested.
    name: with dots.
  """
  value: Any = config
  for part in name.split('.'):
    value = value.get(part) if isinstance(value, dict) else None
  return value


def lead_of(run: Overview) -> str:
  """Returns the sentence that says what a run is and how far it has come."""
  nouns = {'search': 'search of a cell of an image classifier', 'train': 'training of a cell'}
  whole = f' of {run.epochs}' if run.epochs else ''
  states = {
    'finished': f'finished after {run.epoch} epochs',
    'running': f'at work, {run.epoch}{whole} epochs are done',
    'stopped': f'not finished, {run.epoch}{whole} epochs are done; the same command goes on',
    'damaged': f'damaged, {run.epoch}{whole} epochs are readable',
  }
  what = nouns.get(run.kind, 'run').capitalize()
  return f'{what} by stretchnas_jax: {states[run.state]}.'


def state_notes(run: Overview) -> list[str]:
  """Returns the warnings about a run that is not whole."""
  found = [page.paragraph(run.note, 'warning')] if run.note else []
  if not run.lines:
    found.append(page.paragraph('No epoch is done yet, so there is little to show.', 'note'))
  return found


def config_name(run: Overview) -> str:
  """Returns the name of the config that began a run, for a person."""
  return run.named_config.rsplit('/', 1)[-1].removesuffix('.py') or 'from Python'


def data_name(run: Overview) -> str:
  """Returns the name of the data set."""
  name = field(dict(run.record), 'data.name') or field(run.config, 'data.name')
  return str(name or 'unknown')


def percent(value: Any, digits: int = 1) -> str:
  """Returns a part of 1 in percent; a dash for None.

  Args:
    value: the part.
    digits: after the point.
  """
  return f'{value:.{digits}%}' if isinstance(value, int | float) else '-'


def duration(seconds: float | int) -> str:
  """Returns a time in two units at most: '2 h 5 min'."""
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours} h {minutes} min'
  return f'{minutes} min {rest} s' if minutes else f'{rest} s'


def seconds_of(run: Overview) -> float:
  """Returns the seconds of all epochs so far."""
  spent = [line.get(name) for line in run.lines for name in ('seconds', 'evaluation_seconds')]
  found = run.result.get('seconds')
  if isinstance(found, int | float):
    return float(found)
  return float(sum(one for one in spent if isinstance(one, int | float)))


# ---- how to repeat it ----------------------------------------------------------------------------


def repeat(run: Overview, more: Sequence[str] = ()) -> Section:
  """Returns the section with command, fields that differ, versions and starts.

  Args:
    run: the run.
    more: pieces below the command.
  """
  record = dict(run.record)
  starts = record.get('starts') if isinstance(record.get('starts'), list) else [record]
  starts = [start for start in starts if isinstance(start, dict)]
  first = starts[0] if starts else {}
  versions = record.get('versions') if isinstance(record.get('versions'), dict) else {}
  shown = ', '.join(f'{name} {value}' for name, value in versions.items() if value)
  facts = [
    ('Folder', run.path),
    ('Begun', first.get('date')),
    ('Starts', len(starts) if starts and starts[0] else None),
    ('Versions', shown or None),
    ('Devices', _listed(record.get('devices'))),
    ('Precision', record.get('precision')),
    ('Machine', _listed(record.get('machine'))),
    ('Commit', record.get('git_commit')),
  ]
  return Section('How to repeat it', [_command(first), *more, page.facts(facts), _differing(run)])


def _command(start: Mapping[str, Any]) -> str:
  argv = start.get('argv')
  if not isinstance(argv, list) or not argv:
    return page.paragraph('This run was started from Python, so there is no command.', 'note')
  program, *words = map(str, argv)
  known = program.startswith('stretchnas ')
  begin = program if known else f'python {shlex.quote(program)}'
  name = program.rsplit('/', 1)[-1].removesuffix('.py')
  if program.endswith(f'stretchnas_jax/{name}.py'):
    begin = f'python -m stretchnas_jax.{name}'
  return page.command(' '.join([begin, *map(shlex.quote, words)]))


def _listed(values: Any) -> str | None:
  if isinstance(values, dict):
    return ', '.join(f'{name} {value}' for name, value in values.items())
  return ', '.join(map(str, values)) if isinstance(values, list) and values else None


def _differing(run: Overview) -> str:
  """Returns the table of fields that are not at their defaults."""
  if not run.config or not run.kind:
    return ''
  defaults = config_lib.flatten(config_lib.default_config(run.kind))
  own = {
    name: value
    for name, value in fields.flatten(dict(run.config)).items()
    if not name.startswith('genotype')
  }
  rows = [
    [name, _value(value), _value(defaults[name]) if name in defaults else 'no such field']
    for name, value in sorted(own.items())
    if name not in defaults or _plain(value) != _plain(defaults[name])
  ]
  if not rows:
    return page.paragraph('All fields of the config have their defaults.')
  table = tables.page(
    ['field', 'here', 'default'], rows, 'Fields that differ from the default config'
  )
  return page.scrolled(table, 'fields that differ')


def _plain(value: Any) -> str:
  return json.dumps(value, sort_keys=True, default=str)


def _value(value: Any) -> str:
  text = value if isinstance(value, str) else _plain(value)
  return text if len(text) <= _LONGEST_VALUE else f'{text[:_LONGEST_VALUE]} ...'


# ---- the data ------------------------------------------------------------------------------------


def data(run: Overview) -> Section:
  """Returns the section about the images: parts, classes, and their digests."""
  known = field(dict(run.record), 'data')
  known = known if isinstance(known, dict) else {}
  parts = known.get('parts') if isinstance(known.get('parts'), dict) else {}
  parts = {part: about for part, about in parts.items() if isinstance(about, dict)}
  shape = known.get('image_shape')
  facts = [
    ('Data set', data_name(run)),
    ('Image', ' x '.join(map(str, shape)) if isinstance(shape, list) else None),
  ]
  facts += [(part, f'{about.get("images")} images') for part, about in parts.items()]
  facts += [(f'Digest of {part}', digest) for part, digest in _digests(run)]
  said = known.get('warnings')
  said = said if isinstance(said, list) else []
  warnings = [page.paragraph(str(text), 'warning') for text in said]
  if not parts:
    warnings.append(page.paragraph('This run has not kept the counts of its classes.', 'note'))
  return Section('Data', [page.facts(facts), *warnings, _counts(parts)])


def _digests(run: Overview) -> list[tuple[str, str]]:
  try:
    with faults.reading(run.path / identity.FILE):
      about = (identity.known(run.path) or {}).get('data', {})
      return [
        (part, str(values.get('contents') or values.get('names')))
        for part, values in about.items()
        if isinstance(values, dict) and (values.get('contents') or values.get('names'))
      ]
  except (ValueError, OSError):
    return []


def _counts(parts: Mapping[str, Any]) -> str:
  """Returns the table of images by class and part."""
  names = list(parts)
  counted = [about.get('classes') for about in parts.values()]
  by_part = [counts for counts in counted if isinstance(counts, dict)]
  classes = list(dict.fromkeys(name for counts in by_part for name in counts))
  if not classes or len(by_part) != len(names):
    return ''
  rows = [[name, *(counts.get(name) for counts in by_part)] for name in classes[:_MOST_CLASSES]]
  table = page.scrolled(tables.page(['class', *names], rows), 'images of each class')
  more = len(classes) - _MOST_CLASSES
  note = page.paragraph(f'{more} more classes are not listed.', 'note') if more > 0 else ''
  return page.folded(f'Images of each class ({len(classes)} classes)', table + note)
