"""Recognises the steps with which NumPy stores an array in a pickle.

A pickle names functions of NumPy, and Python's pickle machine calls them. Here a name is only
compared with the known ones. The array is a view of the bytes that the file holds.
"""

import enum
import math
from typing import Any

import numpy as np

LONGEST_NAME = 80
"""Bytes of the name of a module or a function; no known name is longer."""

_MOST_DIMENSIONS, _LONGEST_SIDE = 4, 2**31


class BadPickle(ValueError):
  """A pickle that no CIFAR file has; the message says why."""


class Name(enum.Enum):
  """The functions and types that a stored array names."""

  ARRAY = enum.auto()
  TYPE = enum.auto()
  RECONSTRUCT = enum.auto()
  FROM_BUFFER = enum.auto()
  ENCODE = enum.auto()
  BYTES = enum.auto()


_NAMES = {
  (b'numpy', b'ndarray'): Name.ARRAY,
  (b'numpy', b'dtype'): Name.TYPE,
  (b'numpy.core.multiarray', b'_reconstruct'): Name.RECONSTRUCT,
  (b'numpy._core.multiarray', b'_reconstruct'): Name.RECONSTRUCT,
  (b'numpy.core.numeric', b'_frombuffer'): Name.FROM_BUFFER,
  (b'numpy._core.numeric', b'_frombuffer'): Name.FROM_BUFFER,
  (b'_codecs', b'encode'): Name.ENCODE,  # Python 3 stores bytes so in protocol 2
  (b'__builtin__', b'bytes'): Name.BYTES,  # likewise, if there are none
}
_NUMBERS = {b'u1', b'u2', b'u4', b'u8', b'i1', b'i2', b'i4', b'i8', b'f2', b'f4', b'f8'}
_BYTE_ORDERS = {b'|', b'<', b'>'}

_NOT_NUMPY = 'an array is not stored as NumPy does it'
_NOT_NUMBERS = 'an array has a type that is not allowed in a CIFAR file'


class Type:
  """A type of numbers.

  Attributes:
    code: such as `b'u1'`.
    dtype: None until the byte order is known.
  """

  def __init__(self, code: bytes) -> None:
    """Takes the code."""
    self.code = code
    self.dtype: np.dtype | None = None


class Array:
  """An array.

  Attributes:
    values: None until the file gives them.
  """

  def __init__(self, values: np.ndarray | None = None) -> None:
    """Takes the values, if they are known."""
    self.values = values


def named(module: Any, name: Any) -> Name:
  """Returns the known function or type with a name.

  Args:
    module: any value that the pickle has in this place.
    name: likewise.

  Raises:
    BadPickle: for all other names.
  """
  if not isinstance(module, bytes) or not isinstance(name, bytes):
    raise BadPickle('a name is not a text')
  if (module, name) not in _NAMES:
    shown = '.'.join(repr(part[:LONGEST_NAME])[2:-1] for part in (module, name))
    raise BadPickle(f'{shown} is not allowed in a CIFAR file')
  return _NAMES[module, name]


def begin(function: Name, given: tuple[Any, ...]) -> Type | Array | bytes:
  """Recognises a type, an empty array, an array as protocol 5 stores it, or no bytes.

  Args:
    function: what Python's machine would call.
    given: with these arguments, which may be any values.

  Raises:
    BadPickle: NumPy stores nothing like this.
  """
  if function is Name.TYPE and _fits(given, b'', 0, 1):
    if given[0] not in _NUMBERS or given[1] or not given[2]:
      raise BadPickle(_NOT_NUMBERS)
    return Type(given[0])
  if function is Name.RECONSTRUCT and _fits(given, Name.ARRAY, (), b'b') and _fits(given[1], 0):
    return Array()
  if function is Name.FROM_BUFFER and len(given) == 4 and _fits(given[2:], (), b''):
    data, kind, shape, order = given
    if order in (b'C', b'F'):
      return Array(_values(data, kind, shape, order))
  if function is Name.BYTES and not given:
    return b''
  raise BadPickle(_NOT_NUMPY)


def finish(value: Type | Array, state: tuple[Any, ...]) -> None:
  """Recognises the second step: the byte order of a type, or the values of an array.

  Args:
    value: what the first step began.
    state: any values.

  Raises:
    BadPickle: NumPy stores nothing like this.
  """
  if isinstance(value, Type) and value.dtype is None:
    if not _fits(state, 3, b'', None, None, None, 0, 0, 0) or state[1] not in _BYTE_ORDERS:
      raise BadPickle(_NOT_NUMBERS)
    value.dtype = np.dtype((state[1] + value.code).decode('ascii'))
  elif isinstance(value, Array) and value.values is None:
    if len(state) != 5 or not _fits(state[:2], 1, ()) or not _fits(state[3:4], 0):
      raise BadPickle(_NOT_NUMPY)
    value.values = _values(state[4], state[2], state[1], b'F' if state[3] else b'C')
  else:
    raise BadPickle('an array is stored twice')


def _fits(values: Any, *like: Any) -> bool:
  """Tells whether a tuple has values of these types; compares nothing, as a value may be huge."""
  return (
    isinstance(values, tuple)
    and len(values) == len(like)
    and all(isinstance(value, type(wanted)) for value, wanted in zip(values, like))
  )


def _values(data: Any, kind: Any, shape: tuple[Any, ...], order: bytes) -> np.ndarray:
  """Returns the values of an array as a view of their bytes."""
  if not isinstance(data, bytes) or not isinstance(kind, Type) or kind.dtype is None:
    raise BadPickle('an array does not hold bytes of a known type')
  sides = [+side for side in shape[:_MOST_DIMENSIONS] if isinstance(side, int)]
  if len(sides) != len(shape) or not all(0 <= side <= _LONGEST_SIDE for side in sides):
    raise BadPickle('an array has an impossible shape')
  if math.prod(sides) * kind.dtype.itemsize != len(data):
    raise BadPickle(f'an array of shape {tuple(sides)} has {len(data)} bytes')
  values = np.frombuffer(data, kind.dtype)
  return values.reshape(sides, order='F' if order == b'F' else 'C')


def from_text(text: Any, codec: Any) -> bytes:
  """Returns the bytes that Python 3 stored as text, where the character n stands for the byte n.

  Args:
    text: any value; must be the bytes of a text in UTF-8.
    codec: any value; must be the name of Latin 1.

  Raises:
    BadPickle: Python stores nothing like this.
  """
  if not isinstance(text, bytes) or codec != b'latin1':
    raise BadPickle('bytes are not stored as Python does it')
  # Higher bytes begin other characters, which would make the text four times as large.
  if text and np.frombuffer(text, np.uint8).max() > 0xC3:
    raise BadPickle('bytes are not stored as Python does it')
  try:
    return text.decode('utf-8').encode('latin-1')
  except UnicodeError as error:
    raise BadPickle('a text is not UTF-8') from error
