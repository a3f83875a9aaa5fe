"""DARTS+: steps of its config, and where it stops, against a plain loop in float64."""

import jax
import numpy as np
import plain_search
from helpers import ROOT, load_config, with_fields
from plain_search import CELLS, Method
from plain_walks import PER_EPOCH, SPACE, assert_alpha, objects_of, plain_loop, walk

from stretchnas_jax.learning import monitors

RATE, EPOCHS, WALKED = 0.05, 6, 4


def skips_of(alpha):
  """Counts the skips of DARTS' cell: a node keeps two in-edges, each its strongest operation."""
  p, edges, count = plain_search.softmax(alpha), SPACE.graph.edges, 0
  for node in (2, 3):
    into = [e for e, (_, dst) in enumerate(edges) if dst == node]
    kept = sorted(into, key=lambda e: -p[e, 1:].max())[:2]  # without none
    count += sum(p[e, 1:].argmax() == 1 for e in kept)
  return count


def stop_of_the_authors(counts):
  """Two skips or more (Liang et al. 2019)."""
  return next(e for e, found in enumerate(counts, 1) if found >= 2)


def stop_of_confopt(counts, most, min_epochs):
  """More skips than a number, but not before some epochs have passed."""
  return next(e for e, found in enumerate(counts, 1) if e >= min_epochs and found > most)


def config_of(**fields):
  config = load_config(ROOT / 'configs' / 'darts_plus_cifar10.py')
  return with_fields(config, {
    'model.channels': 2, 'model.num_layers': 3, 'model.form': 'merged', 'search.epochs': EPOCHS,
    'alpha.learning_rate': RATE, **fields,
  })  # fmt: skip


def test_the_steps_are_those_of_darts_and_the_search_stops_where_skips_win(key):
  """The logits begin so that the two rules stop at different epochs, neither at the first."""
  found = objects_of(config_of())
  others = objects_of(config_of(**{'monitor.skips': 3, 'monitor.min_epochs': 3}))
  rng = np.random.default_rng(13)
  start = {c: np.float32(rng.normal(0, 0.15, (5, 3)) - [0, 0, 0.1]) for c in CELLS}
  state = found.search.init(key)
  arch = state.arch._replace(alpha=jax.tree.map(jax.numpy.asarray, start))
  state = state._replace(arch=arch, control=found.control)
  plain = plain_loop(found, Method(alpha_rate=RATE), state, EPOCHS)
  controls, counts, stops = [found.control, others.control], [], [None, None]
  for epoch in range(1, WALKED + 1):
    state = walk(found, state, plain, key, PER_EPOCH, first=(epoch - 1) * PER_EPOCH)
    counts.append(skips_of(plain.alpha['normal']))
    cell, _ = found.search.decode(state.arch, int(state.step), state.control)
    line = {'epoch': epoch, 'step': int(state.step)}
    for i, at in enumerate((found, others)):
      controls[i] = monitors.decide(at.monitors, state.arch, controls[i], line, cell)
      if stops[i] is None and monitors.has_stopped(controls[i]):
        stops[i] = epoch
  assert_alpha(state, plain, start)
  assert stops == [stop_of_the_authors(counts), stop_of_confopt(counts, 2, 3)] == [2, 4]
