"""The network of a genotype: shapes, training and evaluation, both forms, messages."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from stretchnas_jax.cells import genotype, zoo
from stretchnas_jax.networks import network, stems_and_heads
from stretchnas_jax.networks import operations as ops

SMALL = genotype.Genotype(
  [('sep_conv_3x3', 0, 2), ('skip_connect', 1, 2), ('max_pool_3x3', 2, 3)],
  [3, 2],
  [('avg_pool_3x3', 0, 2), ('skip_connect', 1, 2), ('dil_conv_3x3', 2, 3)],
  [2, 3],
)


def images(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def start(net, x, seed=0):
  return jax.jit(net.init)(jax.random.key(seed), x)


def train(net, variables, x, rate=0.0, key=None, positions=None):
  return net.apply(
    variables,
    x,
    train=True,
    drop_path_rate=rate,
    positions=positions,
    rngs={} if key is None else {'drop_path': key},
    mutable=['batch_stats'],
  )


def paths(tree):
  return {
    jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


# ---- the network's shape -------------------------------------------------------------------------


def cell_outputs(net, shape):
  """Shapes of the outputs of stem and cells, without computing them."""
  found = {}

  def watch(call, args, kwargs, context):
    y = call(*args, **kwargs)
    if context.method_name == '__call__' and len(context.module.path) == 1:
      found[context.module.name] = jax.tree.map(jnp.shape, y)
    return y

  with nn.intercept_methods(watch):
    jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
  return found


@pytest.mark.parametrize(
  'num_layers, reductions', [(1, {0}), (2, {0, 1}), (3, {1, 2}), (8, {2, 5}), (20, {6, 13})]
)
def test_cifar_shapes(num_layers, reductions):
  found = cell_outputs(network.FixedNetwork(SMALL, 4, num_layers, 10, form='plain'), (2, 32, 32, 3))
  side, channels = 32, 4
  assert found['stem'] == ((2, 32, 32, 12), (2, 32, 32, 12))
  for layer in range(num_layers):
    if layer in reductions:
      side, channels = side // 2, channels * 2
    assert found[f'cell_{layer}'] == (2, side, side, 2 * channels)


def test_imagenet_shapes():
  found = cell_outputs(
    network.FixedNetwork(SMALL, 4, 14, 1000, 'imagenet', form='plain'), (1, 224, 224, 3)
  )
  assert found['stem'] == ((1, 56, 56, 4), (1, 28, 28, 4))
  sides = [found[f'cell_{layer}'][1] for layer in range(14)]
  assert sides == [28] * 4 + [14] * 5 + [7] * 5


@pytest.mark.parametrize('stem', stems_and_heads.STEMS)
def test_odd_and_oblong_images_of_one_channel(stem):
  found = cell_outputs(network.FixedNetwork(SMALL, 4, 3, 10, stem, form='plain'), (1, 37, 51, 1))
  halvings = 2 + 3 * (stem == 'imagenet')
  half = lambda side: functools.reduce(lambda n, _: -(-n // 2), range(halvings), side)
  assert found['cell_2'][1:3] == (half(37), half(51))


@pytest.mark.parametrize('stem', stems_and_heads.STEMS)
@pytest.mark.parametrize('name', zoo.GENOTYPES)
def test_published_cells_make_a_training_step(name, stem):
  """Shapes alone; `test_one_training_step` computes."""
  net = network.FixedNetwork(zoo.GENOTYPES[name], 4, 3, 10, stem)
  x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  key = jax.random.key(0)
  variables = jax.eval_shape(net.init, key, x)

  def loss(params, x):
    logits, new = train(net, variables | {'params': params}, x, 0.2, key)
    return (logits**2).mean(), new

  # The running averages are not differentiated: zeros of their shapes will do.
  variables['batch_stats'] = jax.tree.map(
    lambda s: jnp.zeros(s.shape, s.dtype), variables['batch_stats']
  )
  gradients, new = jax.eval_shape(jax.grad(loss, has_aux=True), variables['params'], x)
  assert paths(gradients) == paths(variables['params'])
  assert jax.tree.map(jnp.shape, new['batch_stats']) == jax.tree.map(
    jnp.shape, variables['batch_stats']
  )


def test_leaves_are_named_and_shaped():
  net = network.FixedNetwork(SMALL, 4, 2, 7, auxiliary=True)
  variables = jax.eval_shape(net.init, jax.random.key(0), images(1, 32, 32, 3))
  assert {path.split("'")[-2] for path in paths(variables['params'])} == {'kernel', 'scale', 'bias'}
  assert {path.split("'")[-2] for path in paths(variables['batch_stats'])} == {'mean', 'var'}
  assert variables['params']['classifier']['kernel'].shape == (32, 7)
  assert variables['params']['stem']['conv']['kernel'].shape == (3, 3, 3, 12)
  assert variables['params']['auxiliary_head']['conv_1']['kernel'].shape == (2, 2, 128, 768)


@pytest.mark.parametrize('stem, norms', [('cifar', 2), ('imagenet', 1)])
def test_batch_norms_of_the_auxiliary_head(stem, norms):
  net = network.FixedNetwork(SMALL, 4, 2, 7, stem, auxiliary=True)
  side = {'cifar': 32, 'imagenet': 224}[stem]
  shapes = jax.eval_shape(net.init, jax.random.key(0), images(1, side, side, 3))
  assert len(shapes['batch_stats']['auxiliary_head']) == norms


# ---- training and evaluation ---------------------------------------------------------------------


@pytest.fixture(scope='module')
def trained():
  """A small network with both kinds of cell, its variables, and images."""
  net = network.FixedNetwork(SMALL, 4, 3, 5)
  x = images(8, 16, 16, 3)
  return net, start(net, x), x


def test_one_training_step():
  net = network.FixedNetwork(zoo.GENOTYPES['DARTS_V2'], 4, 3, 10, auxiliary=True)
  x = images(4, 32, 32, 3)
  variables = start(net, x)

  @jax.jit
  def step(params, rate):
    def loss(params):
      outputs, new = train(net, variables | {'params': params}, x, rate, jax.random.key(1))
      logits, extra = outputs
      cross_entropy = lambda z: -jax.nn.log_softmax(z)[:, 3].mean()
      return cross_entropy(logits) + 0.4 * cross_entropy(extra), (outputs, new)

    (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    return value, rest, gradients

  value, (outputs, new), gradients = step(variables['params'], 0.2)
  assert [(y.shape, y.dtype) for y in outputs] == [((4, 10), jnp.float32)] * 2
  for path, leaf in paths(gradients).items():
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path
  for path, leaf in paths(new['batch_stats']).items():
    assert not np.array_equal(leaf, paths(variables['batch_stats'])[path]), path
  smaller = jax.tree.map(lambda p, g: p - 1e-3 * g, variables['params'], gradients)
  assert step(smaller, 0.2)[0] < value


def test_evaluation_is_the_default_and_takes_examples_one_by_one(trained):
  net, variables, x = trained
  evaluate = jax.jit(net.apply)
  logits = evaluate(variables, x)
  assert logits.shape == (8, 5) and logits.dtype == jnp.float32
  alone = evaluate(variables, np.concatenate([x[2:3], 9 * x[1:]]))
  np.testing.assert_allclose(alone[:1], logits[2:3], rtol=1e-4, atol=1e-5)
  batch, new = jax.jit(lambda v, x: train(net, v, x))(variables, x)
  assert np.abs(batch - logits).max() > 0.01
  # With the batch's own moments as running averages both modes agree.
  moments = jax.tree.map(
    lambda new, old: (new - 0.9 * old) / 0.1, new['batch_stats'], variables['batch_stats']
  )
  again = evaluate({'params': variables['params'], 'batch_stats': moments}, x)
  np.testing.assert_allclose(again, batch, rtol=1e-3, atol=1e-3)


def test_auxiliary_head_is_there_in_evaluation_and_at_work_in_training():
  net = network.FixedNetwork(SMALL, 4, 2, 5, auxiliary=True)
  x = images(2, 32, 32, 3)
  variables = start(net, x)
  assert 'auxiliary_head' in variables['params']
  assert jax.eval_shape(net.apply, variables, x).shape == (2, 5)
  assert jax.eval_shape(net.apply, variables, images(2, 16, 16, 3)).shape == (2, 5)
  (logits, extra), _ = jax.eval_shape(lambda v, x: train(net, v, x), variables, x)
  assert logits.shape == extra.shape == (2, 5)


MANY = genotype.Genotype(
  [(name, i % 2, 2 + i // 2) for i, name in enumerate(ops.OPERATIONS)],
  [2, 3, 6],
  [(name, i % 2, 2 + i // 2) for i, name in enumerate(reversed(ops.OPERATIONS))],
  [4, 2],
)


@pytest.mark.parametrize(
  'stem, image, channels, layers, dtype, atol',
  [
    ('cifar', (32, 32, 3), 5, 8, 'float64', 1e-11),
    ('cifar', (32, 32, 1), 3, 1, 'float64', 1e-11),
    ('imagenet', (65, 51, 3), 4, 7, 'float64', 1e-12),
    ('cifar', (32, 32, 3), 4, 8, 'bfloat16', 0.05),
  ],
)
def test_forms_are_equal(stem, image, channels, layers, dtype, atol):
  """Over planes equal cells are a loop; 8 layers have runs of none, one and two of them."""
  with jax.enable_x64(dtype == 'float64'):
    plain = network.FixedNetwork(
      MANY, channels, layers, 5, stem, layers > 1 and stem == 'cifar', dtype=jnp.dtype(dtype),
      form='plain',
    )  # fmt: skip
    x = images(3, *image).astype(np.float64 if dtype == 'float64' else np.float32)
    variables = jax.tree.map(lambda a: a.astype(x.dtype), start(plain, x))

    @functools.partial(jax.jit, static_argnums=0)
    def step(net, variables, x):
      def loss(params, x):
        outputs, new = train(net, variables | {'params': params}, x, 0.3, jax.random.key(5))
        return sum(jnp.sin(y).sum() for y in jax.tree.leaves(outputs)), (outputs, new)

      (_, rest), found = jax.value_and_grad(loss, (0, 1), has_aux=True)(variables['params'], x)
      return rest, found, net.apply(variables, x)

    want, found = (step(net, variables, x) for net in (plain, plain.clone(form='planes')))
  assert jax.tree.structure(found) == jax.tree.structure(want)
  if dtype == 'bfloat16':  # gradients of bfloat16 are noise here; outputs and averages are not
    want, found = (want[0], want[2]), (found[0], found[2])
  for (path, a), b in zip(paths(want).items(), jax.tree.leaves(found)):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert np.linalg.norm(b - a) <= atol * (np.linalg.norm(a) + 1e-3), path


def gradients(net, variables, x, axis_name=None):
  """(gradients, running averages, logits) of a step with drop path."""
  mean = lambda y: y if axis_name is None else jax.lax.pmean(y, axis_name)

  def loss(params):
    logits, new = train(net, variables | {'params': params}, x, 0.3, jax.random.key(5))
    return mean(jnp.sin(logits).mean()), (logits, new['batch_stats'])

  gradient, (logits, stats) = jax.grad(loss, has_aux=True)(variables['params'])
  return mean(gradient), stats, logits


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


def test_bfloat16_stays_near(trained):
  net, variables, x = trained
  half = net.clone(dtype=jnp.bfloat16)
  shapes = jax.eval_shape(half.init, jax.random.key(0), x)
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  want, _ = jax.jit(lambda v, x: train(net, v, x))(variables, x)
  got, new = jax.jit(lambda v, x: train(half, v, x))(variables, x)
  assert got.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype('float32')}
  assert 0 < np.abs(got - want).max() < 0.1


# ---- drop path -----------------------------------------------------------------------------------


def test_drop_path_in_the_network(trained):
  net, variables, x = trained
  run = jax.jit(lambda rate, key, place, x: train(net, variables, x, rate, key, place)[0])
  key, place = jax.random.key(2), jnp.arange(8)
  base = jax.jit(lambda x: train(net, variables, x)[0])(x)
  np.testing.assert_allclose(run(0.0, key, place, x), base, rtol=1e-4, atol=1e-5)
  dropped = run(0.4, key, place, x)
  assert np.abs(dropped - base).max() > 0.01
  assert np.abs(dropped - run(0.4, jax.random.key(3), place, x)).max() > 0.01
  np.testing.assert_array_equal(dropped, train_by_default(net, variables, x, key))
  order = np.array([3, 0, 7, 1, 2, 6, 5, 4])
  np.testing.assert_allclose(run(0.4, key, order, x[order]), dropped[order], rtol=1e-3, atol=1e-4)
  # Nothing is dropped in evaluation.
  kept = jax.jit(lambda x: net.apply(variables, x, drop_path_rate=0.4))(x)
  np.testing.assert_array_equal(kept, jax.jit(lambda x: net.apply(variables, x))(x))


def train_by_default(net, variables, x, key):
  return jax.jit(lambda x: train(net, variables, x, 0.4, key)[0])(x)


def test_drop_path_without_a_key_says_so(trained):
  net, variables, x = trained
  with pytest.raises(ValueError, match='drop_path_rate needs a key'):
    jax.eval_shape(lambda rate: train(net, variables, x, rate)[0], 0.1)


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  'change, message',
  [
    ({'channels': 5, 'stem': 'imagenet'}, 'channels is 5; it must be a positive even'),
    ({'channels': 0}, 'channels is 0; it must be a positive whole number'),
    ({'num_layers': 0}, 'num_layers is 0'),
    ({'num_classes': -1}, 'num_classes is -1'),
    ({'stem': 'mnist'}, "stem is 'mnist'; allowed are cifar, imagenet"),
    ({'form': 'fast'}, "form is 'fast'; allowed are auto, plain, planes"),
    (
      {'genotype': genotype.Genotype([('twice', 0, 2)], [2], [('skip_connect', 1, 2)], [2])},
      "genotype has the operation 'twice'; known are .*sep_conv_3x3",
    ),
  ],
)
def test_errors_name_the_field(change, message):
  fields = {'genotype': SMALL, 'channels': 4, 'num_layers': 3, 'num_classes': 10}
  with pytest.raises(ValueError, match=message):
    network.FixedNetwork(**fields | change)


@pytest.mark.parametrize('stem, side', [('cifar', 16), ('cifar', 48), ('imagenet', 64)])
def test_auxiliary_head_says_for_which_images_it_is(stem, side):
  net = network.FixedNetwork(SMALL, 4, 3, 10, stem, auxiliary=True)
  with pytest.raises(ValueError, match=f'images of {side}x{side} .*use auxiliary=False'):
    jax.eval_shape(net.init, jax.random.key(0), images(1, side, side, 3))
