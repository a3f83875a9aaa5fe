"""JSON files of a run: whole objects, and lines that a crash may tear.

A torn line is dropped by the reader. JSON has no NaN, so numbers that are not finite become null.
"""

import dataclasses
import json
import math
import pathlib
import zlib
from typing import Any

import jax
import numpy as np

from stretchnas_jax.machine.faults import Fault
from stretchnas_jax.machine.files import append, replace

_COUNTERS = ('step', 'epoch')  # whole numbers, in a line that is not damaged


@dataclasses.dataclass(frozen=True)
class Lines:
  """A file of JSON objects, one a line, each with a `step`.

  Attributes:
    path: the file.
    writes: False in a process that only reads.
  """

  path: pathlib.Path
  writes: bool = True

  def append(self, values: dict) -> None:
    """Adds one object."""
    if self.writes:
      append(self.path, f'{dumps(values)}\n'.encode())

  def checksum(self) -> list[int]:
    """Returns the size of the file in bytes, and its CRC-32; [0, 0] where there is no file."""
    data = self.path.read_bytes() if self.path.exists() else b''
    return [len(data), zlib.crc32(data)]

  def cut_back(self, step: int) -> None:
    """Drops torn lines and the lines of later steps, for a run that resumes from `step`."""
    if not (self.writes and self.path.exists()):
      return
    kept = [values for values in read_lines(self.path) if values.get('step', math.inf) <= step]
    text = ''.join(f'{dumps(values)}\n' for values in kept).encode()
    if text != self.path.read_bytes():
      replace(self.path, text)


def read_lines(path: pathlib.Path | str) -> list[dict]:
  """Returns all whole objects of a file of JSON lines, in order; [] where there is no file."""
  path = pathlib.Path(path)
  objects = []
  for line in path.read_bytes().split(b'\n') if path.exists() else ():
    try:
      value = json.loads(line)
    except (ValueError, RecursionError):
      continue
    if isinstance(value, dict) and all(type(value.get(name, 0)) is int for name in _COUNTERS):
      objects.append(value)
  return objects


def read_object(path: pathlib.Path) -> dict:
  """Returns the JSON object in a file.

  Raises:
    Fault: the file is damaged, or holds no object.
  """
  try:
    value = json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise Fault(f'{path} is damaged: {error}') from error
  if not isinstance(value, dict):
    raise Fault(f'{path} is damaged: it holds no JSON object')
  return value


def dumps(value: Any, indent: int | None = None) -> str:
  """Returns JSON text of plain values, NumPy scalars and arrays.

  Args:
    value: nested dicts, lists, tuples, numbers, texts, paths and arrays.
    indent: spaces of one level; None for one line.
  """
  return json.dumps(plain(value), indent=indent, allow_nan=False)


def plain(value: Any) -> Any:
  """Returns nested values as JSON holds them; numbers that are not finite become None."""
  if isinstance(value, dict):
    return {str(name): plain(item) for name, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  if isinstance(value, (np.ndarray, np.generic, jax.Array)):
    return plain(np.asarray(value).tolist())
  if isinstance(value, pathlib.PurePath):
    return str(value)
  return None if isinstance(value, float) and not math.isfinite(value) else value
