"""The two written forms of a genotype, read and written as dicts of its four fields.

DARTS' form is the one that papers print; every node has two edges. The native form is JSON, for any
number of edges. Both readers are strict, and neither ever evaluates a text.
"""

import collections
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from stretchnas_jax.cells.space import CELL_TYPES

FIELDS = ('normal', 'normal_concat', 'reduce', 'reduce_concat')
"""The fields of a genotype, in the order in which they are written."""

MAX_CHARACTERS = 100_000
"""The longest text that is read: far above any cell. It bounds the work of a malicious text."""

_ONCE = f'a genotype has {", ".join(FIELDS)}, once each'

_Item = TypeVar('_Item')

_TOKEN = re.compile(
  r"""\s*([A-Za-z_]\w*|0|[1-9]\d*|'[^'"\\\n]*'|"[^'"\\\n]*"|[()\[\],=])""", re.ASCII
)
# The last quote may be missing: that keeps the time linear in the length of a broken text.
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)


def shorten(value: object) -> str:
  """Returns a value as messages show it: ASCII, and at most 60 characters."""
  text = ascii(value)
  return text if len(text) <= 60 else text[:57] + '...'


def complete(fields: Any) -> Mapping[str, Any]:
  """Returns the fields of a genotype, once all four and no others are there.

  Args:
    fields: anything; a mapping from names to values is expected.

  Returns:
    The same mapping.

  Raises:
    ValueError: it is not a mapping, or a field is missing or unknown.
  """
  if not isinstance(fields, Mapping):
    raise ValueError(f'where a genotype belongs stands {shorten(fields)}; it must be an object')
  if unknown := [name for name in fields if name not in FIELDS]:
    raise ValueError(f'the key {shorten(unknown[0])} is unknown; {_ONCE}')
  if missing := [name for name in FIELDS if name not in fields]:
    raise ValueError(f'{missing[0]} is missing; {_ONCE}')
  return fields


# ---- DARTS' form ---------------------------------------------------------------------------------


def read_darts(text: str) -> Mapping[str, Any]:
  """Reads `Genotype(normal=[('sep_conv_3x3', 1), ...], ...)`.

  The keywords may stand in any order; a concat is a list or `range(a, b)`.

  Args:
    text: the text, with spaces anywhere.

  Returns:
    The four fields.

  Raises:
    ValueError: the text is anything else.
  """
  tokens = _Tokens(_bounded(text).strip())
  tokens.take('Genotype')
  fields = {}
  for name, value in tokens.take_sequence('(', ')', _read_keyword):
    if name in fields:
      raise ValueError(f'the keyword {name} is repeated; {_ONCE}')
    fields[name] = value
  if (rest := tokens.peek()) is not None:
    raise ValueError(f'after the genotype stands {shorten(rest)}')
  return complete(fields)


def write_darts(fields: Mapping[str, Any]) -> str:
  """Returns the form that `read_darts` reads, on one line.

  Args:
    fields: the four fields of a valid genotype.

  Returns:
    The text.

  Raises:
    ValueError: the nodes are not 2, 3, ... with exactly two inputs each.
  """
  parts = []
  for cell in CELL_TYPES:
    edges, concat = fields[cell], list(fields[f'{cell}_concat'])
    _check_darts_edges(cell, edges)
    pairs = ', '.join(f"('{op}', {src})" for op, src, _ in edges)
    run = range(concat[0], concat[0] + len(concat))
    nodes = run if concat == list(run) else concat
    parts += [f'{cell}=[{pairs}]', f'{cell}_concat={nodes}']
  return f'Genotype({", ".join(parts)})'


def _check_darts_edges(cell: str, edges: Any) -> None:
  """Raises ValueError where DARTS' form cannot hold the edges of a cell."""
  places = [k // 2 + 2 for k in range(len(edges))]
  if len(edges) % 2 or [dst for _, _, dst in edges] != places:
    raise ValueError(
      f"{cell}: DARTS' text form needs nodes 2, 3, ... without a gap and with exactly two "
      'inputs each; use the JSON form'
    )
  for op, _, _ in edges:
    if not _TOKEN.fullmatch(f"'{op}'"):
      raise ValueError(f"{cell}: DARTS' text form cannot hold the operation {shorten(op)}")


class _Tokens:
  """The tokens of a text, taken from the front."""

  def __init__(self, text: str) -> None:
    self._left: collections.deque[str] = collections.deque()
    position = 0
    while position < len(text):
      match = _TOKEN.match(text, position)
      if not match:
        rest = text[position : position + 20].strip()
        raise ValueError(f'at character {position} stands {shorten(rest)}, which fits no genotype')
      self._left.append(match[1])
      position = match.end()

  def peek(self) -> str | None:
    """Returns the next token without taking it; None at the end."""
    return self._left[0] if self._left else None

  def take(self, expected: str | None = None) -> str:
    """Takes the next token; ValueError if it is not the expected one, or there is none."""
    token = self.peek()
    if token is None or expected not in (None, token):
      found = 'the text ends' if token is None else f'stands {shorten(token)}'
      raise ValueError(f'where {expected or "a value"} belongs {found}')
    return self._left.popleft()

  def take_sequence(
    self, start: str, end: str, read_item: Callable[['_Tokens'], _Item]
  ) -> list[_Item]:
    """Takes items between brackets, with commas between them and perhaps one after the last."""
    self.take(start)
    items = []
    while self.peek() not in (None, end):
      items.append(read_item(self))
      if self.peek() not in (None, end):
        self.take(',')
    self.take(end)
    return items


def _read_keyword(tokens: _Tokens) -> tuple[str, Any]:
  """Reads `normal=[...]` or `normal_concat=...`."""
  name = tokens.take()
  if name not in FIELDS:
    raise ValueError(f'the keyword {shorten(name)} is unknown; {_ONCE}')
  tokens.take('=')
  read = _read_concat if name.endswith('_concat') else _read_cell
  return name, read(name, tokens)


def _read_cell(name: str, tokens: _Tokens) -> list[tuple[str, int, int]]:
  """Reads the edges of a cell; entry k belongs to node k // 2 + 2."""
  pairs = tokens.take_sequence('[', ']', _read_pair)
  if len(pairs) % 2:
    raise ValueError(f'{name} has {len(pairs)} entries; each node has exactly two')
  return [(op, src, k // 2 + 2) for k, (op, src) in enumerate(pairs)]


def _read_concat(name: str, tokens: _Tokens) -> list[int] | range:
  """Reads the nodes of a concat, a list or `range(a, b)`."""
  if tokens.peek() != 'range':
    return tokens.take_sequence('[', ']', _read_number)
  tokens.take()
  ends = tokens.take_sequence('(', ')', _read_number)
  if len(ends) != 2:
    raise ValueError(f'{name} is a range of {len(ends)} numbers; it must have two')
  return range(*ends)


def _read_pair(tokens: _Tokens) -> tuple[str, int]:
  """Reads `('sep_conv_3x3', 1)`."""
  tokens.take('(')
  op = tokens.take()
  if op[0] not in '\'"':
    raise ValueError(f'where the name of an operation belongs stands {shorten(op)}')
  tokens.take(',')
  src = _read_number(tokens)
  tokens.take(')')
  return op[1:-1], src


def _read_number(tokens: _Tokens) -> int:
  """Reads the number of a node."""
  token = tokens.take()
  # No text of the allowed length has so many nodes, and no longer number need be computed.
  if not token.isdigit() or len(token) > 6:
    raise ValueError(f'where the number of a node belongs stands {shorten(token)}')
  return int(token)


# ---- the native form -----------------------------------------------------------------------------


def read_json(text: str) -> Mapping[str, Any]:
  """Reads the native form, a JSON object of the four fields.

  Args:
    text: the text.

  Returns:
    The four fields.

  Raises:
    ValueError: it is not JSON, or not an object with exactly these keys.
  """
  _check_nesting(_bounded(text))
  try:
    fields = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
  except json.JSONDecodeError as error:
    raise ValueError(f'the text is not JSON: {error}') from None
  return complete(fields)


def write_json(fields: Mapping[str, Any]) -> str:
  """Returns the native form with an edge a line, for people and for diffs."""
  parts = []
  for name in FIELDS:
    values = [json.dumps(value) for value in fields[name]]
    if name.endswith('_concat'):
      parts.append(f'  "{name}": [{", ".join(values)}]')
    else:
      parts.append(f'  "{name}": [\n    ' + ',\n    '.join(values) + '\n  ]')
  return '{\n' + ',\n'.join(parts) + '\n}\n'


def _check_nesting(text: str) -> None:
  """Raises ValueError where a text nests deeper than a genotype, which has three levels.

  Much deeper texts would exhaust the stack of the JSON reader.
  """
  depth = 0
  for bracket in re.findall(r'[\[{\]}]', _JSON_STRING.sub('', text)):
    depth += 1 if bracket in '[{' else -1
    if depth > 3:
      raise ValueError('the text nests deeper than a genotype')


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns the object of these pairs; ValueError where a key is repeated."""
  fields = dict(pairs)
  if len(fields) < len(pairs):
    names = [name for name, _ in pairs]
    repeated = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'the key {shorten(repeated)} is repeated')
  return fields


def _refuse_constant(name: str) -> NoReturn:
  raise ValueError(f'the text holds {name}; node numbers are whole numbers')


def _bounded(text: str) -> str:
  """Returns the text; ValueError if it is none, or too long."""
  if not isinstance(text, str):
    raise ValueError(f'a genotype is read from text, not from {type(text).__name__}')
  if len(text) > MAX_CHARACTERS:
    raise ValueError(f'the text has {len(text)} characters; allowed are {MAX_CHARACTERS}')
  return text
