"""Exports of a run in forms that need no JAX: PyTorch, ONNX, safetensors, Graphviz.

A form that a runtime can compute is checked before it is written: its logits must be those of the
network here.
"""

import importlib.util
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PyTree, UInt8

from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.machine import files
from stretchnas_jax.networks.operations import OPERATIONS
from stretchnas_jax.runs import (
  export_onnx,
  export_torch,
  find_cell,
  json_files,
  outputs,
  safetensors_file,
  trained,
)
from stretchnas_jax.views import dot

_IMAGES = 4  # random ones, for a check
_TOLERANCE = 1e-3  # of a logit, relative to the largest one or to 1


class Network(NamedTuple):
  """The network of a training.

  Attributes:
    arrays: parameters and running averages by their paths, '/' between names.
    info: see `load_trained`.
    config: the group `model` of the run.
    images: random ones.
    logits: of these images.
  """

  arrays: dict[str, Float[np.ndarray, '...']]
  info: dict[str, Any]
  model: Mapping[str, Any]
  images: UInt8[np.ndarray, 'B H W C']
  logits: Float[np.ndarray, 'B M']


class Exported(NamedTuple):
  """The outcome of an export.

  Attributes:
    files: content by path.
    remark: the largest difference of a logit, or why it is not known; '' where none is asked for.
  """

  files: dict[pathlib.Path, bytes]
  remark: str


def form_of(path: str | pathlib.Path, to: str | None) -> str:
  """Returns the form of an export; without a name the ending of the file tells it.

  Args:
    path: the file to write.
    to: the name of the form, or None.

  Raises:
    ValueError: there is no such form.
  """
  if to is None:
    return _ENDINGS.get(pathlib.Path(path).suffix, 'stablehlo')
  if to not in ('stablehlo', *FORMS):
    raise ValueError(f'--to is {to!r}; it must be one of {", ".join(("stablehlo", *FORMS))}')
  return to


def check_paths(path: str | pathlib.Path, to: str, force: bool = False) -> None:
  """Raises ValueError unless the files of an export may be written.

  Args:
    path: the file to write.
    to: the form.
    force: True to allow files that no export wrote.
  """
  for each in _paths(path, to):
    outputs.check_free(each, outputs.is_marked, force, named=path)


def export_as(
  workdir: str | pathlib.Path,
  path: str | pathlib.Path,
  to: str,
  best: bool = False,
  *,
  force: bool = False,
  trust: bool = False,
) -> str:
  """Writes the network of a training, or the cell of any run, in a form.

  Args:
    workdir: the folder of the run.
    path: the file to write.
    to: a name in `FORMS`.
    best: True for the weights of the best epoch, as in `load_trained`.
    force: True to replace files that no export wrote.
    trust: as in `load_trained`.

  Returns:
    A sentence: the largest difference of a logit from those of the network here, or ''.

  Raises:
    ValueError, OSError: it cannot be exported so, or its logits are others. Nothing is written.
  """
  check_paths(path, to, force)
  found = FORMS[to](workdir, pathlib.Path(path), best, trust)
  for name, content in found.files.items():
    target = outputs.check_free(name, outputs.is_marked, force, named=path)
    files.replace(target, outputs.marked(content))
  return found.remark


def read(workdir: str | pathlib.Path, best: bool = False, trust: bool = False) -> Network:
  """Reads the network of a training, and computes logits of random images.

  Args:
    workdir: the folder of the training.
    best: True for the weights of the best epoch.
    trust: as in `load_trained`.

  Raises:
    ValueError: it is a search, whose supernet only StableHLO can hold, or has own operations.
  """
  saved = trained.read_run(workdir, best, trust=trust)
  if saved.kind != 'train':
    raise ValueError(f'{workdir} is a search: only --to=stablehlo holds its supernet')
  apply_fn, variables, info = trained.use(saved, 'plain', exact=True)
  if not isinstance(info['genotype'], Genotype):
    raise ValueError(
      f'{workdir} has a cell of NAS-Bench-201: only --to=stablehlo holds its network'
    )
  own = {op for op, _, _ in (*info['genotype'].normal, *info['genotype'].reduce)} - set(OPERATIONS)
  if own:
    raise ValueError(f'the operation {sorted(own)[0]!r} is your own: only --to=stablehlo holds it')
  images = np.random.default_rng(0).integers(0, 256, (_IMAGES, *info['image_shape']), np.uint8)
  logits = np.asarray(jax.jit(apply_fn)(variables, images))
  return Network(flat(variables), info, saved.config.model, images, logits)


def flat(variables: Mapping[str, PyTree]) -> dict[str, Float[np.ndarray, '...']]:
  """Returns parameters and running averages by their paths, without the auxiliary head.

  Args:
    variables: the groups 'params' and 'batch_stats'.
  """
  return {
    '/'.join(str(key.key) for key in path): np.asarray(leaf, np.float32)
    for group in ('params', 'batch_stats')
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables[group])[0]
    if str(path[0].key) != 'auxiliary_head'
  }


def about(network: Network) -> dict[str, str]:
  """Returns the facts that a file of weights carries."""
  info = network.info
  return {
    'class_names': json.dumps(list(info['class_names'])),
    'image_shape': json.dumps(list(info['image_shape'])),
    'mean': json.dumps(np.asarray(info['mean']).tolist()),
    'std': json.dumps(np.asarray(info['std']).tolist()),
    'genotype': json_files.dumps(info['genotype'].to_dict()),
    'model': json.dumps({name: network.model[name] for name in ('channels', 'num_layers', 'stem')}),
    'about': outputs.MARK,
  }


def _safetensors(
  workdir: str | pathlib.Path, path: pathlib.Path, best: bool, trust: bool
) -> Exported:
  """Returns the weights under their names here, in the layouts of JAX."""
  network = read(workdir, best, trust)
  return Exported({path: safetensors_file.content(network.arrays, about(network))}, '')


def _dot(workdir: str | pathlib.Path, path: pathlib.Path, best: bool, trust: bool) -> Exported:
  """Returns the cells of a run as Graphviz text."""
  text = f'{dot.dot(find_cell.genotype_from(workdir))}// {outputs.MARK}\n'
  return Exported({path: text.encode()}, '')


def _torch(workdir: str | pathlib.Path, path: pathlib.Path, best: bool, trust: bool) -> Exported:
  """Returns a program for PyTorch and its weights, whose logits were compared."""
  network = read(workdir, best, trust)
  program, weights = export_torch.files(network.info, network.model, network.arrays, about(network))
  logits = export_torch.logits(program, weights, network.images)
  found = {path: program, path.with_suffix('.safetensors'): weights}
  return Exported(found, checked(logits, network.logits, 'torch'))


def _onnx(workdir: str | pathlib.Path, path: pathlib.Path, best: bool, trust: bool) -> Exported:
  """Returns an ONNX file, whose logits were compared."""
  if importlib.util.find_spec('onnx') is None:
    raise ValueError('--to=onnx needs the package onnx: pip install "stretchnas_jax[onnx]"')
  network = read(workdir, best, trust)
  content = onnx_file(network)
  logits = export_onnx.logits(content, network.images)
  remark = f'opset {export_onnx.OPSET}; {checked(logits, network.logits, "onnxruntime")}'
  return Exported({path: content}, remark)


def onnx_file(network: Network) -> bytes:
  """Returns the ONNX file of a network."""
  info = network.info
  return export_onnx.model(
    info['genotype'],
    network.arrays,
    network.model,
    tuple(info['image_shape']),
    np.asarray(info['mean']),
    np.asarray(info['std']),
    about(network),
  )


def checked(
  logits: Float[np.ndarray, 'B M'] | None, expected: Float[np.ndarray, 'B M'], runtime: str
) -> str:
  """Returns a sentence with the largest difference of a logit.

  Args:
    logits: of the exported network; None where the runtime is not installed.
    expected: of the network here.
    runtime: the package that computes it.

  Raises:
    ValueError: they differ by more than rounding.
  """
  if logits is None:
    return f'not checked, since {runtime} is not installed'
  difference = float(np.abs(logits - expected).max())
  if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
    raise ValueError(
      f'the logits of the exported network differ by up to {difference:.2g}; nothing was written'
    )
  return f'checked: its logits differ from those here by {difference:.1e} at most'


def _paths(path: str | pathlib.Path, to: str) -> list[pathlib.Path]:
  path = pathlib.Path(path)
  if to == 'torch' and path.suffix != '.py':
    raise ValueError(f'--out is {str(path)!r}; a program for torch must end in .py')
  return [path, path.with_suffix('.safetensors')] if to == 'torch' else [path]


FORMS: dict[str, Callable[[str | pathlib.Path, pathlib.Path, bool, bool], Exported]] = {
  'torch': _torch,
  'onnx': _onnx,
  'safetensors': _safetensors,
  'dot': _dot,
}

_ENDINGS = {
  '.py': 'torch',
  '.onnx': 'onnx',
  '.safetensors': 'safetensors',
  '.dot': 'dot',
  '.gv': 'dot',
}
