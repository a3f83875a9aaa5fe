"""The precision of matrix products and convolutions, read off the lowered programs."""

import json
import re

import jax
import jax.numpy as jnp
import pytest
from helpers import SKIP_SPACE, TINY_CELL, random_batch, tiny_search

import stretchnas_jax as snas
from stretchnas_jax import config as config_lib
from stretchnas_jax.learning import bilevel, rules
from stretchnas_jax.runs import axes, build, record

PRECISIONS = {'default': 'DEFAULT', 'high': 'HIGH', 'highest': 'HIGHEST'}
PRODUCT = re.compile(r'stablehlo\.(?:dot_general|convolution)\b.*')


def precisions_of(function, *args):
  """Returns the precisions of all products in a program; beta's scores are always HIGHEST."""
  text = jax.jit(function).lower(*args).as_text()
  products = PRODUCT.findall(text)
  assert len(products) >= 3
  found = [tuple(re.findall(r'\b(DEFAULT|HIGHEST|HIGH)\b', line)) for line in products]
  assert all(len(pair) in (0, 2) for pair in found)
  return [pair or ('DEFAULT', 'DEFAULT') for pair in found]


@pytest.mark.parametrize('precision', ['default', 'highest'])
@pytest.mark.parametrize('form', ['merged', 'planes'])
def test_every_product_of_a_search_has_the_precision(key, precision, form):
  config = config_lib.search_config()
  config.model.update({'channels': 2, 'num_layers': 1, 'form': form, 'precision': precision})
  config.space.num_intermediate = 1
  search = build.search_objects(config, num_classes=3, image_shape=(8, 8, 1), num_steps=2).search
  state, batch = jax.eval_shape(search.init, key), random_batch(key)
  step = precisions_of(search.step, state, batch, key)
  evaluation = precisions_of(search.evaluate, state, batch.train, jnp.ones(8))
  wanted = (PRECISIONS[precision],) * 2
  if precision == 'highest':
    assert set(step) == set(evaluation) == {wanted}
  else:
    assert wanted in step and wanted in evaluation


@pytest.mark.parametrize('rule, expected', [('second_order', 2), ('exact_second_order', 1)])
def test_gradients_that_are_subtracted_are_in_full_float32(rule, expected):
  """Beside these, alpha and beta see gradients in the precision of the run."""
  dot = lambda w, x: jnp.sum(w @ x)
  loss = lambda w, arch, examples, draw: (
    dot(w, examples.images) ** 2 * jnp.sum(arch.alpha['normal'])
  )
  arch = bilevel.Arch({'normal': jnp.ones((1, 1))}, {})
  context = rules.Context({}, lambda w, gradients: w - 0.1 * gradients)
  x = snas.Examples(jnp.ones((2, 2)), jnp.zeros(2, int))
  batch = bilevel.Batch(train=x, val_alpha=x, val_beta=None)
  step = lambda w: axes.RULES[rule](None)(loss, w, arch, batch, context)
  assert len(set(precisions_of(step, jnp.ones((2, 2))))) == expected


@pytest.mark.parametrize('precision', PRECISIONS)
def test_every_product_of_a_training_has_the_precision(key, precision):
  config = config_lib.train_config()
  config.model.update({'channels': 2, 'num_layers': 1, 'auxiliary': False, 'precision': precision})
  training = build.train_objects(
    config, TINY_CELL, num_classes=3, image_shape=(8, 8, 1), steps_per_epoch=2
  ).training
  state, examples = jax.eval_shape(training.init, key), random_batch(key).train
  wanted = (PRECISIONS[precision],) * 2
  assert set(precisions_of(training.step, state, examples, key)) == {wanted}
  assert set(precisions_of(training.evaluate, state, examples, jnp.ones(8))) == {wanted}


def test_a_run_keeps_its_precision(tmp_path):
  config, own = tiny_search(**{'model.precision': 'highest'}), {'space': SKIP_SPACE}
  snas.run_search(config, tmp_path / 'run', parts=own, on_epoch=lambda line, state: True)
  assert json.loads((tmp_path / 'run/config.json').read_text())['model']['precision'] == 'highest'
  assert json.loads((tmp_path / 'run/run.json').read_text())['precision'] == (
    'highest, float32 on cpu'
  )
  with pytest.raises(ValueError, match='model.precision="highest", now "default"'):
    snas.run_search(tiny_search(), tmp_path / 'run', parts=own)
  apply_fn, variables, info = snas.load_trained(tmp_path / 'run', parts=own)
  images = jnp.zeros((2, *info['image_shape']))
  assert set(precisions_of(apply_fn, variables, images)) == {('HIGHEST', 'HIGHEST')}


def test_a_network_has_the_precision_of_its_phase(tmp_path):
  phases = ({'epochs': 1, 'model.precision': 'highest'}, {'epochs': 1})
  config, own = tiny_search(**{'search.phases': phases}), {'space': SKIP_SPACE}
  snas.run_search(config, tmp_path / 'run', parts=own, on_epoch=lambda line, state: True)
  apply_fn, variables, info = snas.load_trained(tmp_path / 'run', parts=own)
  images = jnp.zeros((2, *info['image_shape']))
  assert set(precisions_of(apply_fn, variables, images)) == {('HIGHEST', 'HIGHEST')}
  assert info['config']['model']['precision'] == 'default'  # that of the whole run


def test_the_record_names_a_default_that_the_user_has_set():
  with jax.default_matmul_precision('high'):
    assert record.precision({'model': {'dtype': 'bfloat16'}}) == 'high, bfloat16 on cpu'
  assert record.precision(None) == 'default, float32 on cpu'


def test_an_unknown_precision_is_named():
  config = config_lib.train_config()
  config.model.precision = 'tf32'
  with pytest.raises(ValueError, match='config.model.precision is .tf32.; it must be one of def'):
    config_lib.validate(config, config_lib.train_config(), build.CHOICES)
