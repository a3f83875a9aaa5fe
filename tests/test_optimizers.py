"""The learning rates of every epoch against plain loops that follow the code of the papers."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ROOT, TINY_CELL, load_config

from stretchnas_jax import config as config_lib
from stretchnas_jax.learning import optimizers
from stretchnas_jax.runs import build

STEPS = 3  # of an epoch


def rates_of(tx, count):
  """Returns the learning rates of the first steps of an optimizer without momentum."""
  params, gradients = {'w': jnp.zeros(())}, {'w': jnp.ones(())}
  opt, found = tx.init(params), []
  for _ in range(count):
    updates, opt = tx.update(gradients, opt, params)
    found.append(-float(updates['w']))
  return found


def plain(**weights):
  """Returns settings under which an update is the learning rate alone."""
  return {**weights, 'momentum': 0.0, 'weight_decay': 0.0, 'clip_norm': 1e9}


def darts_rate(epoch, epochs, highest, lowest):
  return lowest + (highest - lowest) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def pc_darts_rate(epoch, epochs, highest, warmup):
  if epochs - epoch > 5:
    rate = highest * (epochs - 5 - epoch) / (epochs - 5)
  else:
    rate = highest * (epochs - epoch) / ((epochs - 5) * 5)
  return rate * (epoch + 1) / warmup if epoch < warmup else rate


@pytest.mark.parametrize('epochs', [1, 2, 50])
def test_the_search_rate_by_epoch_is_that_of_darts(epochs):
  tx = optimizers.weights_tx(epochs * STEPS, steps_per_epoch=STEPS, **plain())
  expected = [darts_rate(step // STEPS, epochs, 0.025, 0.001) for step in range(epochs * STEPS)]
  np.testing.assert_allclose(rates_of(tx, epochs * STEPS), expected, rtol=1e-5)


@pytest.fixture
def built_schedules(monkeypatch):
  """Collects the schedule of every optimizer that is built."""
  found, build_optimizer = [], optimizers.clipped_sgd

  def collecting(schedule, **settings):
    found.append(schedule)
    return build_optimizer(schedule, **settings)

  monkeypatch.setattr(optimizers, 'clipped_sgd', collecting)
  return found


@pytest.fixture
def training_rates(built_schedules):
  """Gives the rates of all steps of a training."""

  def rates(epochs, **weights):
    config = config_lib.train_config()
    config.train.epochs = epochs
    config.weights.update(weights)
    config_lib.validate(config, config_lib.train_config(), build.CHOICES)
    shapes = {'num_classes': 3, 'image_shape': (32, 32, 3), 'steps_per_epoch': STEPS}
    build.train_objects(config, TINY_CELL, **shapes)
    return [float(built_schedules[-1](jnp.int32(step))) for step in range(epochs * STEPS)]

  return rates


def test_a_search_by_epoch_looks_ahead_with_the_rate_of_its_epoch(built_schedules):
  config = load_config(ROOT / 'configs/darts_cifar10.py', 'second')
  shapes = {'num_classes': 10, 'image_shape': (32, 32, 3)}
  build.search_objects(config, num_steps=50 * STEPS, steps_per_epoch=STEPS, **shapes)
  real, ahead = built_schedules
  for step in 0, 2, 3, 74, 75, 149:
    expected = darts_rate(step // STEPS, 50, 0.025, 0.001)
    assert [float(real(step)), float(ahead(step))] == pytest.approx([expected] * 2, rel=1e-5)


@pytest.mark.parametrize(
  'epochs, warmup, by', [(250, 5, 'epoch'), (9, 5, 'epoch'), (6, 0, 'epoch'), (9, 0, 'step')]
)
def test_the_line_with_a_tail_is_that_of_pc_darts(epochs, warmup, by, training_rates):
  found = training_rates(
    epochs, schedule='linear_tail', learning_rate=0.5, warmup_epochs=warmup, schedule_by=by
  )
  expected = [pc_darts_rate(epoch, epochs, 0.5, warmup) for epoch in range(epochs)]
  np.testing.assert_allclose(found[::STEPS], expected, rtol=2e-5, atol=1e-8)
  if by == 'epoch':
    np.testing.assert_allclose(found, np.repeat(expected, STEPS), rtol=2e-5, atol=1e-8)
  else:
    assert len(set(found)) > epochs


def test_a_line_too_short_for_a_tail_is_straight(training_rates):
  found = training_rates(4, schedule='linear_tail', learning_rate=0.4, schedule_by='epoch')
  np.testing.assert_allclose(found[::STEPS], [0.4, 0.3, 0.2, 0.1], rtol=1e-5)


@pytest.mark.parametrize('by', ['step', 'epoch'])
def test_other_schedules_of_a_training(by, training_rates):
  at = lambda step: step // STEPS if by == 'epoch' else step / STEPS
  steps = range(4 * STEPS)
  loops = {
    'cosine': [darts_rate(at(step), 4, 0.1, 0.0) for step in steps],
    'linear': [0.1 * (4 - at(step)) / 4 for step in steps],
    'exponential': [0.1 * 0.97 ** (step // STEPS) for step in steps],
  }
  for schedule, expected in loops.items():
    found = training_rates(4, schedule=schedule, learning_rate=0.1, schedule_by=by)
    np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=schedule)


NAMED = ['darts_cifar10', 'darts_sc_cifar10', 'darts_wo_sc_cifar10', 'milenas_cifar10',
         'milenas_sc_cifar10', 'milenas_sc_imagenet', 'train_cifar10',
         'train_imagenet']  # fmt: skip


def config_of(name, *argument):
  return load_config(ROOT / 'configs' / f'{name}.py', *argument)


@pytest.mark.parametrize('name', NAMED)
def test_configs_that_bear_the_name_of_a_paper_change_the_rate_after_every_epoch(name):
  weights = config_of(name).weights
  assert weights.schedule_by == 'epoch'
  assert weights.get('schedule', 'cosine') == (
    'linear_tail' if name == 'train_imagenet' else 'cosine'
  )


def test_recipes_for_imagenet_are_the_published_ones_unless_asked():
  assert config_of('milenas_sc_imagenet').data.jitter == 0
  assert config_of('milenas_sc_imagenet', 'jitter').data.jitter == 1
  assert config_of('train_imagenet').model.dtype == 'float32'
  assert config_of('train_imagenet', 'bfloat16').model.dtype == 'bfloat16'
  for name in 'milenas_sc_imagenet', 'train_imagenet':
    with pytest.raises(ValueError, match='after the colon'):
      config_of(name, 'float16')
