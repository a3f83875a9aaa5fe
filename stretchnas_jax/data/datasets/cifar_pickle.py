"""Reads the pickles in which CIFAR is published, without Python's pickle machine.

A pickle is a program, and Python's machine calls whatever the program names. This reader knows the
opcodes of the published files, which Python 2 wrote in protocol 2. It also knows those of copies
that Python 3 saves with NumPy 1 or 2, in protocols 2 to 5. It refuses every other opcode, and calls
nothing. It recognises an array by the few steps with which NumPy stores one.

The size of the file bounds time and memory. `_most_steps` limits the opcodes, and no length is
believed. Stored values are never copied, and no step walks through nested values.
"""

import struct
from collections.abc import Callable
from typing import Any

from stretchnas_jax.data.datasets import pickled_arrays
from stretchnas_jax.data.datasets.pickled_arrays import LONGEST_NAME, Array, BadPickle, Name, Type

_PROTOCOLS = range(2, 6)
_STOP = ord('.')


def read(blob: bytes) -> dict[bytes, Any]:
  """Returns the dictionary that a CIFAR file holds.

  Args:
    blob: the content of the file.

  Returns:
    By key: whole numbers, floats, bytes, arrays, None, and lists, tuples and dictionaries of these.
    Text is bytes too, in UTF-8. An array inside a list or the like stays unread.

  Raises:
    BadPickle: says which byte of the file is wrong, and why.
  """
  reader = _Reader(blob)
  try:
    content = reader.run()
  except BadPickle as error:
    raise BadPickle(f'byte {reader.step}: {error}') from error
  return {key: v.values if isinstance(v, Array) else v for key, v in content.items()}


def _most_steps(size: int) -> int:
  """Returns the most opcodes of a file with this many bytes.

  A row has 3072 bytes of pixels and at most a dozen opcodes for its labels and its file name.
  """
  return 1000 + size // 100


class _Reader:
  """The state of reading: a stack of values, places of marks in it, and stored values.

  Attributes:
    step: the byte at which the present opcode stands.
  """

  def __init__(self, blob: bytes) -> None:
    self.step = 0
    self._text_left = len(blob)  # bytes of text that may still be turned into bytes
    self._blob = blob
    self._at = 0
    self._stack: list[Any] = []
    self._marks: list[int] = []
    self._stored: dict[int, Any] = {}

  def run(self) -> dict[bytes, Any]:
    """Reads the file to its end, and returns the value that it leaves."""
    blob = self._blob
    if len(blob) < 2 or blob[0] != 0x80 or blob[1] not in _PROTOCOLS:
      raise BadPickle('it does not begin like a pickle of protocol 2 to 5')
    self._at = 2
    for _ in range(_most_steps(len(blob))):
      self.step = self._at
      code = self.number(1)
      if code == _STOP:
        return self._result()
      if code not in _OPCODES:
        raise BadPickle(f'the opcode {bytes([code])!r} is not allowed in a CIFAR file')
      _OPCODES[code](self)
    raise BadPickle('it has more opcodes than a CIFAR file of its size')

  def _result(self) -> dict[bytes, Any]:
    if self._at != len(self._blob):
      raise BadPickle(f'{len(self._blob) - self._at} bytes follow its end')
    if self._marks or len(self._stack) != 1 or not isinstance(self._stack[0], dict):
      raise BadPickle('it does not hold one dictionary')
    return self._stack[0]

  # ---- bytes of the file -------------------------------------------------------------------------

  def take(self, count: int) -> bytes:
    """Returns the next bytes."""
    end = self._at + count
    if end > len(self._blob):
      raise BadPickle(f'{count} bytes should follow, but the file ends after {len(self._blob)}')
    taken = self._blob[self._at : end]
    self._at = end
    return taken

  def number(self, width: int) -> int:
    """Returns a number without sign that fills `width` bytes, the lowest first."""
    return int.from_bytes(self.take(width), 'little')

  def line(self) -> bytes:
    """Returns the bytes up to the end of the line."""
    end = self._blob.find(b'\n', self._at, self._at + LONGEST_NAME + 1)
    if end < 0:
      raise BadPickle('a name has no end')
    return self.take(end + 1 - self._at)[:-1]

  def from_text(self, text: Any, codec: Any) -> bytes:
    """Returns the bytes that Python 3 stored as text.

    Args:
      text: any value.
      codec: any value.
    """
    self._text_left -= len(text) if isinstance(text, bytes) else 0
    if self._text_left < 0:
      raise BadPickle('it uses a text more often than a CIFAR file')
    return pickled_arrays.from_text(text, codec)

  # ---- the stack ---------------------------------------------------------------------------------

  def push(self, value: Any) -> None:
    """Puts a value on the stack."""
    self._stack.append(value)

  def mark(self) -> None:
    """Remembers the height of the stack."""
    self._marks.append(len(self._stack))

  def above_mark(self) -> list[Any]:
    """Removes the last mark and the values above it, and returns these."""
    if not self._marks:
      raise BadPickle('a mark is missing')
    height = self._marks.pop()
    values = self._stack[height:]
    del self._stack[height:]
    return values

  def pop(self, count: int) -> list[Any]:
    """Removes the topmost values and returns them, the topmost last."""
    height = len(self._stack) - count
    if height < (self._marks[-1] if self._marks else 0):
      raise BadPickle('a value is missing')
    values = self._stack[height:]
    del self._stack[height:]
    return values

  def top(self, kind: type | tuple[type, ...], words: str) -> Any:
    """Returns the topmost value, which must be of a kind."""
    (value,) = self.pop(1)
    if not isinstance(value, kind):
      raise BadPickle(f'it needs {words} here')
    self.push(value)
    return value

  def store(self, number: int | None = None) -> None:
    """Stores the topmost value under a number; None is the next one."""
    value = self.top(object, 'a value')
    self._stored[len(self._stored) if number is None else number] = value

  def recall(self, number: int) -> None:
    """Pushes the value that is stored under a number."""
    if number not in self._stored:
      raise BadPickle(f'it recalls the value {number}, which it has not stored')
    self.push(self._stored[number])


# ---- opcodes -------------------------------------------------------------------------------------

_Opcode = Callable[[_Reader], None]


def _constant(make: Callable[[], Any]) -> _Opcode:
  return lambda reader: reader.push(make())


def _whole(width: int, signed: bool = False) -> _Opcode:
  return lambda reader: reader.push(int.from_bytes(reader.take(width), 'little', signed=signed))


def _bytes(width: int) -> _Opcode:
  """Returns the opcode of a text whose length fills `width` bytes."""
  return lambda reader: reader.push(reader.take(reader.number(width)))


def _tuple(count: int) -> _Opcode:
  return lambda reader: reader.push(tuple(reader.pop(count)))


def _long(reader: _Reader) -> None:
  reader.push(int.from_bytes(reader.take(reader.number(1)), 'little', signed=True))


def _float(reader: _Reader) -> None:
  reader.push(struct.unpack('>d', reader.take(8))[0])


def _frame(reader: _Reader) -> None:
  """Reads the length of a frame, which only matters to readers of streams."""
  reader.number(8)


def _append(reader: _Reader) -> None:
  (value,) = reader.pop(1)
  reader.top(list, 'a list').append(value)


def _appends(reader: _Reader) -> None:
  values = reader.above_mark()
  reader.top(list, 'a list').extend(values)


def _set_item(reader: _Reader) -> None:
  _set(reader, reader.pop(2))


def _set_items(reader: _Reader) -> None:
  _set(reader, reader.above_mark())


def _set(reader: _Reader, values: list[Any]) -> None:
  """Puts keys and values, which alternate, into the dictionary on the stack."""
  entries = reader.top(dict, 'a dictionary')
  if len(values) % 2:
    raise BadPickle('a key has no value')
  # Other keys may collide on purpose, which would take quadratic time.
  if not all(isinstance(key, bytes) for key in values[::2]):
    raise BadPickle('a key is not a text')
  entries.update(zip(values[::2], values[1::2]))


def _global(reader: _Reader) -> None:
  reader.push(pickled_arrays.named(reader.line(), reader.line()))


def _stack_global(reader: _Reader) -> None:
  reader.push(pickled_arrays.named(*reader.pop(2)))


def _reduce(reader: _Reader) -> None:
  """Recognises the first step with which NumPy or Python 3 stores a value."""
  function, given = reader.pop(2)
  if not isinstance(function, Name) or not isinstance(given, tuple):
    raise BadPickle('it calls something that is not a function')
  if function is Name.ENCODE and len(given) == 2:
    reader.push(reader.from_text(*given))
  else:
    reader.push(pickled_arrays.begin(function, given))


def _build(reader: _Reader) -> None:
  """Recognises the second step with which NumPy stores a type or an array."""
  (state,) = reader.pop(1)
  value = reader.top((Type, Array), 'an array')
  if not isinstance(state, tuple):
    raise BadPickle('it builds something that is not an array')
  pickled_arrays.finish(value, state)


_OPCODES: dict[int, _Opcode] = {
  ord(letter): opcode
  for letter, opcode in {
    'N': _constant(lambda: None), '\x88': _constant(lambda: True),
    '\x89': _constant(lambda: False), ')': _constant(tuple), ']': _constant(list),
    '}': _constant(dict), 'K': _whole(1), 'M': _whole(2), 'J': _whole(4, signed=True),
    '\x8a': _long, 'G': _float, 'U': _bytes(1), 'T': _bytes(4), 'X': _bytes(4), 'C': _bytes(1),
    'B': _bytes(4), '\x8c': _bytes(1), '\x8d': _bytes(8), '\x8e': _bytes(8), '\x96': _bytes(8),
    '\x95': _frame, '(': _Reader.mark, 't': lambda reader: reader.push(tuple(reader.above_mark())),
    '\x85': _tuple(1), '\x86': _tuple(2), '\x87': _tuple(3), 'a': _append, 'e': _appends,
    's': _set_item, 'u': _set_items, 'q': lambda reader: reader.store(reader.number(1)),
    'r': lambda reader: reader.store(reader.number(4)), '\x94': _Reader.store,
    'h': lambda reader: reader.recall(reader.number(1)),
    'j': lambda reader: reader.recall(reader.number(4)), 'c': _global, '\x93': _stack_global,
    'R': _reduce, 'b': _build,
  }.items()
}  # fmt: skip
