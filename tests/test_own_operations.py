"""A researcher's own operations: in both networks, in sizes, and when they are wrong."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import first_variables, images

from stretchnas_jax.cells import genotype, graph, space
from stretchnas_jax.learning import losses
from stretchnas_jax.networks import (
  nas_bench_supernet,
  network,
  operation_costs,
  sizes,
  supernet,
)
from stretchnas_jax.networks.fixed_cell import FixedCell

SPACE = space.SearchSpace(graph.CellGraph(2), ('own', 'skip_connect'))
CELL = genotype.Genotype(
  [('own', 0, 2), ('skip_connect', 1, 2)], [2], [('own', 0, 2), ('sep_conv_3x3', 1, 2)], [2]
)


class Gate(nn.Module):
  """A 1x1 convolution."""

  channels: int
  stride: int
  bias: bool = False

  @nn.compact
  def __call__(self, x, train):
    strides = self.stride, self.stride
    return nn.Conv(self.channels, (1, 1), strides, use_bias=self.bias, dtype=x.dtype)(x)


class Doubled(nn.Module):
  stride: int

  @nn.compact
  def __call__(self, x, train=False):
    return 2 * x[:, :: self.stride, :: self.stride]


class Normed(nn.Module):
  """Batch norm inside of another module; the network gives the axis."""

  channels: int
  stride: int
  axis_name: str | None = 'an axis that is not there'

  @nn.compact
  def __call__(self, x, train):
    x = x[:, :: self.stride, :: self.stride]
    norm = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)
    return nn.Sequential([jnp.square, norm, jnp.sin])(x)


@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_a_supernet_mixes_an_own_operation_in_on_every_edge(form):
  net = supernet.Supernet(SPACE, 4, 2, 3, form=form, operations={'own': Gate})
  x = images(4, 8, 8, 3)
  variables = first_variables(net, x)
  names = {k for k in variables['params']['cell_0'] if k.startswith('own')}
  assert names == {f'own_{src}_{dst}' for src, dst in SPACE.graph.edges}

  def loss(params):
    logits, _ = net.apply(variables | {'params': params}, x, train=True, mutable=['batch_stats'])
    return (logits**2).sum()

  gradients = jax.jit(jax.grad(loss))(variables['params'])
  assert all(float(abs(g).max()) > 0 for g in jax.tree.leaves(gradients['cell_0']['own_0_2']))


def test_an_own_operation_sees_a_part_of_the_channels_and_stands_where_it_is_allowed():
  allowed = np.ones((5, 2), bool)
  allowed[1] = False, True
  masked = space.SearchSpace(
    SPACE.graph, SPACE.primitives, dict.fromkeys(space.CELL_TYPES, allowed)
  )
  net = supernet.Supernet(masked, 4, 1, 3, operations={'own': Gate}, partial_channels=2)
  x = images(4, 8, 8, 3)
  variables = first_variables(net, x)
  params = variables['params']['cell_0']
  assert params['own_0_2']['Conv_0']['kernel'].shape == (1, 1, 4, 4) and 'own_1_2' not in params

  def run(form):
    options = {'train': True, 'mutable': ['batch_stats']}
    return jax.jit(lambda: net.clone(form=form).apply(variables, x, **options)[0])()

  merged, planes = map(run, ('merged', 'planes'))
  np.testing.assert_allclose(planes, merged, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['skip_connect', 'sep_conv_7x7', 'noise'])
def test_an_own_operation_with_a_built_in_name_is_refused(name):
  words = f"operations has '{name}', the name of a built-in operation; choose another name"
  with pytest.raises(ValueError, match=words):
    supernet.Supernet(SPACE, 4, 1, 3, operations={'own': Gate, name: Gate})


@pytest.mark.parametrize('name', ['dil_conv_7x7', 'dil_conv_9x9', 'sep_conv_9x9'])
def test_a_convolution_that_no_trained_cell_has_needs_an_own_module(name):
  of = space.SearchSpace(SPACE.graph, (name, 'skip_connect'))
  with pytest.raises(ValueError, match=f"operations has no module for '{name}' of the search"):
    supernet.Supernet(of, 4, 1, 3)
  net = supernet.Supernet(of, 4, 1, 3, operations={name: Gate})
  params = jax.eval_shape(net.init, jax.random.key(0), images(2, 8, 8, 3))['params']
  assert f'{name}_0_2' in params['cell_0']


def test_a_space_of_nas_bench_201_takes_no_own_operations():
  with pytest.raises(ValueError, match='has no own operations'):
    own = {'skip_connect': Gate}
    nas_bench_supernet.NasBenchSupernet(space.nas_bench_201(), 4, 1, 3, operations=own)


@pytest.mark.parametrize('form', ['plain', 'planes'])
def test_a_found_cell_with_an_own_operation_can_be_trained(form):
  net = network.FixedNetwork(CELL, 4, 2, 3, operations={'own': Gate}, form=form)
  x = images(4, 8, 8, 3)
  variables = first_variables(net, x)

  def loss(params):
    logits, _ = net.apply(variables | {'params': params}, x, train=True, mutable=['batch_stats'])
    return (logits**2).sum()

  gradients = jax.jit(jax.grad(loss))(variables['params'])
  kernel = gradients['cell_0']['edge_0']['Conv_0']['kernel']
  assert kernel.shape == (1, 1, 8, 8) and float(abs(kernel).max()) > 0


NORMED = {'operations': {'own': Normed}}
NETWORKS = {
  'supernet': supernet.Supernet(SPACE, 2, 1, 3, form='merged', **NORMED),
  'network': network.FixedNetwork(CELL, 2, 1, 3, form='plain', **NORMED),
}


def step(net, variables, x, axis_name=None):
  """Returns the gradients and the running averages of a step."""
  mean = functools.partial(losses.pmean, axis_name=axis_name)

  def loss(params):
    run = functools.partial(net.clone(axis_name=axis_name).apply, train=True)
    logits, new = run(variables | {'params': params}, x, mutable=['batch_stats'])
    return mean(jnp.sin(logits).mean()), new['batch_stats']

  gradients, averages = jax.grad(loss, has_aux=True)(variables['params'])
  return mean(gradients), averages


@pytest.mark.parametrize('net', NETWORKS.values(), ids=NETWORKS)
def test_a_batch_norm_in_an_own_operation_is_over_the_batch_of_all_devices(net):
  x = images(8, 8, 8, 1)
  variables = first_variables(net, x)
  one = jax.jit(functools.partial(step, net))(variables, x)
  on_four = functools.partial(step, net, axis_name='devices')
  four = jax.pmap(on_four, 'devices', in_axes=(None, 0))(variables, x.reshape(4, 2, 8, 8, 1))
  near = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
  for device in range(4):
    jax.tree.map(lambda found, want, i=device: near(found[i], want), four, one)
  assert 'BatchNorm_0' in str(jax.tree.structure(one[1]))


def test_a_cell_computes_an_own_operation(key):
  own = {'twice': lambda channels, stride: Doubled(stride)}
  cell = FixedCell((('twice', 0, 2),), (2,), 4, False, False, operations=own)
  s = jnp.asarray(images(1, 3, 3, 4))
  variables = cell.init(key, s, s)
  kernel = variables['params']['enter_0']['conv']['kernel'][0, 0]
  want = 2 * np.maximum(s, 0) @ kernel / np.sqrt(1 + 1e-5)
  np.testing.assert_allclose(cell.apply(variables, s, s), want, rtol=1e-4, atol=1e-5)


def test_sizes_count_own_operations():
  """With a 1x1 convolution of own making in the place of a strided skip and of a skip."""
  fields = {'channels': 4, 'num_layers': 2, 'num_classes': 3}  # both cells are reduction cells
  skip = genotype.Genotype(CELL.normal[1:], [2], CELL.reduce[1:], [2])
  own = {'operations': {'own': lambda channels, stride: Gate(channels, stride, bias=True)}}
  weights = sum(c * c + c for c in (8, 16))
  count = sizes.count_params(CELL, **fields, **own)
  assert count - sizes.count_params(skip, **fields) == weights
  outputs = 16 * 16 * 8, 8 * 8 * 16  # pixels and channels of both cells
  macs = outputs[0] * 8 + outputs[1] * 16
  assert sizes.count_macs(CELL, **fields, **own) - sizes.count_macs(skip, **fields) == macs
  flops = sizes.count_flops_ptflops(CELL, **fields, **own)
  assert flops - sizes.count_flops_ptflops(skip, **fields) == macs + sum(outputs)
  target = {'num_layers': 2, 'num_classes': 3}
  assert sizes.channels_for(CELL, count, **target, **own) == 4
  net = network.FixedNetwork(CELL, 4, 2, 3, **own)
  assert sizes.count_net_params(net, (32, 32, 3)) == count


@pytest.mark.parametrize('kind, pixels', [('params', 1), ('macs', 4 * 4)])
def test_costs_of_a_search_count_own_operations(kind, pixels):
  """In the one cell, of 8 channels and 4x4 pixels, at stride 2 and 1; `train` has no default."""
  net = supernet.Supernet(SPACE, 4, 1, 3, operations={'own': Gate})
  found = operation_costs.operation_costs(net, (8, 8, 3), kind)
  np.testing.assert_array_equal(found.tables['reduce'][0, :, 0], 8 * 8 * pixels)


def test_the_size_of_a_supernet_with_an_own_operation():
  fields = {'channels': 4, 'num_layers': 1, 'num_classes': 3}
  count = sizes.count_supernet_params(SPACE, **fields, operations={'own': Gate})
  skip = space.SearchSpace(SPACE.graph, ('skip_connect',))
  assert count - sizes.count_supernet_params(skip, **fields) == len(SPACE.graph.edges) * 8 * 8
  net = supernet.Supernet(SPACE, 4, 1, 3, operations={'own': Gate})
  assert sizes.count_net_params(net, (8, 8, 3)) == count


# ---- wrong modules -------------------------------------------------------------------------------


class Wrong(nn.Module):
  """Returns a function of its input."""

  change: callable

  @nn.compact
  def __call__(self, x, train):
    return self.change(x)


NAMED = r"the operation 'own' \(Wrong\) returns "
SHAPE = r'at stride 2; it must return \[2, 4, 4, 8\]'
WRONG = [
  (lambda channels, stride: Wrong(lambda x: x[:, 1:]), rf'{NAMED}\[2, 7, 8, 8\] {SHAPE}'),
  (lambda channels, stride: Wrong(lambda x: (x, x)), f'{NAMED}a tuple {SHAPE}'),
  (
    lambda channels, stride: Wrong(lambda x: x[:, ::stride, ::stride].astype(jnp.bfloat16)),
    f'{NAMED}bfloat16 for an input of float32; it must return float32',
  ),
  (lambda channels, stride: Gate, "the operation 'own' is built as a type; .* a linen module"),
  (lambda channels, stride: None, "the operation 'own' is built as a NoneType; .* a linen module"),
]


@pytest.mark.parametrize('build, words', WRONG)
@pytest.mark.parametrize('searched', [True, False])
def test_a_wrong_module_is_named(build, words, searched):
  own = {'operations': {'own': build}}
  if searched:
    net = supernet.Supernet(SPACE, 4, 1, 3, **own)
  else:
    net = network.FixedNetwork(CELL, 4, 1, 3, **own)
  with pytest.raises(ValueError, match=words):
    jax.eval_shape(net.init, jax.random.key(0), images(2, 8, 8, 3))
