"""The mixtures on edge groups, in both forms, against the reference of one operation at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from stretchnas_jax.cells import space
from stretchnas_jax.networks import cell_plan, supernet
from stretchnas_jax.networks.forms import edge_groups

DARTS = space.DARTS_PRIMITIVES


def group_case(seed, names, edges, channels, size, batch, stride, dtype):
  """(params, x, weights) of an edge group and a cotangent of its output."""
  rng = np.random.default_rng(seed)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
  params = {}
  for name in names:
    if cell_plan.is_convolution(name):
      k, stages = int(name[-1]), 2 if name.startswith('sep') else 1
      params[name] = {
        'depthwise': normal(edges, stages, channels, k, k) / k,
        'pointwise': normal(edges, stages, channels, channels) / channels**0.5,
      }
    if name == 'skip_connect' and stride == 2:
      params[name] = {'pointwise': normal(edges, 1, channels, channels) / channels**0.5}
  weights = {name: abs(normal(edges)) + 0.1 for name in names}
  x, after = normal(batch, *size, channels), [-(-side // stride) for side in size]
  return (params, x, weights), normal(edges, batch, *after, channels)


def reference_group(params, x, weights, stride):
  edges = len(next(iter(weights.values())))
  flat = {f'{n}_{kind}': a for n, arrays in params.items() for kind, a in arrays.items()}
  if 'skip_connect' in params:
    flat['skip_connect'] = params['skip_connect']['pointwise']

  def mix_edge(e):
    return sum(w[e] * reference.operation(name, flat, e, x, stride) for name, w in weights.items())

  return jax.lax.map(mix_edge, jnp.arange(edges))  # one edge after another, compiled once


def mix(form, params, x, weights, stride):
  """The mixtures on the edges that leave a cell's second input."""
  layout, prepare, add_mixtures, _ = supernet.FORMS[form]
  targets = range(2, 2 + len(next(iter(weights.values()))))
  group = edge_groups.EdgeGroup(1, tuple((1, target) for target in targets), 0, stride)
  nodes = [layout.enter(x)] * 2 + [0.0] * len(targets)
  nodes, _ = add_mixtures(group, None, prepare(params), nodes, weights, 1.0, None)
  return jnp.stack([layout.leave(node) for node in nodes[2:]])


merged, planes = (functools.partial(mix, form) for form in ('merged', 'planes'))


def outputs_and_gradients(mix, case, cotangent, stride):
  def run(case, cotangent):
    y, vjp = jax.vjp(lambda *case: mix(*case, stride), *case)
    return y, vjp(cotangent)

  return jax.jit(run)(case, cotangent)


GROUPS = [  # names, edges, channels, size, batch, stride
  (DARTS[1:], 2, 4, (7, 9), 2, 1),
  (DARTS[1:], 2, 6, (8, 8), 2, 2),
  (('sep_conv_7x7', 'dil_conv_3x3', 'skip_connect'), 2, 4, (8, 8), 2, 1),
  (('avg_pool_3x3', 'sep_conv_3x3'), 2, 4, (12, 12), 2, 2),
  (('max_pool_3x3',), 1, 4, (2, 2), 5, 1),
  (('sep_conv_3x3',), 3, 64, (4, 4), 2, 1),  # more channels than 'merged' has in one convolution
]
# All operations take long to compile: in float32 they stand once, where odd sides are halved.
CASES = [
  *[(*case, True) for case in GROUPS],
  *[pytest.param(*case, False, marks=pytest.mark.long) for case in GROUPS[2:]],
  pytest.param(DARTS[1:], 2, 4, (7, 9), 2, 2, False, marks=pytest.mark.long),
]


@pytest.mark.parametrize('names, edges, channels, size, batch, stride, x64', CASES)
def test_edge_groups_equal_the_reference(names, edges, channels, size, batch, stride, x64):
  with jax.enable_x64(x64):
    dtype = jnp.float64 if x64 else jnp.float32
    case = group_case(edges, names, edges, channels, size, batch, stride, dtype)
    expected = outputs_and_gradients(reference_group, *case, stride)
    bound = 1e-10 if x64 else 1e-5
    for form in (merged, planes):
      assert reference.furthest(outputs_and_gradients(form, *case, stride), expected) < bound, form
