"""Runs that earlier versions of the package have left go on loading, to the same answers."""

import json
import pathlib

import numpy as np
import pytest

import stretchnas_jax

RUNS = sorted((pathlib.Path(__file__).parent / 'fixtures').glob('runs_*/*'))
IMAGES = (np.arange(256) * 37 % 256).reshape(4, 8, 8, 1).astype(np.uint8)


def test_there_is_one_of_each_kind():
  assert {path.name for path in RUNS} == {'train', 'search'}


@pytest.mark.parametrize('path', RUNS, ids=lambda path: f'{path.parent.name}-{path.name}')
def test_what_an_earlier_version_has_learned_loads(path):
  before = {file: file.read_bytes() for file in path.rglob('*') if file.is_file()}
  apply_fn, variables, info = stretchnas_jax.load_trained(path)
  logits = json.loads((path / 'logits.json').read_text('utf-8'))
  # XLA may compile the same network in another way.
  np.testing.assert_allclose(apply_fn(variables, IMAGES), logits, rtol=1e-4, atol=1e-5)
  assert info['kind'] == path.name and info['metrics']['step'] == info['step']
  assert before == {file: file.read_bytes() for file in path.rglob('*') if file.is_file()}
