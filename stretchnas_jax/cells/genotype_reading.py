"""Finds the genotype in a text: alone, in a file of many, in a log, or inside another value."""

import difflib
import html
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from stretchnas_jax.cells import genotype_dialects, genotype_keys
from stretchnas_jax.cells.genotype_forms import Cells
from stretchnas_jax.cells.genotype_text import FIELDS, shorten
from stretchnas_jax.cells.genotype_values import Reader

MAX_CHARACTERS = 8_000_000
"""The longest text that is searched for a genotype, a log for example."""
_TOKENS = 100_000
_MAX_STARTS = 1000
# How deep a genotype may lie in the result of a program, or in a notebook.
_MAX_DEPTH = 6

_FENCE = re.compile(r'^[^\S\n]{0,20}(?:```|~~~)[^\n]*$', re.MULTILINE)
_PROMPT = re.compile(r'^[^\S\n]{0,20}(?:>{1,3}|\.\.\.)[^\S\n]', re.MULTILINE)
_COLOURS = re.compile(r'\x1b\[[0-9;]{0,20}[A-Za-z]')
_START = re.compile(
  r'[Gg]enotype\w{0,20}\s{0,9}\(|\{\s{0,99}[uU]?\\?["\'‘“]?(?:normal|reduc|Network|edge_)'
)
_NAME_BEFORE = re.compile(
  r'(?:^|\n)[^\S\n]{0,20}([A-Za-z_]\w{0,99})\s{0,9}(?::[^=\n]{0,50})?=[\s\\]{0,9}'
  r'(?:\w{1,50}\.){0,3}\w{0,50}$'
)
_ALIAS = re.compile(
  r'^[^\S\n]{0,20}([A-Za-z_]\w*+)[^\S\n]*+=[^\S\n]*+([A-Za-z_]\w*+)[^\S\n]*+(?:#|$)', re.MULTILINE
)
_NAME_AT_START = re.compile(r'\s*+([A-Za-z_]\w*+)\s*+=')
_BENCH_201 = re.compile(r'\|\w{1,40}~\d{1,3}\|')
# Keys of the results of programs that say nothing about a cell.
_PLAIN_KEYS = {'genotype', 'arch', 'architecture', 'cell', 'model', 'config', 'result', 'best'}


class _Found(NamedTuple):
  """One genotype in a text.

  Attributes:
    name: that the text gives it, or None.
    read: returns its cells; raises ValueError where they are wrong.
  """

  name: str | None
  read: Callable[[Sequence[str]], Cells]


def find(text: str, name: str | None, operations: Sequence[str]) -> Cells:
  """Returns the cells that a text holds; arguments as for `genotype.read_form`.

  Args:
    text: the text.
    name: of one cell, or None.
    operations: names beside the known ones.

  Raises:
    ValueError: there is none, or several of different names.
  """
  if not isinstance(text, str):
    raise ValueError(f'a genotype is read from text, not from {type(text).__name__}')
  if len(text) > MAX_CHARACTERS:
    raise ValueError(f'the text has {len(text)} characters; allowed are {MAX_CHARACTERS}')
  text = _cleaned(text)
  if not text.strip():
    raise ValueError('the text is empty')
  try:
    found = _alone(text)
  except ValueError as error:
    return _in_statements(text, name, operations, error)
  return _chosen(found, name, {}).read(operations)


def _cleaned(text: str) -> str:
  """Returns a text without terminal colours, Markdown fences, prompts and codes of HTML."""
  text = _COLOURS.sub('', text.replace('\r\n', '\n').replace('\x00', ''))
  text = _PROMPT.sub('', _FENCE.sub('', text))
  return html.unescape(text) if '&quot;' in text or '&#' in text else text


def _alone(text: str) -> list[_Found]:
  """Returns the genotypes of a text that is one value, or a printed configuration."""
  if keys := genotype_keys.from_lines(text):
    return _inside(keys)
  value = Reader(text, _TOKENS).take_all('the genotype')
  name = _NAME_AT_START.match(text)
  found = _inside(value, name[1] if name else None)
  if not found and isinstance(value, str) and value.strip() != text.strip():
    return _alone(_cleaned(value))  # a text in quotation marks
  if not found:
    raise ValueError(_nothing(text, value))
  return found


def _nothing(text: str, value: Any) -> str:
  """Returns the sentence for a value that holds no genotype."""
  if _BENCH_201.search(text[:10_000]):
    return (
      'the text is a cell of NAS-Bench-201, with one input and operations of its own; a genotype '
      'here has two cells with two inputs each'
    )
  mapping = genotype_dialects.mapping_of(value)
  if mapping is not None and (there := [field for field in FIELDS if field in mapping]):
    missing = next(field for field in ('normal', 'reduce', *FIELDS) if field not in there)
    return f'{missing} is missing; a genotype has {", ".join(FIELDS)}'
  return f'the text {shorten(text.strip())} holds no genotype'


def _inside(value: Any, name: str | None = None, depth: int = 0) -> list[_Found]:
  """Returns the genotypes in a value: itself, or those in a dict or list, with their names."""
  if depth > _MAX_DEPTH:
    return []
  mapping = genotype_dialects.mapping_of(value)
  if mapping is not None:
    mapping = genotype_dialects.with_usual_names(mapping)
    own = mapping.get('name')
    name = own if isinstance(own, str) else name
    if 'normal' in mapping and 'reduce' in mapping:
      return [_Found(name, lambda more: genotype_dialects.two_cells(mapping, more))]
    if (read := genotype_keys.reader_of(list(mapping))) is not None:
      return [_Found(name, lambda more: read(mapping, more))]
    items = [(str(key), item) for key, item in mapping.items()]
  elif isinstance(value, list | tuple):
    items = [(str(i), item) for i, item in enumerate(value)]
  elif isinstance(value, str) and _START.search(value) and depth:
    try:
      return [found._replace(name=found.name or name) for found in _alone(_cleaned(value))]
    except ValueError:
      return []
  else:
    return []
  found = []
  for key, item in items[:2000]:
    inner = name if key in _PLAIN_KEYS else key
    found += _inside(item, inner, depth + 1)
  return found


def _chosen(found: Sequence[_Found], name: str | None, aliases: dict[str, str]) -> _Found:
  """Returns the genotype with a name, or the only one."""
  by_name = {cell.name: cell for cell in found if cell.name is not None}
  if name is None and (len(found) == 1 or len(by_name) < 2):
    return found[-1]
  for _ in range(10):  # a name may stand for another one
    if name in by_name:
      return by_name[name]
    name = aliases.get(name or '', name)
  names = [shorten(known)[1:-1] for known in by_name if known]
  shown = (
    ', '.join(names) if len(names) <= 8 else f'{", ".join(names[:7])} and {len(names) - 7} more'
  )
  if name is None:
    raise ValueError(
      f'there are {len(by_name)} genotypes, {shown}: choose one by its name, as in FILE:{names[0]}'
    )
  close = difflib.get_close_matches(name[:100], [known for known in by_name if known], n=1)
  hint = f'did you mean {close[0]}?' if close else f'the names are {shown}' if shown else ''
  raise ValueError(f'no genotype is called {shorten(name)}' + (hint and f'; {hint}'))


def _in_statements(
  text: str, name: str | None, operations: Sequence[str], error: ValueError
) -> Cells:
  """Returns the genotype of a program or a log; the last one where they have no names.

  Args:
    text: the text.
    name: of one cell, or None.
    operations: names beside the known ones.
    error: raised where the text holds nothing that begins like a genotype.
  """
  starts = [match.start() for match in _START.finditer(text)][-_MAX_STARTS:]
  if not starts:
    is_value = text.lstrip()[:1] in ('(', '[', '{')
    raise ValueError(str(error) if is_value else _nothing(text, None))
  named = {start: _name_before(text, start) for start in starts}
  reader = Reader(text, _TOKENS)
  names = {found for found in named.values() if found}
  if name is not None or len(names) > 1:
    found = [_Found(named[start], _later(reader, start)) for start in starts if named[start]]
    cells = [cell for cell in found if name is not None or _can_be_read(cell)]
    if cells:
      aliases = dict(_ALIAS.findall(text)) if name is not None else {}
      return _chosen(cells, name, aliases).read(operations)
  failure = error
  for passed, start in enumerate(reversed(starts)):
    try:
      cells_of = _at(reader, start).read(operations)
    except ValueError as problem:
      failure = problem if failure is error else failure
      if reader.exhausted:
        break
      continue
    return cells_of._replace(notes=(*_place(len(starts), passed), *cells_of.notes))
  raise failure


def _place(count: int, passed: int) -> list[str]:
  """Returns a note on which genotype of a log was read."""
  if count == 1:
    return []
  notes = [f'the last of {count - passed} in the text']
  return notes + [f'{passed} after it cannot be read'] * (passed > 0)


def _name_before(text: str, start: int) -> str | None:
  """Returns the name that a statement gives to the value at a position."""
  match = _NAME_BEFORE.search(text[max(0, start - 200) : start])
  return match[1] if match else None


def _later(reader: Reader, start: int) -> Callable[[Sequence[str]], Cells]:
  return lambda operations: _at(reader, start).read(operations)


def _can_be_read(found: _Found) -> bool:
  """Tells if a value has the form of a genotype; its operations may be unknown."""
  try:
    found.read(())
  except ValueError as error:
    return 'the operation' in str(error)
  return True


def _at(reader: Reader, start: int) -> _Found:
  """Returns the genotype that begins at a position; ValueError where there is none."""
  reader.position = start
  value = reader.value()
  found = _inside(value)
  if not found:
    raise ValueError(_nothing(reader.text[start : start + 200], value))
  return found[-1]
