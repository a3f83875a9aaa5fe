"""A few steps of each method's config, against a plain loop in float64 from its equations."""

import functools

import jax
import numpy as np
import plain_search
import pytest
from helpers import ROOT, first_state, load_config, random_batch
from plain_search import Method, PlainSearch

from stretchnas_jax.cells import graph, space
from stretchnas_jax.networks import operation_costs
from stretchnas_jax.runs import build
from stretchnas_jax.runs.parts import Parts

# Without convolutions on edges, whose ReLUs would multiply what rounding does in 32 bits.
SPACE = space.SearchSpace(graph.CellGraph(2), ('none', 'max_pool_3x3', 'skip_connect'))
EPOCHS, PER_EPOCH = 4, 2

METHODS = {
  'snas': Method(
    plain_search.snas, 'together', lambda e, n: 1 + (0.03 - 1) * e / n, alpha_clip=10.0
  ),
  'gdas': Method(
    plain_search.gdas, 'weights first', lambda e, n: 10 - 9.9 * e / (n - 1), by_epoch=False,
    weight_decay=5e-4, nesterov=True,
  ),
  'fair_darts': Method(
    plain_search.gates, penalty=plain_search.zero_one, rate=0.005, alpha_rate=3e-3, b1=0.9
  ),
  'beta_darts': Method(penalty=plain_search.beta_decay),
  'darts_minus': Method(auxiliary=lambda e, n: 1 - e / n),
  'proxyless': Method(
    plain_search.binary, 'weights first', rests=lambda e, place: e < 1 or place != 1,
    by_epoch=False, alpha_rate=1e-3, b1=0.0, alpha_decay=0.0,
  ),
}  # fmt: skip


# Relaxations, penalties and orders have tests of their own, so one method is enough in each run.
@pytest.mark.parametrize(
  'name', ['gdas', *(pytest.param(n, marks=pytest.mark.long) for n in METHODS if n != 'gdas')]
)
def test_the_steps_of_a_config_are_those_of_its_equations(name, key):
  config = load_config(ROOT / 'configs' / f'{name}_cifar10.py')
  config.model.update({'channels': 2, 'num_layers': 3, 'form': 'merged'})
  config.search.epochs = EPOCHS
  config.model.edge_drop = 0.0  # dropped edges have tests of their own
  config.model.final_norm = False  # so does the last batch norm
  if name == 'proxyless':
    assert config.search.warmup_epochs == 1 and config.search.arch_every == 5
    config.search.arch_every = 2
  shape = (8, 8, 1)
  net, _, search = build.search_objects(
    config, Parts(space=SPACE), num_classes=3, image_shape=shape,
    num_steps=EPOCHS * PER_EPOCH, steps_per_epoch=PER_EPOCH,
  )  # fmt: skip
  method = METHODS[name]
  if name == 'snas':
    kinds = [
      operation_costs.operation_costs(net, shape, kind).tables for kind in ('macs', 'params')
    ]
    method = method._replace(penalty=functools.partial(plain_search.logarithms, kinds))
  state = first = first_state(search)
  start = state.arch.alpha['normal']
  with jax.enable_x64(True):
    plain = PlainSearch(net, method, state.params, state.arch.alpha, EPOCHS, PER_EPOCH)
  step = jax.jit(search.step)
  for number in range(5):
    batch = random_batch(jax.random.fold_in(key, 100 + number), shared=True)
    state, metrics = step(state, batch, key)
    with jax.enable_x64(True):
      expected = plain.run(batch, key)
    np.testing.assert_allclose(metrics['train_loss'], expected, rtol=2e-4)
  for cell in ('normal', 'reduce'):
    moved = np.asarray(state.arch.alpha[cell]) - first.arch.alpha[cell]
    np.testing.assert_allclose(
      moved, plain.alpha[cell] - np.float64(first.arch.alpha[cell]), atol=2e-2 * abs(moved).max()
    )
    assert abs(moved).max() > 1e-4
  moved, by_hand = (
    np.concatenate([np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (end, first.params)))])
    for end in (state.params, plain.params)
  )
  assert np.linalg.norm(moved - by_hand) < 5e-3 * np.linalg.norm(by_hand)
  assert start.shape == (5, 3)
