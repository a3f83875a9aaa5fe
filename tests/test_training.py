"""The recipe of training: one step, the top-5 accuracy, and the learning rate."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_networks
from helpers import TINY_CELL, tiny_training

import stretchnas_jax as snas
from stretchnas_jax import config as config_lib
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.config import defaults
from stretchnas_jax.learning import optimizers
from stretchnas_jax.learning import training as training_lib
from stretchnas_jax.runs import build


def smoothed(logits, labels, smoothing):
  """Szegedy et al. 2016: (1 - s) for the class, and s / M for each of the M classes."""
  logs = jax.nn.log_softmax(logits)
  right = logs[jnp.arange(len(labels)), labels]
  return -((1 - smoothing) * right + smoothing * logs.mean(-1)).mean()


def test_a_step_is_the_recipe_written_out(key):
  """Auxiliary loss, smoothing, clipping, decay and momentum, in two steps without drop path."""
  net = snas.FixedNetwork(TINY_CELL, 2, 2, 3, auxiliary=True)
  rate, decay, clip = 0.1, 0.01, 0.5
  tx = optimizers.clipped_sgd(lambda step: rate, momentum=0.9, weight_decay=decay, clip_norm=clip)
  training = snas.make_training(
    net, tx, image_shape=(32, 32, 3), auxiliary_weight=0.4, label_smoothing=0.1
  )
  images = jax.random.normal(key, (4, 32, 32, 3))
  examples = snas.Examples(images, jnp.array([0, 2, 1, 2]))

  @jax.jit
  def expected(params, batch_stats, momentum):
    def loss(params):
      variables = {'params': params, 'batch_stats': batch_stats}
      (logits, extra), updated = net.apply(variables, images, train=True, mutable=['batch_stats'])
      value = smoothed(logits, examples.labels, 0.1)
      total = value + 0.4 * smoothed(extra, examples.labels, 0.1)
      return total, (value, updated['batch_stats'])

    gradients, (value, stats) = jax.grad(loss, has_aux=True)(params)
    norm = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradients)))
    factor = jnp.minimum(1, clip / norm)
    momentum = jax.tree.map(
      lambda m, g, p: 0.9 * m + factor * g + decay * p, momentum, gradients, params
    )
    return jax.tree.map(lambda p, m: p - rate * m, params, momentum), stats, momentum, value

  state, step = jax.jit(training.init)(key), jax.jit(training.step)
  params, stats = state.params, state.batch_stats
  momentum = jax.tree.map(jnp.zeros_like, params)
  for t in 1, 2:
    state, metrics = step(state, examples, key)
    before = stats
    params, stats, momentum, value = expected(params, stats, momentum)
    stats = jax.tree.map(lambda x, y, t=t: x + (y - x) / (1 - 0.9**t), before, stats)
    assert metrics['train_loss'] == pytest.approx(float(value), rel=1e-5)
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
  jax.tree.map(close, state.params, params)
  jax.tree.map(close, state.batch_stats, stats)


def test_each_field_of_sgd_changes_the_first_two_steps():
  others = {'momentum': 0.5, 'nesterov': True, 'weight_decay': 0.1, 'clip_norm': 0.01}
  assert set(others) == set(defaults._SGD)
  edges = (('skip_connect', 0, 2), ('skip_connect', 1, 2))  # compiles fast
  examples = snas.Examples(small_networks.images(4, 8, 8, 1), jnp.array([0, 2, 1, 2]))

  def two_steps(**fields):
    config = tiny_training(**{f'weights.{name}': value for name, value in fields.items()})
    cell, shapes = Genotype(edges, (2,), edges, (2,)), {'num_classes': 3, 'image_shape': (8, 8, 1)}
    training = build.train_objects(config, cell, steps_per_epoch=2, **shapes).training
    like = jax.eval_shape(training.init, jax.random.key(0))
    drawn = jax.tree.map(jnp.asarray, small_networks.drawn((like.params, like.batch_stats)))
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    state, step = state._replace(params=drawn[0], batch_stats=drawn[1]), jax.jit(training.step)
    for _ in range(2):
      state, _ = step(state, examples, jax.random.key(0))
    return state

  usual = two_steps()
  for name, value in others.items():
    other = two_steps(**{name: value})
    chex.assert_trees_all_equal_shapes_and_dtypes(other, usual)
    differences = jax.tree.map(lambda x, y: abs(x - y).max(), other.params, usual.params)
    assert max(jax.tree.leaves(differences)) > 1e-6, name


def test_drop_path_grows_with_the_epoch(key):
  """In the first epoch nothing is dropped; later the loss differs from that without drop path."""
  net = snas.FixedNetwork(TINY_CELL, 2, 1, 3)
  make = lambda rate: snas.make_training(
    net, optax.sgd(0.1), image_shape=(8, 8, 3), drop_path=rate, steps_per_epoch=2, epochs=4
  )
  dropping, plain = make(0.8), make(0.0)
  state = plain.init(key)
  examples = snas.Examples(jax.random.normal(key, (16, 8, 8, 3)), jnp.arange(16) % 3)
  losses = {}
  for name, training in {'dropping': dropping, 'plain': plain}.items():
    step = jax.jit(training.step)
    at = lambda number: state._replace(step=jnp.int32(number))
    losses[name] = [float(step(at(n), examples, key)[1]['train_loss']) for n in (0, 1, 2, 7)]
  assert losses['dropping'][:2] == pytest.approx(losses['plain'][:2], rel=1e-6)
  assert all(abs(a - b) > 1e-4 for a, b in zip(losses['dropping'][2:], losses['plain'][2:]))


def test_the_top_5_are_the_first_of_a_stable_order():
  logits = np.random.default_rng(0).integers(0, 4, (50, 12)).astype(np.float32)  # many are equal
  labels = np.arange(50) % 12
  order = np.argsort(-logits, kind='stable')[:, :5]
  expected = [float(label in row) for label, row in zip(labels, order)]
  assert 5 < sum(expected) < 45
  np.testing.assert_array_equal(training_lib.in_top5(jnp.array(logits), labels), expected)


@pytest.mark.parametrize('classes', [10, 11])
def test_the_top_5_are_counted_of_more_than_ten_classes(classes, key):
  net = snas.FixedNetwork(TINY_CELL, 2, 1, classes)
  training = snas.make_training(net, optax.sgd(0.1), image_shape=(8, 8, 3))
  state, images = jax.jit(training.init)(key), jax.random.normal(key, (6, 8, 8, 3))
  labels, valid = jnp.arange(6), jnp.array([1.0, 1, 0, 1, 1, 0])
  sums = jax.jit(training.evaluate)(state, snas.Examples(images, labels), valid)
  logits = net.apply({'params': state.params, 'batch_stats': state.batch_stats}, images)
  expected = {'correct': (logits.argmax(-1) == labels) @ valid, 'count': 4}
  if classes == 11:
    ranks = (logits > logits[jnp.arange(6), labels][:, None]).sum(-1)
    expected['correct_top5'] = (ranks < 5) @ valid
  assert {name: float(x) for name, x in sums.items() if name != 'loss'} == expected


def test_schedules():
  values = lambda schedule, steps: [float(schedule(jnp.int32(step))) for step in steps]
  assert values(optimizers.cosine(100, 0.5), (0, 50, 100)) == pytest.approx([0.5, 0.25, 0.0])
  assert values(optimizers.linear(100, 0.5, 0.1), (0, 50, 100)) == pytest.approx([0.5, 0.3, 0.1])
  exponential = optimizers.exponential(10, 0.1, 0.97)
  assert values(exponential, (0, 9, 10, 25)) == pytest.approx([0.1, 0.1, 0.097, 0.1 * 0.97**2])
  warm = optimizers.with_warmup(optimizers.linear(100, 1.0), 10)
  assert values(warm, (0, 4, 9, 50)) == pytest.approx([0.1, 0.96 * 0.5, 0.91, 0.5])


@pytest.mark.parametrize('schedule', build.SCHEDULES)
def test_every_schedule_of_a_config_builds(schedule):
  config = config_lib.train_config()
  config.weights.schedule, config.weights.warmup_epochs = schedule, 1
  config_lib.validate(config, config_lib.train_config(), build.CHOICES)
  build.train_objects(config, TINY_CELL, num_classes=3, image_shape=(32, 32, 3), steps_per_epoch=2)
