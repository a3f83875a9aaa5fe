"""The format of safetensors: a JSON header that names arrays, and their numbers."""

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

_ALIGNMENT = 8
_MOST_HEADER = 100_000_000  # bytes, as in the format
_TYPES = {
  'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'I64': '<i8', 'I32': '<i4', 'U8': '<u1', 'I8': '<i1',
  'BOOL': '?',
}  # fmt: skip


def content(arrays: Mapping[str, Float[np.ndarray, '...']], about: Mapping[str, str]) -> bytes:
  """Returns the bytes of a file.

  Args:
    arrays: by name; they are written as 32-bit floats.
    about: texts by name, for people and programs that read the file.
  """
  header: dict[str, object] = {'__metadata__': dict(about)}
  pieces, place = [], 0
  for name, array in arrays.items():
    piece = np.ascontiguousarray(array, '<f4').tobytes()
    header[name] = {
      'dtype': 'F32', 'shape': list(array.shape), 'data_offsets': [place, place + len(piece)],
    }  # fmt: skip
    pieces.append(piece)
    place += len(piece)
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % _ALIGNMENT)
  return struct.pack('<Q', len(text)) + text + b''.join(pieces)


def arrays_of(data: bytes) -> dict[str, Shaped[np.ndarray, '...']]:
  """Returns the arrays of a file by name.

  Args:
    data: the bytes of the file.

  Raises:
    ValueError, KeyError, TypeError, struct.error, RecursionError: they are not such a file.
  """
  (length,) = struct.unpack('<Q', data[:8])
  if length > min(len(data) - 8, _MOST_HEADER):
    raise ValueError('its header is longer than the file')
  header, body = json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]
  header.pop('__metadata__', None)
  return {name: _array(name, about, body) for name, about in header.items()}


def _array(name: str, about: Any, body: memoryview) -> Shaped[np.ndarray, '...']:
  """Returns one array of a file of safetensors."""
  if not isinstance(about, dict):
    raise ValueError(f'{name} has no description')
  start, end = about['data_offsets']
  shape, kind = tuple(map(int, about['shape'])), about['dtype']
  if not 0 <= start <= end <= len(body) or any(side < 0 for side in shape):
    raise ValueError(f'{name} lies outside of the file')
  if kind == 'BF16':  # the upper half of a 32-bit float
    array = (np.frombuffer(body[start:end], '<u2').astype(np.uint32) << 16).view(np.float32)
  elif kind in _TYPES:
    array = np.frombuffer(body[start:end], _TYPES[kind])
  else:
    raise ValueError(f'{name} has the type {kind!r}')
  if math.prod(shape) != array.size:
    raise ValueError(f'{name} has {array.size} numbers and the shape {list(shape)}')
  return array.reshape(shape)
