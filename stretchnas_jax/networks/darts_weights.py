"""Weights of PyTorch networks by the code of DARTS (Liu et al. 2018), under the names used here.

DARTS' code names the layers of `NetworkCIFAR` and `NetworkImageNet` by their places, for example
`cells.0._ops.1.op.3.running_mean`. The operations of a cell have the order of its genotype.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree, Shaped

from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.networks.network import FixedNetwork

Weights = Mapping[str, Shaped[np.ndarray, '...']]
"""Arrays by the names of DARTS' code."""

_NAMED = 3  # weights that a sentence names

# For each kind of operation: the names of its layers here, and those of DARTS' code.
_KINDS: tuple[dict[str, str], ...] = (
  {'conv': 'op.1', 'norm': 'op.2'},
  {'even': 'conv_1', 'odd': 'conv_2', 'norm': 'bn'},
  {'depthwise': 'op.1', 'pointwise': 'op.2', 'norm': 'op.3'},
  {'first/depthwise': 'op.1', 'first/pointwise': 'op.2', 'first/norm': 'op.3',
   'second/depthwise': 'op.5', 'second/pointwise': 'op.6', 'second/norm': 'op.7'},
  {'row': '1', 'column': '2', 'norm': '3'},
)  # fmt: skip

_STEMS = {
  'cifar': {'stem/conv': 'stem.0', 'stem/norm': 'stem.1'},
  'imagenet': {
    'stem/conv_0': 'stem0.0', 'stem/norm_0': 'stem0.1', 'stem/conv_1': 'stem0.3',
    'stem/norm_1': 'stem0.4', 'stem/conv_2': 'stem1.1', 'stem/norm_2': 'stem1.2',
  },
}  # fmt: skip

_HEADS = {
  'classifier': 'classifier', 'auxiliary_head/classifier': 'auxiliary_head.classifier',
  'auxiliary_head/conv_0': 'auxiliary_head.features.2',
  'auxiliary_head/norm_0': 'auxiliary_head.features.3',
  'auxiliary_head/conv_1': 'auxiliary_head.features.5',
  'auxiliary_head/norm_1': 'auxiliary_head.features.6',
}  # fmt: skip

_LEAVES = {
  'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean',
  'var': 'running_var',
}  # fmt: skip


class Sizes(NamedTuple):
  """The sizes of a network, as its weights tell them.

  Attributes:
    channels: C of the first cells.
    num_layers: the number of cells.
    num_classes: the number of classes.
    stem: 'cifar' or 'imagenet'.
    auxiliary: whether there is an auxiliary head.
    colours: channels of an image.
  """

  channels: int
  num_layers: int
  num_classes: int
  stem: str
  auxiliary: bool
  colours: int


def without_wrappers(weights: Weights) -> dict[str, Any]:
  """Returns weights without the prefix of `DataParallel`, and without counters of batches.

  Args:
    weights: as a file has them.
  """
  return {
    name.removeprefix('module.'): array
    for name, array in weights.items()
    if not name.endswith('num_batches_tracked')
  }


def sizes_of(weights: Weights) -> Sizes:
  """Returns the sizes of a network.

  Args:
    weights: see `without_wrappers`.

  Raises:
    ValueError: they are not those of DARTS' networks; the sentence names what is missing.
  """
  stem = 'imagenet' if any(name.startswith('stem0.') for name in weights) else 'cifar'
  first, last = ('stem0.0', 'stem0.3') if stem == 'imagenet' else ('stem.0', 'stem.0')
  first, last = f'{first}.weight', f'{last}.weight'
  for name in (first, last, 'classifier.weight'):
    if name not in weights or np.ndim(weights[name]) < 2:
      raise ValueError(f'the weights are not of a network by the code of DARTS: {name} is missing')
  cells = [int(found[1]) for name in weights if (found := re.match(r'cells\.(\d{1,4})\.', name))]
  if not cells:
    raise ValueError('the weights are not of a network by the code of DARTS: they have no cells')
  width = int(np.shape(weights[last])[0])
  return Sizes(
    channels=width if stem == 'imagenet' else max(width // 3, 1),
    num_layers=max(cells) + 1,
    num_classes=int(np.shape(weights['classifier.weight'])[0]),
    stem=stem,
    auxiliary=any(name.startswith('auxiliary_head.') for name in weights),
    colours=int(np.shape(weights[first])[1]),
  )


def network_of(sizes: Sizes, genotype: Genotype) -> FixedNetwork:
  """Returns the network of some sizes.

  Args:
    sizes: of the network.
    genotype: its cells.
  """
  return FixedNetwork(
    genotype, sizes.channels, sizes.num_layers, sizes.num_classes, sizes.stem, sizes.auxiliary
  )


def variables_of(weights: Weights, genotype: Genotype) -> dict[str, PyTree]:
  """Returns the groups 'params' and 'batch_stats' of a `FixedNetwork` with the weights.

  Args:
    weights: see `without_wrappers`.
    genotype: the cells. The edges of a node have the order in which DARTS' code lists them.

  Raises:
    ValueError: a weight is missing, has another shape, is not finite, or belongs to no layer of
      the genotype; one sentence names it.
  """
  sizes = sizes_of(weights)
  net = network_of(sizes, genotype)
  side = 224 if sizes.stem == 'imagenet' else 32
  images = jax.ShapeDtypeStruct((1, side, side, sizes.colours), jnp.float32)
  like = jax.eval_shape(net.init, jax.random.key(0), images)
  wanted = {
    '/'.join(str(key.key) for key in path[1:]): leaf.shape
    for path, leaf in jax.tree_util.tree_flatten_with_path(like)[0]
  }
  names = dict(_names(list(wanted), sizes.stem))
  found = {path: _checked(weights, names[path], shape) for path, shape in wanted.items()}
  _refuse_others(set(weights) - set(names.values()))

  def value(path: Sequence[Any], leaf: Any) -> Shaped[np.ndarray, '...']:
    del leaf
    return found['/'.join(str(key.key) for key in path[1:])]

  return jax.tree_util.tree_map_with_path(value, like)


def _names(paths: Sequence[str], stem: str) -> Iterator[tuple[str, str]]:
  """Yields the path of each parameter here, and its name in DARTS' code."""
  modules: dict[str, set[str]] = {}
  for path in paths:
    if found := _IN_CELL.match(path):
      modules.setdefault(found[1], set()).add(found[2])
  for path in paths:
    layer, _, leaf = path.rpartition('/')
    if found := _IN_CELL.match(path):
      kind = next(kind for kind in _KINDS if set(kind) == modules[found[1]])
      layer = f'{_place(found[1])}.{kind[found[2]]}'
    else:
      layer = (_STEMS[stem] | _HEADS)[layer]
    yield path, f'{layer}.{_LEAVES[leaf]}'


_IN_CELL = re.compile(r'(cell_\d+/(?:enter|edge)_\d+)/(.+)/\w+$')


def _place(module: str) -> str:
  """Returns the name in DARTS' code of an operation, for example of 'cell_0/edge_1'."""
  cell, part = module.split('/')
  kind, number = part.split('_')
  own = f'preprocess{number}' if kind == 'enter' else f'_ops.{number}'
  return f'cells.{cell.removeprefix("cell_")}.{own}'


def _checked(weights: Weights, name: str, shape: tuple[int, ...]) -> Shaped[np.ndarray, '...']:
  """Returns one of the weights in the layout that it has here, where its shape is right."""
  if name not in weights:
    raise ValueError(f'the weights lack {name}; does the genotype belong to them?')
  array = np.asarray(weights[name], np.float32)
  turned = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
  array = array if turned is None else array.transpose(turned)
  if array.shape != shape:
    theirs = np.asarray(weights[name]).shape
    wanted = shape if turned is None else tuple(shape[turned.index(i)] for i in range(len(shape)))
    raise ValueError(
      f'{name} has the shape {list(theirs)}, and the genotype needs {list(wanted)}; does it belong '
      'to these weights?'
    )
  if not np.isfinite(array).all():
    raise ValueError(f'{name} has a number that is not finite')
  return np.ascontiguousarray(array)


def _refuse_others(names: set[str]) -> None:
  """Raises ValueError where weights belong to no layer."""
  if not names:
    return
  named = ', '.join(sorted(names)[:_NAMED])
  more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
  raise ValueError(
    f'the network of the genotype has no {named}{more}; does the genotype belong to these weights?'
  )
