"""Reads files of weights of PyTorch: safetensors, and checkpoints without any program in them."""

import importlib
import importlib.util
import json
import math
import pathlib
import re
import struct
from typing import Any

import numpy as np
from jaxtyping import Shaped

_TYPES = {
  'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'I64': '<i8', 'I32': '<i4', 'U8': '<u1', 'I8': '<i1',
  'BOOL': '?',
}  # fmt: skip

_SAFE = (2, 6)  # the first PyTorch that runs no program with `weights_only=True`

_MOST_HEADER = 100_000_000  # bytes, as in the format

_DICTS = ('state_dict', 'model_state_dict', 'model')
"""The names under which checkpoints keep the weights beside other things."""


def read(path: pathlib.Path | str) -> dict[str, Shaped[np.ndarray, '...']]:
  """Reads the weights of a file.

  Args:
    path: a file of safetensors by its ending, or a checkpoint of PyTorch. Of a checkpoint nothing
      is run, and PyTorch must be installed.

  Raises:
    ValueError, OSError: it cannot be read; one sentence says why.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f'there is no file {path}')
  if path.suffix == '.safetensors':
    try:
      return _safetensors(path.read_bytes())
    except (ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
      raise ValueError(f'{path} is not a whole file of safetensors: {error}') from error
  return _of_torch(path)


def _safetensors(data: bytes) -> dict[str, Shaped[np.ndarray, '...']]:
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


def _of_torch(path: pathlib.Path) -> dict[str, Shaped[np.ndarray, '...']]:
  """Returns the weights of a checkpoint of PyTorch, which may hold more than weights."""
  if importlib.util.find_spec('torch') is None:
    raise ValueError(
      f'{path} is read by PyTorch: pip install "stretchnas_jax[torch]", or give a file of '
      'safetensors'
    )
  torch: Any = importlib.import_module('torch')
  version = tuple(map(int, re.findall(r'\d+', torch.__version__)[:2]))
  if version < _SAFE:
    raise ValueError(
      f'{path} is not read by PyTorch {torch.__version__}, in which a checkpoint can run programs '
      f'(CVE-2025-32434): install {".".join(map(str, _SAFE))} or a later one'
    )
  try:
    found = torch.load(path, map_location='cpu', weights_only=True)
  except Exception as error:  # its zip files, pickles and storages fail in many ways
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise ValueError(
      f'{path} is not a checkpoint of weights alone, and programs in it are never run: {first}'
    ) from error
  for name in _DICTS:
    if isinstance(found, dict) and isinstance(found.get(name), dict):
      found = found[name]
      break
  if not isinstance(found, dict):
    raise ValueError(f'{path} holds no state_dict')
  return {
    str(name): value.detach().to(torch.float32).numpy()
    for name, value in found.items()
    if isinstance(value, torch.Tensor)
  }
