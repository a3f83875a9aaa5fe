"""Reads files of weights of PyTorch: safetensors, and checkpoints without any program in them."""

import importlib
import importlib.util
import pathlib
import re
import struct
from typing import Any

import numpy as np
from jaxtyping import Shaped

from stretchnas_jax.runs import safetensors_file

_SAFE = (2, 6)  # the first PyTorch that runs no program with `weights_only=True`

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
      return safetensors_file.arrays_of(path.read_bytes())
    except (ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
      raise ValueError(f'{path} is not a whole file of safetensors: {error}') from error
  return _of_torch(path)


def array_of(weight: Any) -> Shaped[np.ndarray, '...']:
  """Returns a weight as an array of NumPy.

  Args:
    weight: an array, or a tensor of PyTorch in any format, on any device, with or without gradient.
  """
  return np.asarray(weight.detach().cpu().float() if hasattr(weight, 'detach') else weight)


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
    str(name): array_of(value) for name, value in found.items() if isinstance(value, torch.Tensor)
  }
