"""PC-DARTS: its scores, its decoding, and steps of its config against a plain loop in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from helpers import ROOT, first_state, load_config, random_batch

from stretchnas_jax.cells import graph, space, topology
from stretchnas_jax.runs import build
from stretchnas_jax.runs.parts import Parts

CELLS = space.CELL_TYPES
# Without convolutions on edges, whose ReLUs would multiply what rounding does in 32 bits.
SPACE = space.SearchSpace(graph.CellGraph(2), ('none', 'max_pool_3x3', 'skip_connect'))
EPOCHS, PER_EPOCH, WARMUP = 4, 2, 1


def config_of(cells='darts'):
  config = load_config(ROOT / 'configs' / 'pc_darts_cifar10.py', cells)
  config.model.update({'channels': 4, 'num_layers': 1, 'form': 'merged'})
  config.search.update({'epochs': EPOCHS, 'warmup_epochs': WARMUP})
  return config


def objects(config, parts=None):
  return build.search_objects(
    config, parts or Parts(space=SPACE), num_classes=3, image_shape=(8, 8, 1),
    num_steps=EPOCHS * PER_EPOCH, steps_per_epoch=PER_EPOCH,
  )  # fmt: skip


def edge_softmax(beta):
  """The scores of the in-edges of nodes 2 and 3, which have two and three."""
  return jnp.concatenate([jax.nn.softmax(beta[:2]), jax.nn.softmax(beta[2:])])


class PlainPcDarts:
  """PC-DARTS as a plain loop: alpha and beta by one Adam after the warm-up, then the weights."""

  def __init__(self, net, params, alpha, beta):
    to64 = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, jnp.float64))
    self.params, self.arch, self.step, self.moves = to64(params), to64((alpha, beta)), 0, 0
    self.trace = jax.tree.map(jnp.zeros_like, self.params)
    self.mean = self.square = jax.tree.map(jnp.zeros_like, self.arch)

    def loss(params, arch, images, labels):
      weights = {c: jax.nn.softmax(arch[0][c]) for c in CELLS}
      scores = {c: edge_softmax(arch[1][c]) for c in CELLS}
      options = reference.Options(partial=4)
      logits = reference.supernet(net, params, images, weights, scores, options)
      return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()

    self.gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))

  def gradients_of(self, examples):
    images = jnp.asarray(examples.images, jnp.float64)
    return self.gradients(self.params, self.arch, images, examples.labels)

  def run(self, batch):
    epoch = self.step // PER_EPOCH
    if epoch >= WARMUP:
      self.move_arch(self.gradients_of(batch.val_alpha)[1][1])
    value, (gradients, _) = self.gradients_of(batch.train)
    norm = sum((g**2).sum() for g in jax.tree.leaves(gradients)) ** 0.5
    rate = 0.1 * (1 + np.cos(np.pi * epoch / EPOCHS)) / 2
    follow = lambda v, g, p: 0.9 * v + g * min(1, 5 / norm) + 3e-4 * p
    self.trace = jax.tree.map(follow, self.trace, gradients, self.params)
    self.params = jax.tree.map(lambda p, v: p - rate * v, self.params, self.trace)
    self.step += 1
    return value

  def move_arch(self, gradients):
    self.moves += 1
    gradients = jax.tree.map(lambda g, a: g + 1e-3 * a, gradients, self.arch)
    self.mean = jax.tree.map(lambda m, g: 0.5 * m + 0.5 * g, self.mean, gradients)
    self.square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, self.square, gradients)
    first, second = 1 - 0.5**self.moves, 1 - 0.999**self.moves

    def moved(a, m, s):
      return a - 6e-4 * (m / first) / ((s / second) ** 0.5 + 1e-8)

    self.arch = jax.tree.map(moved, self.arch, self.mean, self.square)


def assert_moves_alike(end, first, by_hand, bound):
  """The movements of two sides, each as one vector."""
  found, expected = (
    np.concatenate([np.ravel(x) - np.ravel(np.float64(y)) for x, y in zip(*pair)])
    for pair in ((jax.tree.leaves(tree), jax.tree.leaves(first)) for tree in (end, by_hand))
  )
  assert np.linalg.norm(expected) > 0
  assert np.linalg.norm(found - expected) < bound * np.linalg.norm(expected)


def test_the_steps_of_the_config_are_those_of_its_equations(key):
  net, _, search = objects(config_of())
  state = first = first_state(search)
  beta_of = lambda beta: {c: np.concatenate([beta[c][0, :2], beta[c][1, :3]]) for c in CELLS}
  with jax.enable_x64(True):
    plain = PlainPcDarts(net, state.params, state.arch.alpha, beta_of(state.arch.beta))
  step = jax.jit(search.step)
  for number in range(5):
    batch = random_batch(jax.random.fold_in(key, 100 + number), shared=True)
    state, metrics = step(state, batch, key)
    with jax.enable_x64(True):
      expected = plain.run(batch)
    np.testing.assert_allclose(metrics['train_loss'], expected, rtol=2e-4)
    if number < WARMUP * PER_EPOCH:
      assert jax.tree.all(jax.tree.map(np.array_equal, state.arch, first.arch))
      assert not any(np.any(leaf) for leaf in jax.tree.leaves((state.alpha_opt, state.beta_opt)))
  alpha, beta = plain.arch
  assert_moves_alike(state.arch.alpha, first.arch.alpha, alpha, 2e-2)
  assert_moves_alike(beta_of(state.arch.beta), beta_of(first.arch.beta), beta, 2e-2)
  assert_moves_alike(state.params, first.params, plain.params, 5e-3)


def test_scores_are_a_softmax_over_the_in_edges_of_each_node():
  table = topology.k_subsets(graph.CellGraph(4), 1, by='target')
  uniform = topology.edge_scores(jnp.zeros(table.mask.shape), table)
  expected = np.concatenate([np.full(n, 1 / n) for n in (2, 3, 4, 5)])
  np.testing.assert_allclose(uniform, expected, rtol=1e-6)
  beta = jnp.asarray(np.random.default_rng(0).normal(size=table.mask.shape), jnp.float32)
  drawn = topology.edge_scores(beta, table)
  sums = [sum(drawn[e] for e in graph.CellGraph(4).in_edges(node)) for node in (2, 3, 4, 5)]
  np.testing.assert_allclose(sums, 1, rtol=1e-6)


def test_a_node_keeps_the_edges_with_the_largest_product():
  """Node 3: the strongest operations stand on edges 0 and 1, and the scores choose edge 2."""
  _, _, search = objects(config_of())
  state = jax.eval_shape(search.init, jax.random.key(0))
  arch = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), state.arch)
  alpha, beta = arch.alpha['normal'], arch.beta['normal']
  alpha[2, 1], alpha[3, 2], alpha[4, 2] = 3.0, 2.0, 1.0
  beta[1, 2] = 2.0  # the edge from node 2
  found, _ = search.decode(arch, 0)
  assert set(found.normal[2:]) == {('max_pool_3x3', 0, 3), ('skip_connect', 2, 3)}


@pytest.mark.parametrize('cells', ['darts', 'sc'])
def test_the_config_builds_its_network(cells):
  config = load_config(ROOT / 'configs' / 'pc_darts_cifar10.py', cells)
  net, table, _ = objects(config, Parts())
  assert net.partial_channels == 4 and config.search.warmup_epochs == 15
  assert ('none' in net.space.primitives) == (cells == 'darts')
  assert table.codes.shape == ((4, 5, 14) if cells == 'darts' else (5, 16, 14))
