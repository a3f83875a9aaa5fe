"""The two written forms of a genotype, read and written as plain dicts of its four fields.

DARTS' form, which papers print and in which every node has two edges, and a native JSON form for
any number of edges. Both readers are strict, and neither ever evaluates what it reads.
"""

import collections
import json
import re
from collections.abc import Mapping

FIELDS = ('normal', 'normal_concat', 'reduce', 'reduce_concat')
ONCE = f'a genotype has {", ".join(FIELDS)}, once each'

# Far above any cell; bounds the work that a text of unknown origin can cause.
MAX_CHARACTERS = 100_000

_TOKEN = re.compile(
  r"""\s*([A-Za-z_]\w*|0|[1-9]\d*|'[^'"\\\n]*'|"[^'"\\\n]*"|[()\[\],=])""", re.ASCII
)
# The last quote may be missing: that keeps the time linear in the length of a broken text.
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)


def shorten(value):
  """A value as messages show it: plain characters, and not many."""
  text = ascii(value)
  return text if len(text) <= 60 else text[:57] + '...'


def read_darts(text):
  """Reads `Genotype(normal=[('sep_conv_3x3', 1), ...], ...)`.

  The keywords may stand in any order; a concat is a list or `range(a, b)`.

  Raises:
    ValueError: the text is anything else.
  """
  tokens, fields = _tokenize(_bounded(text).strip()), {}
  _take(tokens, 'Genotype')
  for name, value in _sequence(tokens, '(', ')', _keyword):
    if name in fields:
      raise ValueError(f'the keyword {name} is repeated; {ONCE}')
    fields[name] = value
  if tokens:
    raise ValueError(f'after the genotype stands {shorten(tokens[0])}')
  return complete(fields)


def write_darts(fields):
  """The form that `read_darts` reads, on one line.

  Raises:
    ValueError: the nodes are not 2, 3, ... with exactly two inputs each.
  """
  parts = []
  for name in ('normal', 'reduce'):
    edges, concat = fields[name], fields[f'{name}_concat']
    if [dst for _, _, dst in edges] != [k // 2 + 2 for k in range(len(edges))] or len(edges) % 2:
      raise ValueError(
        f"{name}: DARTS' text form needs nodes 2, 3, ... without a gap and with exactly two "
        'inputs each; use the JSON form'
      )
    for op, _, _ in edges:
      if not _TOKEN.fullmatch(f"'{op}'"):
        raise ValueError(f"{name}: DARTS' text form cannot hold the operation {shorten(op)}")
    pairs = ', '.join(f"('{op}', {src})" for op, src, _ in edges)
    nodes = list(concat)
    if nodes == list(range(nodes[0], nodes[0] + len(nodes))):
      nodes = range(nodes[0], nodes[-1] + 1)
    parts += [f'{name}=[{pairs}]', f'{name}_concat={nodes}']
  return f'Genotype({", ".join(parts)})'


def read_json(text):
  """Reads the native form, a JSON object of the four fields.

  Raises:
    ValueError: it is no JSON, or not an object with exactly these keys.
  """
  # A genotype nests three deep; deeper texts would exhaust the stack of the reader.
  depth = 0
  for bracket in re.findall(r'[\[{\]}]', _JSON_STRING.sub('', _bounded(text))):
    depth += 1 if bracket in '[{' else -1
    if depth > 3:
      raise ValueError('the text nests deeper than a genotype')
  try:
    fields = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
  except json.JSONDecodeError as error:
    raise ValueError(f'the text is no JSON: {error}') from None
  return complete(fields)


def write_json(fields):
  """The native form, an edge a line, for people and for diffs."""
  parts = []
  for name in FIELDS:
    values = [json.dumps(value) for value in fields[name]]
    if name.endswith('_concat'):
      parts.append(f'  "{name}": [{", ".join(values)}]')
    else:
      parts.append(f'  "{name}": [\n    ' + ',\n    '.join(values) + '\n  ]')
  return '{\n' + ',\n'.join(parts) + '\n}\n'


def _bounded(text):
  if not isinstance(text, str):
    raise ValueError(f'a genotype is read from text, not from {type(text).__name__}')
  if len(text) > MAX_CHARACTERS:
    raise ValueError(f'the text has {len(text)} characters; allowed are {MAX_CHARACTERS}')
  return text


def complete(fields):
  """Returns the four fields of a genotype; ValueError where one is missing or unknown."""
  if not isinstance(fields, Mapping):
    raise ValueError(f'where a genotype belongs stands {shorten(fields)}; it must be an object')
  if unknown := [name for name in fields if name not in FIELDS]:
    raise ValueError(f'the key {shorten(unknown[0])} is unknown; {ONCE}')
  if missing := [name for name in FIELDS if name not in fields]:
    raise ValueError(f'{missing[0]} is missing; {ONCE}')
  return fields


def _distinct(pairs):
  fields = dict(pairs)
  if len(fields) < len(pairs):
    names = [name for name, _ in pairs]
    repeated = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'the key {shorten(repeated)} is repeated')
  return fields


def _refuse_constant(name):
  raise ValueError(f'the text holds {name}; node numbers are whole numbers')


def _tokenize(text):
  tokens, position = collections.deque(), 0
  while position < len(text):
    match = _TOKEN.match(text, position)
    if not match:
      rest = text[position : position + 20].strip()
      raise ValueError(f'at character {position} stands {shorten(rest)}, which fits no genotype')
    tokens.append(match[1])
    position = match.end()
  return tokens


def _take(tokens, expected=None):
  """Takes the next token; the one expected, if one is named."""
  token = tokens.popleft() if tokens else None
  if token is None or expected not in (None, token):
    found = 'the text ends' if token is None else f'stands {shorten(token)}'
    raise ValueError(f'where {expected or "a value"} belongs {found}')
  return token


def _sequence(tokens, start, end, item):
  """Items between brackets, with commas between them and perhaps one after the last."""
  _take(tokens, start)
  items = []
  while tokens and tokens[0] != end:
    items.append(item(tokens))
    if tokens and tokens[0] != end:
      _take(tokens, ',')
  _take(tokens, end)
  return items


def _keyword(tokens):
  name = _take(tokens)
  if name not in FIELDS:
    raise ValueError(f'the keyword {shorten(name)} is unknown; {ONCE}')
  _take(tokens, '=')
  if not name.endswith('_concat'):
    pairs = _sequence(tokens, '[', ']', _pair)
    if len(pairs) % 2:
      raise ValueError(f'{name} has {len(pairs)} entries; each node has exactly two')
    return name, [(op, src, k // 2 + 2) for k, (op, src) in enumerate(pairs)]
  if tokens and tokens[0] == 'range':
    _take(tokens)
    ends = _sequence(tokens, '(', ')', _number)
    if len(ends) != 2:
      raise ValueError(f'{name} is a range of {len(ends)} numbers; it must have two')
    return name, range(*ends)
  return name, _sequence(tokens, '[', ']', _number)


def _pair(tokens):
  _take(tokens, '(')
  op = _take(tokens)
  if op[0] not in '\'"':
    raise ValueError(f'where the name of an operation belongs stands {shorten(op)}')
  _take(tokens, ',')
  src = _number(tokens)
  _take(tokens, ')')
  return op[1:-1], src


def _number(tokens):
  token = _take(tokens)
  # No text of the allowed length has so many nodes, and no longer number need be computed.
  if not token.isdigit() or len(token) > 6:
    raise ValueError(f'where the number of a node belongs stands {shorten(token)}')
  return int(token)
