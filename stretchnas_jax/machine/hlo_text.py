"""Reads the text of a compiled program (XLA's HLO), as `jax.stages.Compiled.as_text` gives it.

The text holds one instruction on a line. Computations are blocks of lines, and others call them.
"""

import math
import re
from typing import NamedTuple

_BITS = {'pred': 8, 'token': 0, 'opaque': 0}
_HEAD = re.compile(r'^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*|\{)')
_LINE = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = ')
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?')
_TILE = re.compile(r'T\(([\d,*]+)\)')
_OPCODE = re.compile(r'\s*([a-z][\w\-]*)\(')
_NAME = re.compile(r'%([\w.\-]+)')
_CALLED = re.compile(r'(?:calls|to_apply|body|called_computations)=\{?%?([\w.\-]+)')
_CONDITION = re.compile(r'condition=%?([\w.\-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}|(?:true|false)_computation=([^,\s]+)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Instruction(NamedTuple):
  """One line of a program.

  Attributes:
    name: unique in its computation.
    opcode: the operation, for example 'fusion'.
    num_bytes: of the result, with the padding of its tiles.
    padding: the part of these bytes that holds no data.
    operands: names of the instructions that it reads.
    attributes: the rest of the line, from the operands on.
    is_root: whether it is the result of its computation.
  """

  name: str
  opcode: str
  num_bytes: int
  padding: int
  operands: tuple[str, ...]
  attributes: str
  is_root: bool

  @property
  def called(self) -> tuple[str, ...]:
    """The names of the computations that it calls, without conditions and branches."""
    return tuple(_CALLED.findall(self.attributes))

  @property
  def condition(self) -> str | None:
    """The computation that ends a loop."""
    found = _CONDITION.search(self.attributes)
    return found and found[1]

  @property
  def branches(self) -> tuple[str, ...]:
    """The computations of which a conditional runs one."""
    found = _BRANCHES.findall(self.attributes)
    names = [name for pair in found for name in ''.join(pair).split(',')]
    return tuple(name.strip().lstrip('%') for name in names)

  @property
  def trips(self) -> int | None:
    """How often the body of a loop runs, where the compiler has written it down."""
    found = _TRIPS.search(self.attributes)
    return int(found[1]) if found else None


class Program(NamedTuple):
  """A program as its computations.

  Attributes:
    entry: the name of the computation that runs.
    computations: the instructions of each computation by name.
  """

  entry: str
  computations: dict[str, dict[str, Instruction]]

  def trips(self, loop: Instruction) -> int:
    """Returns how often the body of a loop runs; 1 where nothing in the program says so.

    The compiler for GPUs writes the number down. That for TPUs does not: there it is the largest
    constant to which the condition compares its counter. A loop with another condition counts
    one turn. An example is a random draw that is made again until it fits.

    Args:
      loop: an instruction `while`.
    """
    if loop.trips is not None or loop.condition is None:
      return loop.trips or 1
    if not self._counts(loop.condition):
      return 1
    return max(self._limits(loop.condition), default=1)

  def _counts(self, name: str) -> bool:
    """Returns whether a condition compares a counter with its limit, and nothing else."""
    root = next((one for one in self.computations.get(name, {}).values() if one.is_root), None)
    if root is None:
      return False
    if root.called:
      return self._counts(root.called[0])
    return root.opcode == 'compare' and 'direction=LT' in root.attributes

  def _limits(self, name: str) -> list[int]:
    """Returns the whole constants of a condition and of all that it calls."""
    found = []
    for one in self.computations.get(name, {}).values():
      if one.opcode == 'constant' and (number := re.match(r'(\d+)\)', one.attributes)):
        found.append(int(number[1]))
      for called in one.called:
        found += self._limits(called)
    return found


def read(text: str) -> Program:
  """Returns the program of a text.

  Args:
    text: of `as_text()`.

  Raises:
    ValueError: the text is not a program of XLA.
  """
  entry, computations, now = '', {}, None
  for line in text.splitlines():
    if line.startswith('}'):
      now = None
    elif now is None and line.endswith('{') and (head := _HEAD.match(line)):
      now = computations.setdefault(head[2], {})
      entry = head[2] if head[1] else entry
    elif now is not None and (found := _instruction(line)):
      now[found.name] = found
  if not entry:
    raise ValueError('the text of the compiled program has no entry; XLA may have changed its form')
  return Program(entry, computations)


def _instruction(line: str) -> Instruction | None:
  """Returns the instruction of a line; None for another line."""
  head = _LINE.match(line)
  if head is None:
    return None
  rest = line[head.end() :]
  end = _closing(rest, 0) + 1 if rest.startswith('(') else rest.index(' ')
  opcode = _OPCODE.match(rest, end)
  if opcode is None:
    return None
  close = _closing(rest, opcode.end() - 1)
  operands = tuple(_NAME.findall(rest, opcode.end(), close))
  is_root = line.lstrip().startswith('ROOT ')
  size = shape_bytes(rest[:end])
  padding = size - shape_bytes(rest[:end], with_padding=False)
  return Instruction(head[1], opcode[1], size, padding, operands, rest[opcode.end() :], is_root)


def _closing(text: str, start: int) -> int:
  """Returns the place of the parenthesis that closes the one at a place."""
  depth = 0
  for found in re.finditer('[()]', text[start:]):
    depth += 1 if found[0] == '(' else -1
    if not depth:
      return start + found.start()
  return len(text)


def shape_bytes(shape: str, with_padding: bool = True) -> int:
  """Returns the bytes of an array, or of all arrays of a tuple.

  Args:
    shape: as a program writes it, for example `f32[64,32]{1,0:T(8,128)}`. Arrays of which the
      layout names another memory than the main one (`S(1)`) count 0.
    with_padding: whether an array fills whole tiles.
  """
  total = 0
  for kind, dims, layout in _ARRAY.findall(shape):
    if re.search(r'S\([1-9]', layout):
      continue
    sizes = [int(re.sub(r'\D', '', size)) for size in dims.split(',') if size]
    total += math.prod(_padded(sizes, layout) if with_padding else sizes) * _bits(kind) // 8
  return total


def _padded(sizes: list[int], layout: str) -> list[int]:
  """Returns sizes from the slowest axis to the fastest, rounded up to whole tiles."""
  order, _, rest = layout.partition(':')
  minor_first = [int(axis) for axis in order.split(',') if axis]
  if len(minor_first) == len(sizes):
    sizes = [sizes[axis] for axis in reversed(minor_first)]
  tile = _TILE.search(rest)
  if tile is None or not sizes:
    return sizes
  edges = [1 if edge == '*' else int(edge) for edge in tile[1].split(',')][-len(sizes) :]
  kept = len(sizes) - len(edges)
  return sizes[:kept] + [-(-n // edge) * edge for n, edge in zip(sizes[kept:], edges)]


def _bits(kind: str) -> int:
  """Returns the bits of an element; 0 for a kind that holds no data."""
  if kind in _BITS:
    return _BITS[kind]
  found = re.match(r'(?:bf|f|s|u|c)(\d+)', kind)
  return int(found[1]) if found else 0
