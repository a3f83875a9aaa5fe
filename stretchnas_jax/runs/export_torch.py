"""A trained network as a program for PyTorch, with its weights beside it."""

import importlib
import importlib.util
import pathlib
import re
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from stretchnas_jax.runs import safetensors_file, torch_source


def files(
  info: Mapping[str, Any],
  model: Mapping[str, Any],
  arrays: Mapping[str, Float[np.ndarray, '...']],
  about: Mapping[str, str],
) -> tuple[bytes, bytes]:
  """Returns a program for PyTorch, and the file of its weights.

  Args:
    info: see `load_trained`.
    model: 'channels', 'num_layers' and 'stem' of the network.
    arrays: see `export_forms.flat`.
    about: texts that the file of weights carries.
  """
  fields = info['genotype'].to_dict()
  facts = {
    'NORMAL': [tuple(edge) for edge in fields['normal']],
    'NORMAL_CONCAT': fields['normal_concat'],
    'REDUCE': [tuple(edge) for edge in fields['reduce']],
    'REDUCE_CONCAT': fields['reduce_concat'],
    'CHANNELS': int(model['channels']),
    'LAYERS': int(model['num_layers']),
    'STEM': str(model['stem']),
    'MEAN': np.asarray(info['mean']).tolist(),
    'STD': np.asarray(info['std']).tolist(),
    'CLASS_NAMES': list(map(str, info['class_names'])),
  }
  program = torch_source.source(facts, tuple(info['image_shape'])).encode()
  return program, safetensors_file.content(dict(map(_for_torch, arrays.items())), about)


def _for_torch(
  item: tuple[str, Float[np.ndarray, '...']],
) -> tuple[str, Float[np.ndarray, '...']]:
  """Returns the name and the layout that an array has in PyTorch."""
  name, array = item
  name = re.sub(r'^cell_(\d+)/', r'cells/\1/', name)
  name = re.sub(r'/edge_(\d+)/', r'/edges/\1/', name).replace('/', '.')
  *rest, leaf = name.split('.')
  names = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}
  if leaf == 'kernel':
    array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
  return '.'.join([*rest, names.get(leaf, leaf)]), array


def logits(
  program: bytes, weights: bytes, images: UInt8[np.ndarray, 'B H W C']
) -> Float[np.ndarray, 'B M'] | None:
  """Returns the logits of the program that was made; None where PyTorch is not installed.

  Args:
    program: the program.
    weights: the file of its weights.
    images: a batch.
  """
  if importlib.util.find_spec('torch') is None:
    return None
  torch: Any = importlib.import_module('torch')
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'exported_network.py'
    path.write_bytes(program)
    path.with_suffix('.safetensors').write_bytes(weights)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.no_grad():
      network = module.load()
      return network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
