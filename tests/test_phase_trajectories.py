"""A few steps of methods in phases, against a plain loop in float64 from their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_search
import pytest
import reference
from helpers import ROOT, first_state, load_config, with_fields
from plain_search import CELLS, Method, PlainSearch
from plain_walks import PER_EPOCH, SHAPE, assert_alpha, objects_of, plain_loop, walk

from stretchnas_jax.cells import graph, space
from stretchnas_jax.networks import operation_costs


def test_gradual_pruning_steps_as_its_equations(key):
  """One level; the gates that fell are 0; the share of the expected cost pulls at the others."""
  config = load_config(ROOT / 'configs' / 'gradual_pruning_cifar10.py')
  config.model.update({'channels': 2, 'num_layers': 3, 'form': 'merged'})
  config.search.epochs = 4
  found = objects_of(config)
  masks = {c: np.asarray(found.control['allowed'][c]).copy() for c in CELLS}
  masks['normal'][0, 2] = masks['reduce'][3, 1] = False
  control = {**found.control, 'allowed': masks, 'cost_multiplier': np.float32(0.3)}
  state = first_state(found.search)._replace(control=control)
  costs = operation_costs.operation_costs(found.net, SHAPE, 'macs')
  tables = {c: costs.tables[c].sum(0) for c in CELLS}
  even = costs.base + sum(table.sum() / 3 for table in tables.values())

  def pull(alpha, epoch, epochs):
    gates = {c: np.where(masks[c], 1 / (1 + np.exp(-alpha[c])), 0.0) for c in CELLS}
    return {c: 0.3 * tables[c] / even * gates[c] * (1 - gates[c]) for c in CELLS}

  method = Method(plain_search.gates, 'together', penalty=pull, alpha_rate=6e-3)
  plain = plain_loop(found, method, state, 4, masks)
  start = jax.device_get(state.arch.alpha)
  state = walk(found, state, plain, key, 5)
  assert_alpha(state, plain, start)


def test_p_darts_steps_as_its_equations_through_two_phases(key):
  """The second phase has a new, deeper network, new logits, and the strongest operations."""
  config = load_config(ROOT / 'configs' / 'p_darts_cifar10.py')
  given = [
    {**phase, 'model.num_layers': 1 + i, 'model.skip_dropout': 0.0, 'epochs': 2}
    for i, phase in enumerate(config.search.phases[:2])
  ]
  given[1]['keep'] = 2
  with_fields(config, {
    'search.epochs': 4, 'search.warmup_epochs': 1, 'search.phases': tuple(given),
    'model.channels': 2, 'model.form': 'merged', 'weights.final_learning_rate': 0.001,
  })  # fmt: skip
  method = Method(alpha_rate=6e-4, alpha_clip=5.0, rests=lambda epoch, place: epoch % 2 == 0)
  found = objects_of(config)
  state = first_state(found.search)._replace(control=found.control)
  start, plain = jax.device_get(state.arch.alpha), plain_loop(found, method, state, 2)
  state = walk(found, state, plain, key, 4)
  assert_alpha(state, plain, start)
  masks = {c: plain.alpha[c] > plain.alpha[c].min(-1, keepdims=True) for c in CELLS}
  facts = {'allowed': {c: masks[c].astype(int).tolist() for c in CELLS}}
  found = objects_of(config, 1, facts)
  fresh = first_state(found.search, seed=1)
  control = {**found.control, 'phase_start': np.int32(4), 'averages_start': np.int32(4)}
  state = fresh._replace(step=state.step, control=control)
  start = jax.device_get(state.arch.alpha)

  class Later(PlainSearch):
    """The curve of the learning rate begins again."""

    def move_weights(self, gradients):
      self.step -= 4
      super().move_weights(gradients)
      self.step += 4

  with jax.enable_x64(True):
    plain = Later(found.net, method, state.params, state.arch.alpha, 2, PER_EPOCH)
  state = walk(found, state, plain, key, 4, first=4)
  assert_alpha(state, plain, start)


class PlainDots(PlainSearch):
  """The last phase of DOTS: a balance between two operations of an edge, and pairs of in-edges."""

  def __init__(self, found, state, winners, temperature, epochs):
    super().__init__(
      found.net, Method(order='together', b1=0.9), state.params, {}, epochs, PER_EPOCH
    )
    self.winners, self.heat = winners, temperature
    self.codes, self.mask = np.float64(found.table.codes), np.asarray(found.table.mask)
    balance = {c: np.float64(state.arch.alpha[c]['balance']) for c in CELLS}
    self.arch = {'balance': balance, 'beta': jax.tree.map(np.float64, state.arch.beta)}
    self.moments = [jax.tree.map(np.zeros_like, self.arch) for _ in range(2)]

    def loss(params, weights, scores, images, labels):
      logits = reference.supernet(found.net, params, images, weights, scores)
      return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()

    self.gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))

  def passed(self, examples, key, draw):
    t, softmax = self.heat(self.step // PER_EPOCH), plain_search.softmax
    balance = {c: softmax(self.arch['balance'][c] / (1e-3 * t)) for c in CELLS}
    probs = {c: softmax(np.where(self.mask, self.arch['beta'][c] / t, -np.inf)) for c in CELLS}
    weights = {c: np.einsum('eg,ego->eo', balance[c], self.winners[c]) for c in CELLS}
    scores = {c: np.einsum('rk,rke->e', probs[c], self.codes) for c in CELLS}
    value, (to_params, to_weights, to_scores) = self.gradients(
      self.params, weights, scores, np.float64(examples.images), examples.labels
    )
    to_balance = {
      c: plain_search.through_softmax(
        balance[c], np.einsum('eo,ego->eg', np.asarray(to_weights[c]), self.winners[c])
      ) / (1e-3 * t)
      for c in CELLS
    }  # fmt: skip
    to_beta = {
      c: plain_search.through_softmax(
        probs[c], np.einsum('rke,e->rk', self.codes, np.asarray(to_scores[c]))
      ) / t
      for c in CELLS
    }  # fmt: skip
    to_arch = {'balance': to_balance, 'beta': to_beta}
    return float(value), jax.tree.map(np.asarray, to_params), to_arch

  def move_alpha(self, gradients):
    self.moves += 1
    g = jax.tree.map(lambda g, x: g + 1e-3 * x, gradients, self.arch)
    mean, square = self.moments
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, g)
    square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, g)
    self.moments, n = [mean, square], self.moves

    def moved(x, m, s):
      return x - 3e-4 * (m / (1 - 0.9**n)) / (np.sqrt(s / (1 - 0.999**n)) + 1e-8)

    self.arch = jax.tree.map(moved, self.arch, mean, square)


@pytest.mark.long
def test_the_last_phase_of_dots_steps_as_its_equations(key):
  config = load_config(ROOT / 'configs' / 'dots_cifar10.py')
  with_fields(config, {
    'search.epochs': 6, 'model.channels': 2, 'model.num_layers': 3, 'model.form': 'merged',
    'model.final_norm': False,
  })  # fmt: skip
  names = ('none', 'max_pool_3x3', 'skip_connect', 'dil_conv_3x3')
  of = space.SearchSpace(graph.CellGraph(2), names)
  edges = len(of.graph.edges)
  winners = {c: np.zeros((edges, 2, 4)) for c in CELLS}
  for i, c in enumerate(CELLS):
    winners[c][np.arange(edges), 0, 1 + (np.arange(edges) + i) % 2] = 1
    winners[c][:, 1, 3] = 1
  facts = {'allowed': {c: winners[c].sum(1).astype(int).tolist() for c in CELLS}}
  found = objects_of(config, 2, facts, of)
  state = first_state(found.search)
  control = {**found.control, 'phase_start': np.int32(0)}
  state = start = state._replace(control=control)
  heat = lambda epoch: 10 * (0.02 / 10) ** epoch  # of two epochs
  with jax.enable_x64(True):
    plain = PlainDots(found, state, winners, heat, 6)
  state = walk(found, state, plain, key, 4)
  for c in CELLS:
    for moved, first, by_hand in (
      (state.arch.alpha[c]['balance'], start.arch.alpha[c]['balance'], plain.arch['balance'][c]),
      (state.arch.beta[c], start.arch.beta[c], plain.arch['beta'][c]),
    ):
      moved, by_hand = np.asarray(moved) - first, by_hand - np.float64(first)
      real = slice(None) if moved.shape == (edges, 2) else found.table.mask
      np.testing.assert_allclose(moved[real], by_hand[real], atol=3e-2 * abs(moved[real]).max())
      assert abs(moved[real]).max() > 1e-4
