"""Trainings on several devices, in bfloat16, and with several seeds."""

import json
import statistics

import jax
import numpy as np
import pytest
from helpers import tiny_training

import stretchnas_jax
from stretchnas_jax import config as config_lib
from stretchnas_jax.cells import genotype
from stretchnas_jax.machine import parallel
from stretchnas_jax.runs import (
  seeds,
  steps,
  train_plan,
  train_task,
)

EDGES = (('dil_conv_3x3', 0, 2), ('skip_connect', 1, 2), ('max_pool_3x3', 2, 3))
CELL = genotype.Genotype(EDGES, (2, 3), EDGES[:2], (2,))

pytestmark = pytest.mark.usefixtures('shared_programs')


def run_steps(backend, dtype='float32'):
  """State and sums after three steps of the second epoch, where drop path is at work."""
  config = tiny_training(**{'parallel.backend': backend, 'model.dtype': dtype})
  plan = train_plan.plan_train(config, genotype=CELL)
  programs = train_task.compile_programs(plan)
  position = programs.init(jax.random.key(0))
  position = position._replace(state=position.state._replace(step=jax.numpy.int32(3)))
  position = parallel.replicate(position, backend)
  data = parallel.replicate(plan.feeds.train.data, backend)
  chunk = plan.feeds.train.chunk(1, 0, 3, 5)
  work = steps.Work(plan.feeds.train, programs.step, data, jax.random.key(1))
  position = work.advance(position, chunk, 3)
  return jax.tree.map(np.asarray, position)


@pytest.fixture(scope='module')
def on_one_device():
  return run_steps('single')


@pytest.mark.parametrize('backend', ['pmap', 'shard_map'])
def test_four_devices_learn_what_one_learns(backend, on_one_device):
  assert jax.device_count() == 4
  after = run_steps(backend)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), on_one_device, after)


def test_bfloat16_learns_nearly_the_same_and_keeps_float32(on_one_device):
  after = run_steps('single', 'bfloat16')
  assert {x.dtype for x in jax.tree.leaves(after.state.params)} == {np.dtype('float32')}
  loss, expected = after.sums['train_loss'], on_one_device.sums['train_loss']
  assert loss != expected and loss == pytest.approx(expected, rel=0.03)


def test_several_seeds_are_one_result_and_can_go_on(tmp_path, capsys):
  config = tiny_training(**{'train.epochs': 1, 'data.holdout': 0.0, 'data.fraction': 0.1})
  first = stretchnas_jax.run_train(config, tmp_path / 'run', CELL, seeds=(0,))
  assert first['n'] == 1 and first['test_accuracy_std'] is None
  result = stretchnas_jax.run_train(config, tmp_path / 'run', CELL, seeds=(0, 3))
  assert result == json.loads((tmp_path / 'run' / 'result.json').read_text())
  assert 'seed_0 holds a finished training' in capsys.readouterr().out
  single = [json.loads((tmp_path / f'run/seed_{i}/result.json').read_text()) for i in (0, 3)]
  assert result['runs'] == single and [run['seed'] for run in single] == [0, 3]
  accuracy = [run['test_accuracy'] for run in single]
  assert (result['test_accuracy'], result['n']) == (statistics.fmean(accuracy), 2)
  assert result['test_accuracy_std'] == statistics.stdev(accuracy)
  assert result['test_error_percent'] == pytest.approx(100 - 100 * result['test_accuracy'])
  alone = stretchnas_jax.run_train(
    tiny_training(**{**config_lib.flatten(config), 'seed': 3}), tmp_path / 'alone', CELL
  )
  assert alone['test_accuracy'] == accuracy[1]
  with pytest.raises(ValueError, match='holds several runs; name one of them: seed_0, seed_3'):
    stretchnas_jax.load_trained(tmp_path / 'run')
  with pytest.raises(ValueError, match='seed'):
    stretchnas_jax.run_train(config, tmp_path / 'run', CELL)
  with pytest.raises(ValueError, match='seed'):
    stretchnas_jax.run_train(config, tmp_path / 'alone', CELL, seeds=(0,))


@pytest.mark.parametrize('text', ['', '0,,1', '0,x', '-1', '1,1', '0.5'])
def test_wrong_seeds_are_named(text):
  with pytest.raises(ValueError, match='--seeds is'):
    seeds.parse(text)
