"""The format of safetensors: a JSON header that names 32-bit floats, and the floats."""

import json
import struct
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

_ALIGNMENT = 8


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
