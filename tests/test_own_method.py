"""A new method, with a relaxation and a penalty of its own, is one short config file."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
from helpers import POOL_SPACE, ROOT, random_batch

from stretchnas_jax.cells import decodings, topology
from stretchnas_jax.cells.decoding import derive_cell
from stretchnas_jax.runs import build
from stretchnas_jax.runs.parts import Parts

FILE = ROOT / 'configs' / 'own_method.py'


def module():
  spec = importlib.util.spec_from_file_location('own_method', FILE)
  found = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(found)
  return found


def test_it_is_short_and_the_documentation_shows_it():
  text = FILE.read_text('utf-8')
  assert text.count('\n') <= 50
  assert f'```python\n{text}```' in (ROOT / 'docs' / 'methods.md').read_text('utf-8')


def test_the_sparsemax_is_the_nearest_point_of_the_simplex():
  alpha = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
  found = np.asarray(module().sparsemax(alpha))
  np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
  assert (found >= 0).all() and (found == 0).any()
  for other in np.random.default_rng(1).dirichlet(np.ones(4) / 2, 2000):
    nearer = ((other - alpha) ** 2).sum(1) < ((found - alpha) ** 2).sum(1) - 1e-6
    assert not nearer.any()


def test_its_strength_lets_a_larger_edge_score_rank_higher():
  relaxation = module().get_parts(None)['relaxation']
  strength = relaxation.strength(np.full((5, 2), -1.0, np.float32), {})
  assert (strength >= 0).all() and np.allclose(strength.sum(1), 1)
  scores, table = np.array([1.0, 1.0, 0.1, 0.9, 0.8]), topology.none(POOL_SPACE.graph)
  rule = decodings.strongest_edges()
  found = derive_cell(POOL_SPACE, table, strength, None, decoding=rule, edge_scores=scores)
  assert [edge[1:] for edge in found[0]] == [(0, 2), (1, 2), (1, 3), (2, 3)]


def test_a_search_runs_with_it(key):
  own = module()
  config = own.get_config()
  config.model.update({'channels': 2, 'num_layers': 1, 'form': 'merged'})
  config.alpha.weight_decay = 0.0
  parts = Parts.of(own.get_parts(config), space=POOL_SPACE)
  search = build.search_objects(
    config, parts, num_classes=3, image_shape=(8, 8, 1), num_steps=4
  ).search
  state = search.init(key)
  # At the start all weights are nearly equal, and the entropy pushes only later.
  alpha = jax.tree.map(lambda x: x.at[:, 0].add(0.5), state.arch.alpha)
  state = state._replace(arch=state.arch._replace(alpha=alpha), step=jnp.int32(2))
  after, _ = jax.jit(search.step)(state, random_batch(key), key)
  op_weights, _ = search.mixture(after.arch, after.step)
  np.testing.assert_allclose(op_weights['normal'].sum(1), 1, rtol=1e-5)
  # In a network of one layer, a reduction cell, only the penalty moves the normal cell.
  assert (after.arch.alpha['normal'][:, 0] > state.arch.alpha['normal'][:, 0]).all()
  assert search.derive(after).normal != ()
