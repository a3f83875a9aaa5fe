"""Searches and trainings under the strict settings of JAX, in this process."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TINY_CELL, tiny_search, tiny_training

import stretchnas_jax as snas
from stretchnas_jax.cells import graph, space
from stretchnas_jax.cells.promotion import with_usual_promotion

# A convolution of 5x5 runs the code of one of 3x3.
KINDS = tuple(name for name in space.DARTS_PRIMITIVES[1:] if '5x5' not in name)
OWN = {'space': space.SearchSpace(graph.CellGraph(1), KINDS)}
SETTINGS = {
  'without promotion, and with checks for NaN': (
    lambda: jax.numpy_rank_promotion('raise'),
    lambda: jax.numpy_dtype_promotion('strict'),
    lambda: jax.debug_nans(True),
  ),
  'with 64 bits': (lambda: jax.enable_x64(True),),
}


@pytest.fixture(
  params=[
    name if 'NaN' in name else pytest.param(name, marks=pytest.mark.long) for name in SETTINGS
  ]
)
def strict(request):
  with contextlib.ExitStack() as stack:
    for setting in SETTINGS[request.param]:
      stack.enter_context(setting())
    yield


@pytest.mark.long
def test_a_search_runs(strict, tmp_path):
  config = tiny_search(**{'search.epochs': 1})
  result = snas.run_search(config, tmp_path / 'run', parts=OWN)
  assert 0 <= result['val_accuracy'] <= 1
  loaded = snas.load_trained(tmp_path / 'run', parts=OWN)
  found = snas.predict(loaded, np.zeros((2, *loaded[2]['image_shape']), np.uint8))
  assert found.probabilities.shape == (2, 10)


def test_a_training_runs(strict, tmp_path):
  config = tiny_training(**{'train.epochs': 1})
  result = snas.run_train(config, tmp_path / 'run', TINY_CELL)
  assert 0 <= result['test_accuracy'] <= 1
  assert jax.tree.leaves(snas.load_trained(tmp_path / 'run')[1])[0].dtype == np.float32


def test_the_usual_promotion_ends_with_the_function():
  add = lambda: jnp.ones((2, 3)) + jnp.ones(3)
  with jax.numpy_rank_promotion('raise'):
    assert with_usual_promotion(add)().shape == (2, 3)
    with pytest.raises(ValueError, match='rank_promotion'):
      add()
