"""The decodings of methods, against plain loops."""

import numpy as np
import pytest

from stretchnas_jax.cells import decodings, genotype, space, topology
from stretchnas_jax.cells.decoding import derive_cell


def logits(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def probs_of(values):
  values = np.asarray(values, np.float64)
  shifted = np.exp(values - values.max(-1, keepdims=True))
  return shifted / shifted.sum(-1, keepdims=True)


FOUR = space.darts_space(4, with_none=True)
NONE = topology.none(FOUR.graph)


def cell_of(decoding, strength, own=FOUR, table=NONE, scores=None, allowed=None):
  return derive_cell(
    own, table, strength, None, decoding=decoding, edge_scores=scores, allowed=allowed
  )


def test_strongest_edges_rank_by_the_product_of_strength_and_score():
  strength, scores = probs_of(logits((14, 8))), probs_of(logits((14,), 1))
  edges, _, _ = cell_of(decodings.strongest_edges(2), strength, scores=scores)
  assert len(edges) == 8
  for node in range(2, 6):
    rank = {e: scores[e] * strength[e, 1:].max() for e in FOUR.graph.in_edges(node)}
    best = {FOUR.graph.edges[e] for e in sorted(rank, key=rank.get)[-2:]}
    assert {edge[1:] for edge in edges if edge[2] == node} == best
  plain, _, _ = cell_of(None, strength)
  assert cell_of(decodings.strongest_edges(2), strength)[0] == plain


def test_two_operations_may_stand_on_one_edge():
  strength = np.full((14, 8), 0.1)
  strength[2, [4, 6]] = 0.9, 0.8  # edge 0 -> 3
  edges, concat, _ = cell_of(decodings.pairs(2), strength)
  assert [edge for edge in edges if edge[2] == 3] == [
    ('sep_conv_3x3', 0, 3), ('dil_conv_3x3', 0, 3),
  ]  # fmt: skip
  assert concat == (2, 3, 4, 5) and len(edges) == 8
  genotype.Genotype(edges, concat, edges, concat)


def test_all_edges_stay_where_none_does_not_win():
  strength = probs_of(logits((14, 8)))
  edges, _, _ = cell_of(decodings.all_edges(), strength)
  names = [FOUR.primitives[o] for o in strength.argmax(1)]
  expected = [(name, *edge) for name, edge in zip(names, FOUR.graph.edges) if name != 'none']
  assert list(edges) == expected  # every node is reached here
  only_none = np.zeros((14, 8))
  only_none[:, 0], only_none[4, 3] = 1, 0.9
  edges, concat, notes = cell_of(decodings.all_edges(), only_none)
  assert edges == (('skip_connect', *FOUR.graph.edges[5]),) or len(edges) == 1
  assert len(concat) == 1 and 'the best one was taken' in notes[0]


def test_weak_edges_leave_the_cell_by_the_threshold():
  own = space.darts_space(4)
  strength = np.full((14, 7), 0.2)
  for edge, value in {(0, 2): 0.9, (1, 3): 0.84, (2, 3): 0.86, (2, 4): 0.99}.items():
    strength[own.graph.edges.index(edge), 3] = value
  edges, concat, notes = cell_of(decodings.threshold(0.85), strength, own, topology.none(own.graph))
  assert edges == (
    ('sep_conv_3x3', 0, 2), ('sep_conv_3x3', 2, 3), ('sep_conv_3x3', 2, 4),
  )  # fmt: skip
  assert concat == (2, 3, 4) and 'node 5' in notes[0]
  edges, _, notes = cell_of(decodings.threshold(0.995), strength, own, topology.none(own.graph))
  assert edges == (('sep_conv_3x3', 0, 2),) and '0->2' in notes[0]


def capped_by_hand(strength, most):
  """P-DARTS' loop, on a table of strengths that it changes."""
  skip, strength = FOUR.primitives.index('skip_connect'), strength.copy()
  while True:
    chosen = {}
    for node in range(2, 6):
      inputs = sorted(FOUR.graph.in_edges(node), key=lambda e: -strength[e, 1:].max())[:2]
      chosen |= {e: 1 + strength[e, 1:].argmax() for e in inputs}
    skips = [e for e, o in chosen.items() if o == skip]
    if len(skips) <= most:
      return {(FOUR.primitives[o], *FOUR.graph.edges[e]) for e, o in chosen.items()}
    strength[min(skips, key=lambda e: strength[e, skip]), skip] = 0


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('most', [0, 1, 2])
def test_at_most_so_many_skips_stay(seed, most):
  strength = probs_of(logits((14, 8), seed) + 1.2 * (np.arange(8) == 3))
  edges, _, notes = cell_of(decodings.capped(most), strength)
  assert sum(edge[0] == 'skip_connect' for edge in edges) <= most
  assert set(edges) == capped_by_hand(strength, most)
  assert bool(notes) == (set(edges) != capped_by_hand(strength, 8))


def test_decodings_never_keep_an_operation_that_is_not_allowed():
  rng = np.random.default_rng(0)
  strength = probs_of(logits((14, 8)))
  allowed = rng.random((14, 8)) < 0.4
  for rule in (
    decodings.strongest_edges(2), decodings.pairs(2), decodings.all_edges(),
    decodings.threshold(0.05), decodings.capped(1),
  ):  # fmt: skip
    edges, _, _ = cell_of(rule, strength, allowed=allowed)
    for name, *edge in edges:
      assert allowed[FOUR.graph.edges.index(tuple(edge)), FOUR.primitives.index(name)]


def test_each_cell_type_may_have_its_own_rule():
  strength = dict.fromkeys(('normal', 'reduce'), probs_of(logits((14, 8))))
  rules = {'normal': decodings.pairs(1), 'reduce': decodings.strongest_edges(2)}
  beta = dict.fromkeys(strength, np.zeros((0, 0), np.float32))
  found, _ = genotype.derive(FOUR, NONE, strength, beta, decoding=rules)
  assert len(found.normal) == 4 and len(found.reduce) == 8
