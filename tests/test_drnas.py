"""DrNAS: steps of both phases of its config, against a plain loop in float64 from its equations."""

import jax
import numpy as np
import optax
import plain_search
import pytest
from helpers import ROOT, first_state, load_config, with_fields
from plain_search import CELLS, Method
from plain_walks import PER_EPOCH, assert_alpha, objects_of, plain_loop, walk

from stretchnas_jax.cells import graph, space
from stretchnas_jax.learning import phase_border
from stretchnas_jax.networks import widening

# Like that of DrNAS it has no `none`; it has no convolutions, see `plain_walks`. One reduction cell
# has edges of both strides.
SPACE = space.SearchSpace(graph.CellGraph(2), ('max_pool_3x3', 'avg_pool_3x3', 'skip_connect'))
DRAWN = Method(
  plain_search.dirichlet, rests=lambda epoch, place: epoch % 2 == 0, rate=0.1, alpha_rate=6e-4
)


def config_of_two_phases():
  """Returns the config with two epochs in each phase; alpha rests in the first of them."""
  config = load_config(ROOT / 'configs' / 'drnas_cifar10.py')
  assert [phase['epochs'] for phase in config.search.phases] == [25, 25]
  given = [{**phase, 'epochs': 2} for phase in config.search.phases]
  assert given[1].pop('keep') == 4 and config.search.warmup_epochs == 10
  given[1]['keep'] = 2
  return with_fields(config, {
    'search.epochs': 4, 'search.warmup_epochs': 1, 'search.phases': tuple(given),
    'model.channels': 24, 'model.num_layers': 1, 'model.form': 'merged',
    'weights.final_learning_rate': 0.001,
  })  # fmt: skip


def assert_near(tree, by_hand, bound):
  """Asserts that two trees are near each other, each as one vector."""
  one, other = (
    np.concatenate([np.ravel(np.float64(leaf)) for leaf in jax.tree.leaves(x)])
    for x in (tree, by_hand)
  )
  assert 0 < np.linalg.norm(one - other) < bound * np.linalg.norm(other)


def assert_params(state, plain, start):
  """Asserts that the weights have moved as in the plain loop."""
  moved, by_hand = (
    jax.tree.map(lambda a, b: np.float64(a) - b, end, start) for end in (state.params, plain.params)
  )
  assert_near(moved, by_hand, 5e-3)


def adopt_optimizers(plain, state):
  """Gives a plain loop the momentum of a state, and Adam's moments, as a phase begins with them."""
  of = optax.tree_utils.tree_get
  to64 = lambda tree: jax.tree.map(np.float64, jax.device_get(tree))
  plain.trace = to64(of(state.weights_opt, 'trace'))
  plain.mean, plain.square = (to64(of(state.alpha_opt, name)) for name in ('mu', 'nu'))
  plain.moves = int(of(state.alpha_opt, 'count'))


@pytest.mark.long
def test_the_steps_of_both_phases_are_those_of_the_equations(key):
  """Weights, momentum, logits and the learning rate go on; new channels copy old ones."""
  config = config_of_two_phases()
  found = objects_of(config, of=SPACE)
  state = first_state(found.search)._replace(control=found.control)
  first, before = jax.device_get((state.arch.alpha, state.params))
  plain = plain_loop(found, DRAWN._replace(partial=6), state, 4)
  state = walk(found, state, plain, key, 4)
  assert_alpha(state, plain, first)
  assert_params(state, plain, before)
  masks = {c: plain.alpha[c] > plain.alpha[c].min(-1, keepdims=True) for c in CELLS}
  facts = {'allowed': {c: masks[c].astype(int).tolist() for c in CELLS}}
  after = objects_of(config, 1, facts, SPACE)
  passage = widening.pass_on(found.net, after.net, key)
  fresh = first_state(after.search)._replace(control=after.control)
  state = phase_border.crossed(state, fresh, (), 2 * PER_EPOCH, passage)
  later = plain_loop(after, DRAWN._replace(partial=4), state, 4)
  adopt_optimizers(later, state)
  with jax.enable_x64(True):
    passed = passage.params(plain.trace)
  assert_near(later.trace, passed, 2e-2)
  assert_near(later.mean, plain.mean, 2e-2)
  assert later.moves == plain.moves == PER_EPOCH
  second, before = jax.device_get((state.arch.alpha, state.params))
  state = walk(after, state, later, key, 4, first=4)
  assert_alpha(state, later, second)
  assert_params(state, later, before)
