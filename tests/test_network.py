"""The network of a genotype: shapes, training and evaluation, both forms, messages."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import SMALL, first_variables, images, paths, train

from stretchnas_jax.cells import genotype, zoo
from stretchnas_jax.networks import initializers, network, stems_and_heads

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
    initializers.trace_shapes(net, jax.ShapeDtypeStruct(shape, jnp.float32))
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


@pytest.mark.parametrize(
  'name, stem, form',
  [
    # In turn: each cell needs one of them, as the two share the code of the cells.
    (name, *(('cifar', 'planes'), ('imagenet', 'plain'))[index % 2])
    for index, name in enumerate(zoo.GENOTYPES)
  ],
)
def test_published_cells_make_a_training_pass(name, stem, form):
  """Shapes alone; `test_network_forms` has the gradients of every operation at both strides."""
  net = network.FixedNetwork(zoo.GENOTYPES[name], 4, 3, 10, stem, form=form)
  x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  variables = dict(initializers.trace_shapes(net, x))
  run = lambda variables, x: train(net, variables, x, 0.2, jax.random.key(0))
  logits, new = jax.eval_shape(run, variables, x)
  assert logits.shape == (2, 10) and logits.dtype == jnp.float32
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
  return net, first_variables(net, x), x


def test_one_training_step():
  net = network.FixedNetwork(zoo.GENOTYPES['DARTS_V2'], 4, 3, 10, auxiliary=True)
  x = images(4, 32, 32, 3)
  variables = first_variables(net, x)

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
  batch, new = jax.jit(lambda v, x: train(net.clone(batch_norm='plain'), v, x))(variables, x)
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
  variables = first_variables(net, x)
  assert 'auxiliary_head' in variables['params']
  assert jax.eval_shape(net.apply, variables, x).shape == (2, 5)
  assert jax.eval_shape(net.apply, variables, images(2, 16, 16, 3)).shape == (2, 5)
  (logits, extra), _ = jax.eval_shape(lambda v, x: train(net, v, x), variables, x)
  assert logits.shape == extra.shape == (2, 5)


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
  by_default = jax.jit(lambda rate, key, x: train(net, variables, x, rate, key)[0])
  np.testing.assert_array_equal(dropped, by_default(0.4, key, x))
  order = np.array([3, 0, 7, 1, 2, 6, 5, 4])
  np.testing.assert_allclose(run(0.4, key, order, x[order]), dropped[order], rtol=1e-3, atol=1e-4)
  # Nothing is dropped in evaluation.
  kept = jax.jit(lambda x: net.apply(variables, x, drop_path_rate=0.4))(x)
  np.testing.assert_array_equal(kept, jax.jit(lambda x: net.apply(variables, x))(x))


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
