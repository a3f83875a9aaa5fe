"""The first steps of running averages, which forget the values that they began with."""

import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from stretchnas_jax.networks.forms import batch_norm
from stretchnas_jax.networks.layer_plan import plan_layers
from stretchnas_jax.networks.nas_bench_network import NasBenchNetwork
from stretchnas_jax.networks.nas_bench_supernet import NasBenchSupernet
from stretchnas_jax.networks.network import FixedNetwork
from stretchnas_jax.networks.supernet import Supernet

_Network = Supernet | FixedNetwork | NasBenchSupernet | NasBenchNetwork

RULES = batch_norm.RULES
"""The values of `batch_norm` of both networks.

'corrected': running variances have PyTorch's factor n / (n - 1), and `settle` corrects the first
steps. 'plain': neither; so were the averages of version 0.1.
"""


def settle(net: _Network, before: PyTree, after: PyTree, step: Int[Array, ''] | int) -> PyTree:
  """Returns the running averages after a step, without a part of their initial value.

  A plain average still holds 0.9^t of its first value after t steps: 48 % of it after 7. This one
  divides by 1 - 0.9^t, as Adam does (Kingma and Ba 2015), but at each step, so that the averages in
  a state are those to evaluate with. The first step takes the moments of the batch, and after some
  150 steps the correction is 1. Averages of own operations follow rules of their own and stay.

  Args:
    net: the network; its `batch_norm` is the rule.
    before: the averages before the step.
    after: the averages that `net.apply` gives.
    step: t - 1, the number of steps before this one.
  """
  if net.batch_norm != 'corrected':
    return after
  steps = (jnp.asarray(step) + 1).astype(jnp.float32)
  left = jnp.power(jnp.float32(batch_norm.MOMENTUM), steps)
  own = _own_module(net)

  def corrected(path: tuple, x: Float[Array, '...'], y: Float[Array, '...']) -> Float[Array, '...']:
    names = [entry.key for entry in path]
    if own(names):
      return y
    moved = x + (y - x) / (1 - left).astype(x.dtype)
    return jnp.maximum(moved, 0) if names[-1] == 'var' else moved

  return jax.tree.map_with_path(corrected, before, after)


def _own_module(net: _Network) -> Callable[[Sequence[str]], bool]:
  """Returns a function that tells of the names on a path if they lead into an own operation."""
  operations = tuple(net.operations or ())
  if not operations or isinstance(net, NasBenchSupernet | NasBenchNetwork):
    return lambda names: False
  if isinstance(net, Supernet):
    pattern = '|'.join(map(re.escape, operations))
    module = re.compile(rf'(?:{pattern})_\d+_\d+')
    return lambda names: any(map(module.fullmatch, names))
  own = {
    (f'cell_{i}', f'edge_{j}')
    for i, layer in enumerate(plan_layers(net.channels, net.num_layers, net.stem))
    for j, (name, _, _) in enumerate(
      net.genotype.reduce if layer.reduction else net.genotype.normal
    )
    if name in operations
  }
  return lambda names: tuple(names[:2]) in own
