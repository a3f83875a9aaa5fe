"""Small networks of fixed cells, their variables, images, and a pass in training mode."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from stretchnas_jax.cells import genotype
from stretchnas_jax.networks import initializers

SMALL = genotype.Genotype(
  [('sep_conv_3x3', 0, 2), ('skip_connect', 1, 2), ('max_pool_3x3', 2, 3)],
  [3, 2],
  [('avg_pool_3x3', 0, 2), ('skip_connect', 1, 2), ('dil_conv_3x3', 2, 3)],
  [2, 3],
)


def images(*shape: int, seed: int = 0) -> np.ndarray:
  """Returns normal noise."""
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def first_variables(net: nn.Module, *args: Any, seed: int = 0, dtype: Any = np.float32) -> Any:
  """Variables of a network as at its start, drawn by NumPy, so that no initialiser compiles."""
  return drawn(initializers.trace_shapes(net, *args), seed, dtype)


def drawn(shapes: Any, seed: int = 0, dtype: Any = np.float32) -> Any:
  """Returns variables of these shapes as at the start of a network, drawn by NumPy."""
  rng = np.random.default_rng(seed)

  def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    name = path[-1].key
    if name in ('mean', 'var', 'scale'):
      return np.full(leaf.shape, float(name != 'mean'), dtype)
    # A depthwise kernel of the supernet ends in its pixels, any other kernel in its outputs.
    pixels = name.endswith('depthwise')
    fan_in = np.prod(leaf.shape[-2:] if pixels else leaf.shape[-2:-1] or 1)
    return (rng.uniform(-1, 1, leaf.shape) / np.sqrt(fan_in)).astype(dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def train(
  net: nn.Module, variables: Any, x: Any, rate: Any = 0.0, key: Any = None, positions: Any = None
) -> Any:
  """Returns the outputs of a pass in training mode, and the new running averages."""
  return net.apply(
    variables,
    x,
    train=True,
    drop_path_rate=rate,
    positions=positions,
    rngs={} if key is None else {'drop_path': key},
    mutable=['batch_stats'],
  )


def paths(tree: Any) -> dict[str, Any]:
  """Returns the leaves of a tree by their paths."""
  return {
    jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
