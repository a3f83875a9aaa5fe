"""Networks of fixed cells: both forms are equal, and one and four devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TINY_CELL
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from small_networks import SMALL, first_variables, images, paths, train

from stretchnas_jax.cells import genotype
from stretchnas_jax.machine import flops
from stretchnas_jax.networks import network
from stretchnas_jax.networks import operations as ops

# Every operation at both strides, in one cell: nodes 0 and 1 are inputs, node 2 is not.
EVERY = tuple(
  edge
  for i, name in enumerate(ops.OPERATIONS)
  for edge in ((name, i % 2, 2 + i % 3), (name, 2, 5 + i % 2))
)
MANY = genotype.Genotype(EVERY, [2, 3, 6], EVERY, [4, 2, 5, 6])
# The parameters are those of the entries alone, so that ten layers compile fast.
POOLED = (('max_pool_3x3', 0, 2), ('skip_connect', 1, 2))
POOLS = genotype.Genotype(POOLED, (2,), POOLED, (2,))


@pytest.mark.parametrize(
  'cells, stem, image, channels, layers, dtype, atol',
  [
    (MANY, 'cifar', (16, 16, 1), 3, 1, 'float64', 1e-11),
    (SMALL, 'cifar', (32, 32, 3), 5, 4, 'float64', 1e-11),
    (SMALL, 'imagenet', (33, 27, 3), 4, 1, 'float64', 1e-12),
    (POOLS, 'cifar', (32, 32, 3), 2, 10, 'float64', 1e-11),
    (TINY_CELL, 'cifar', (32, 32, 3), 4, 4, 'bfloat16', 0.05),
  ],
)
def test_forms_are_equal(cells, stem, image, channels, layers, dtype, atol):
  """Four layers have cells of both types before and after a reduction.

  In 'planes' equal cells in a row are a loop; ten layers are the fewest that have one.
  """
  with jax.enable_x64(dtype == 'float64'):
    plain = network.FixedNetwork(
      cells, channels, layers, 5, stem, layers > 1 and stem == 'cifar', dtype=jnp.dtype(dtype),
      form='plain',
    )  # fmt: skip
    x = images(3, *image).astype(np.float64 if dtype == 'float64' else np.float32)
    assert (max(len(run.places) for run in plain._runs()) > 1) == (layers == 10)
    variables = jax.tree.map(lambda a: a.astype(x.dtype), first_variables(plain, x))

    @functools.partial(jax.jit, static_argnums=0)
    def step(net, variables, x):
      def loss(params, x):
        outputs, new = train(net, variables | {'params': params}, x, 0.3, jax.random.key(5))
        return sum(jnp.sin(y).sum() for y in jax.tree.leaves(outputs)), (outputs, new)

      if dtype == 'bfloat16':  # gradients of bfloat16 are noise here; the rest is not
        return loss(variables['params'], x)[1], net.apply(variables, x)
      (_, rest), found = jax.value_and_grad(loss, (0, 1), has_aux=True)(variables['params'], x)
      return rest, found, net.apply(variables, x)

    want, found = (step(net, variables, x) for net in (plain, plain.clone(form='planes')))
  assert jax.tree.structure(found) == jax.tree.structure(want)
  for (path, a), b in zip(paths(want).items(), jax.tree.leaves(found)):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert np.linalg.norm(b - a) <= atol * (np.linalg.norm(a) + 1e-3), path


def test_a_loop_keeps_large_matrix_products_for_its_gradient(monkeypatch):
  """Whether they are kept or computed again, the gradient is the same."""
  net = network.FixedNetwork(POOLS, 2, 10, 5, form='planes')
  x = images(3, 8, 8, 3).astype(np.float32)
  variables = first_variables(net, x)
  operations, found = [], []
  for terms in (1, 1000):
    monkeypatch.setattr(network, '_KEPT_TERMS', terms)
    jax.clear_caches()  # JAX remembers which results are kept
    loss = lambda params: jnp.sin(train(net, variables | {'params': params}, x)[0]).sum()
    operations.append(flops.count(jax.make_jaxpr(jax.grad(loss))(variables['params'])))
    found.append(jax.grad(loss)(variables['params']))
  # A cell projects its two inputs, as wide as itself, at 2x2 pixels of three images.
  ((width, cells),) = [(r.layer.channels, len(r.places)) for r in net._runs() if len(r.places) > 1]
  assert operations[1] - operations[0] == cells * 2 * 2 * width**2 * 2 * 2 * 3
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *found)


def gradients(net, variables, x, axis_name=None):
  """(gradients, running averages, logits) of a step with drop path."""
  mean = lambda y: y if axis_name is None else jax.lax.pmean(y, axis_name)

  def loss(params):
    logits, new = train(net, variables | {'params': params}, x, 0.3, jax.random.key(5))
    return mean(jnp.sin(logits).mean()), (logits, new['batch_stats'])

  gradient, (logits, stats) = jax.grad(loss, has_aux=True)(variables['params'])
  return mean(gradient), stats, logits


@pytest.fixture(scope='module')
def trained():
  """A small network with both kinds of cell, its variables, and images."""
  net = network.FixedNetwork(TINY_CELL, 4, 3, 5)
  x = images(8, 16, 16, 3)
  return net, first_variables(net, x), x


@pytest.fixture(scope='module')
def one_device(trained):
  net, variables, x = trained
  return jax.jit(functools.partial(gradients, net))(variables, x)


@pytest.mark.parametrize('backend', ['shard_map', 'pmap'])
def test_four_devices_equal_one(trained, one_device, backend):
  net, variables, x = trained
  step = functools.partial(gradients, net.clone(axis_name='batch'), axis_name='batch')
  if backend == 'shard_map':
    mesh = Mesh(np.array(jax.devices()), ('batch',))
    specs = {'in_specs': (P(), P('batch')), 'out_specs': (P(), P(), P('batch'))}
    four = jax.jit(jax.shard_map(step, mesh=mesh, check_vma=False, **specs))(variables, x)
  else:
    step = jax.pmap(step, 'batch', in_axes=(None, 0), out_axes=(None, None, 0))
    gradient, stats, logits = step(variables, x.reshape(4, 2, *x.shape[1:]))
    four = gradient, stats, logits.reshape(8, -1)
  near = functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-5)
  jax.tree.map(near, four, one_device)
