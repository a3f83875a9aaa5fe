"""Values in a text, as programs print them: lists, tuples, dicts, names, calls. Never evaluated.

The texts are Python's and JSON's, and what people and terminals make of them: other quotation
marks, none at all, comments, continued lines. The work on a text is bounded by a budget of tokens.
"""

import re
from collections.abc import Callable
from typing import Any

from stretchnas_jax.cells.genotype_calls import Call, Name, called, dict_of

_MAX_DEPTH = 12
"""The deepest nesting that is read; a genotype in the result of a program has about six levels."""

_SPACE = re.compile(r'(?:[\s\ufeff\u200b\u2060`]|\\(?:\r?\n|[nrt])|#[^\n]*)*+')
_ESCAPED = re.compile(r'[A-Za-z]{0,2}\\(["\'])([^"\'\\\n]{0,2000})\\\1')
_SINGLE = re.compile(r"[bBfFrRuU]{0,2}['‘’‚]((?:[^'‘’‚\\\n]|\\.){0,20000}+)['‘’‚]")
_DOUBLE = re.compile(r'[bBfFrRuU]{0,2}["“”„]((?:[^"“”„\\\n]|\\.){0,20000}+)["“”„]')
_NUMBER = re.compile(r'[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?(?![\w.])')
_NAME = re.compile(r'[A-Za-z_](?:[\w/]|\.(?=\w))*+|<[^<>\n]{0,200}>')
_KEYWORD = re.compile(r'([A-Za-z_]\w*+)\s*+=(?!=)')
_CONSTANTS = {'none': None, 'null': None, 'true': True, 'false': False}
_ENDS = {'(': ')', '[': ']', '{': '}'}


class Reader:
  """Reads values from a text.

  Attributes:
    text: the text.
    position: of the next character.
  """

  def __init__(self, text: str, tokens: int) -> None:
    """Begins at the start.

    Args:
      text: the text.
      tokens: the most tokens that all calls of `value` may read.
    """
    self.text, self.position, self._tokens = text, 0, tokens

  @property
  def exhausted(self) -> bool:
    """Tells if all tokens of the budget are read."""
    return self._tokens <= 0

  def value(self, depth: int = 0) -> Any:
    """Reads a value at the position, and stops behind it.

    Args:
      depth: of the nesting around it.

    Returns:
      A list, tuple, dict, str, int, float, bool, None, `Name` or `Call`.

    Raises:
      ValueError: something else stands there.
    """
    found = self._atom(depth)
    while (sign := self._peek()) in ('+', '-') and isinstance(found, int | list):
      self.position += 1
      found = _sum(found, self._atom(depth), sign)
    return found

  def take_all(self, name: str) -> Any:
    """Reads a text that is one value, perhaps with `NAME =` before it and a full stop after it.

    Args:
      name: the words for the value, for an error.
    """
    self.skip()
    if match := _KEYWORD.match(self.text, self.position):
      self.position = match.end()
    found = self.value()
    while self._peek() in (',', ';', '.'):
      self.position += 1
    if self._peek():
      raise ValueError(f'after {name} stands {self._shown()}')
    return found

  def skip(self) -> None:
    """Skips spaces, comments and line ends."""
    match = _SPACE.match(self.text, self.position)
    self.position = match.end() if match else self.position

  def _peek(self) -> str:
    """Returns the next character that is not a space, or an empty text."""
    self.skip()
    return self.text[self.position : self.position + 1]

  def _shown(self) -> str:
    return f'{self.text[self.position : self.position + 20].strip()!a} (character {self.position})'

  def _fail(self, wanted: str) -> ValueError:
    found = f'stands {self._shown()}' if self._peek() else 'the text ends'
    return ValueError(f'where {wanted} belongs {found}')

  def _atom(self, depth: int) -> Any:
    """Reads one value without a sum."""
    self._tokens -= 1
    if self.exhausted:
      raise ValueError('the text is too long to be a genotype')
    if depth > _MAX_DEPTH:
      raise ValueError('the text nests deeper than a genotype')
    start = self._peek()
    if start in ('(', '['):
      items, comma = self._items(start, depth)
      if start == '(' and len(items) == 1 and not comma:
        return items[0]  # brackets that only stand around a value
      return tuple(items) if start == '(' else items
    if start == '{':
      return self._dict(depth)
    for pattern, make in _TOKENS:
      if match := pattern.match(self.text, self.position):
        self.position = match.end()
        found = make(match)
        is_call = isinstance(found, Name) and self._peek() == '('
        return self._call(found.text, depth) if is_call else found
    raise self._fail('a value')

  def _items(self, start: str, depth: int) -> tuple[list[Any], bool]:
    """Reads values between brackets; tells too if a comma stands behind the last one."""
    found: list[Any] = []
    comma = False
    self.position += 1
    while (following := self._peek()) != _ENDS[start]:
      if following == '*':
        self.position += 1
        found += _spread(self.value(depth + 1))
      else:
        found.append(self.value(depth + 1))
      comma = self._separate(_ENDS[start])
    self.position += 1
    return found, comma

  def _separate(self, end: str) -> bool:
    """Skips a comma, and tells if there was one; only a closing bracket may stand there instead."""
    following = self._peek()
    if following not in (',', end):
      raise self._fail(f'a comma or {end}')
    self.position += following == ','
    return following == ','

  def _dict(self, depth: int) -> dict[Any, Any] | list[Any]:
    """Reads a dict, or a set as a list."""
    pairs: list[tuple[Any, Any]] = []
    alone: list[Any] = []
    self.position += 1
    while self._peek() != '}':
      key = self.value(depth + 1)
      if self._peek() == ':':
        self.position += 1
        pairs.append((key, self.value(depth + 1)))
      else:
        alone.append(key)
      self._separate('}')
    self.position += 1
    if pairs and alone:
      raise ValueError(f'a dict holds {ascii(alone[0])[:60]} without a value')
    return alone or dict_of(pairs)

  def _call(self, name: str, depth: int) -> Any:
    """Reads the arguments of a call, and returns what it stands for."""
    values: list[Any] = []
    fields: list[tuple[str, Any]] = []
    self.position += 1
    while self._peek() != ')':
      if match := _KEYWORD.match(self.text, self.position):
        self.position = match.end()
        fields.append((match[1], self.value(depth + 1)))
      else:
        values.append(self.value(depth + 1))
      self._separate(')')
    self.position += 1
    return called(Call(name, values, dict_of(fields)))


def _text(match: re.Match[str]) -> str:
  """Returns the content of quotation marks; a backslash gives the character after it."""
  ends = {'n': '\n', 't': '\t', 'r': '\n'}
  return re.sub(r'\\(.)', lambda found: ends.get(found[1], found[1]), match[1], flags=re.DOTALL)


def _number(match: re.Match[str]) -> int | float:
  """Returns a number; ValueError for one of more than 40 characters."""
  if len(match[0]) > 40:
    raise ValueError(f'the number {match[0][:20]}... is too long')
  return int(match[0]) if match[0].lstrip('+-').isdigit() else float(match[0])


def _word(match: re.Match[str]) -> Any:
  text = match[0]
  constant = text.lower() if text != 'none' else ''  # `none` is an operation
  return _CONSTANTS[constant] if constant in _CONSTANTS else Name(text)


_TOKENS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Any]], ...] = (
  (_ESCAPED, lambda match: match[2]),
  (_SINGLE, _text),
  (_DOUBLE, _text),
  (_NUMBER, _number),
  (_NAME, _word),
)


def _spread(value: Any) -> list[Any]:
  if isinstance(value, list | tuple):
    return list(value)
  raise ValueError(f'a star stands before {ascii(value)[:60]}, which is not a list')


def _sum(first: Any, second: Any, sign: str) -> Any:
  """Returns the sum or difference of two whole numbers, or two lists joined."""
  if isinstance(first, int) and isinstance(second, int):
    return first + second if sign == '+' else first - second
  if isinstance(first, list) and isinstance(second, list | tuple) and sign == '+':
    first.extend(second)  # a new list each time would take quadratic time
    return first
  raise ValueError(f'{ascii(first)[:60]} {sign} {ascii(second)[:60]} cannot be read')
