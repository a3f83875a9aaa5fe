"""Steps of a config's phase, beside the same steps of a plain loop."""

import jax
import numpy as np
from helpers import random_batch
from plain_search import CELLS, PlainSearch

from stretchnas_jax.cells import graph, space
from stretchnas_jax.runs import phases, search_phases
from stretchnas_jax.runs.parts import Parts

# Without convolutions on edges, whose ReLUs would multiply what rounding does in 32 bits.
SPACE = space.SearchSpace(graph.CellGraph(2), ('none', 'max_pool_3x3', 'skip_connect'))
SHAPE, PER_EPOCH = (8, 8, 1), 2


def objects_of(config, number=0, facts=None, of=SPACE):
  """Returns the objects of a phase of a config, for three classes."""
  phase = phases.read(config)[number]
  return search_phases.objects_of(
    phase, Parts(space=of), facts or {}, num_classes=3, image_shape=SHAPE,
    steps_per_epoch=PER_EPOCH,
  )  # fmt: skip


def walk(found, state, plain, key, steps, first=0):
  """Makes steps of a search and of its plain loop; returns the last state."""
  step = jax.jit(found.search.step)
  for number in range(first, first + steps):
    batch = random_batch(jax.random.fold_in(key, 100 + number), shared=True)
    state, metrics = step(state, batch, key)
    with jax.enable_x64(True):
      plain.step = number
      expected = plain.run(batch, key)
    np.testing.assert_allclose(metrics['train_loss'], expected, rtol=2e-4)
  return state


def assert_alpha(state, plain, start):
  """Asserts that alpha has moved as in the plain loop."""
  for cell in CELLS:
    moved = np.asarray(state.arch.alpha[cell]) - np.asarray(start[cell])
    by_hand = plain.alpha[cell] - np.float64(start[cell])
    np.testing.assert_allclose(moved, by_hand, atol=2e-2 * abs(moved).max())
    assert abs(moved).max() > 1e-4


def plain_loop(found, method, state, epochs, masks=None):
  """Returns the plain loop that begins at a state, see `PlainSearch`."""
  with jax.enable_x64(True):
    return PlainSearch(found.net, method, state.params, state.arch.alpha, epochs, PER_EPOCH, masks)
