"""Genotypes: what is one, how it is derived, and its two written forms."""

import collections
import itertools
import json
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stretchnas_jax.cells import decoding, genotype, graph, relaxation, space, topology, zoo

CELL = (('sep_conv_3x3', 0, 2), ('skip_connect', 1, 2), ('max_pool_3x3', 2, 4))
VALID = genotype.Genotype(CELL, (2, 4), CELL, (4,))
DARTS_TEXT = genotype.to_darts_text(zoo.GENOTYPES['DARTS_V1'])
JSON_TEXT = genotype.to_json(VALID)


@st.composite
def cells(draw):
  """Any well-formed cell: skipped numbers, parallel edges, loose ends."""
  nodes = sorted(draw(st.sets(st.integers(2, 9), min_size=1, max_size=5)))
  edges = []
  for position, node in enumerate(nodes):
    for src in draw(st.lists(st.sampled_from([0, 1] + nodes[:position]), min_size=1, max_size=4)):
      edges.append((draw(st.sampled_from(space.OPERATIONS)), src, node))
  concat = draw(st.lists(st.sampled_from(nodes), min_size=1, unique=True))
  return draw(st.permutations(edges)), concat


@given(cells(), cells())
def test_canonical_form(normal, reduce):
  found = genotype.Genotype(*normal, *reduce)
  assert found.normal == tuple(sorted(map(tuple, normal[0]), key=lambda edge: edge[2]))
  assert found.reduce_concat == tuple(reduce[1])
  again = genotype.Genotype(
    [list(edge) for edge in found.normal], list(normal[1]), found.reduce, tuple(reduce[1])
  )
  assert found == again
  assert hash(found) == hash(again)
  assert pickle.loads(pickle.dumps(found)) == found


def test_order_matters_within_a_node_and_in_a_concat():
  swapped = (CELL[1], CELL[0], CELL[2])
  assert genotype.Genotype(swapped, (2, 4), CELL, (4,)) != VALID
  assert genotype.Genotype(CELL, (4, 2), CELL, (4,)) != VALID
  moved = (CELL[2], CELL[0], CELL[1])
  assert genotype.Genotype(moved, (2, 4), CELL, (4,)) == VALID


def test_ranges_and_numpy_numbers():
  edges = [('skip_connect', np.int64(0), np.int32(2))]
  found = genotype.Genotype(edges, range(2, 3), edges, np.array([2]))
  assert found.normal == (('skip_connect', 0, 2),)
  assert all(type(node) is int for node in found.normal_concat + found.reduce_concat)


@pytest.mark.parametrize(
  'edges, concat, words',
  [
    ((), (2,), 'normal is empty'),
    (CELL, (), 'normal_concat is empty'),
    (CELL, (2, 2), 'more than once'),
    (CELL, (0,), 'normal_concat holds 0'),
    (CELL, (3,), 'normal_concat holds 3'),
    (CELL, range(2, 10**12), 'normal_concat holds 3'),
    (CELL, (True,), 'whole numbers'),
    ((('skip_connect', 2, 2),), (2,), 'src must be'),
    ((('skip_connect', -1, 2),), (2,), 'src must be'),
    ((('skip_connect', 0, 1),), (1,), 'dst at least 2'),
    ((('skip_connect', 3, 4),), (4,), 'node 3 has no input'),
    ((('skip_connect', 0, True),), (2,), 'whole numbers'),
    ((('skip_connect', 0.0, 2),), (2,), 'whole numbers'),
    ((('skip_connect', '0', 2),), (2,), 'whole numbers'),
    ((('skip_connect', None, 2),), (2,), 'whole numbers'),
    ((('skip_connect', 0),), (2,), 'an edge is'),
    (('abc',), (2,), 'an edge is'),
    (((None, 0, 2),), (2,), 'the operation must be'),
    ((('', 0, 2),), (2,), 'the operation must be'),
    ((('none', 0, 2),), (2,), 'other than none'),
  ],
)
def test_malformed_cells_are_refused(edges, concat, words):
  check_refused(edges, concat, words)


@pytest.mark.parametrize(
  'edges, concat, words',
  [
    (CELL, (2.0,), 'whole numbers'),
    (CELL, '24', 'must be a list'),
    (CELL, 2, 'must be a list'),
    ({'skip_connect': 0}, (2,), 'must be a list'),
    ((3,), (2,), 'an edge is'),
  ],
)
def test_cells_of_a_wrong_type_are_refused(edges, concat, words, unchecked):
  check_refused(edges, concat, words)


def check_refused(edges, concat, words):
  with pytest.raises(ValueError, match=words):
    genotype.Genotype(edges, concat, CELL, (4,))
  with pytest.raises(ValueError, match=words.replace('normal', 'reduce')):
    genotype.Genotype(CELL, (4,), edges, concat)


# Written forms.


@given(cells(), cells())
def test_json_round_trip(normal, reduce):
  found = genotype.Genotype(*normal, *reduce)
  text = genotype.to_json(found)
  assert genotype.from_json(text) == found
  assert text.isascii()
  plain = json.loads(text)
  assert list(plain) == ['normal', 'normal_concat', 'reduce', 'reduce_concat']
  assert plain['normal'] == [list(edge) for edge in found.normal]
  assert genotype.from_json(json.dumps(plain)) == found
  assert found.to_dict() == plain
  assert genotype.Genotype.from_dict(plain) == found


def test_json_has_an_edge_a_line():
  lines = JSON_TEXT.splitlines()
  assert '    ["sep_conv_3x3", 0, 2],' in lines
  assert '  "normal_concat": [2, 4],' in lines


@given(cells(), cells())
def test_darts_text_round_trip_where_it_can_hold_the_cells(normal, reduce):
  found = genotype.Genotype(*normal, *reduce)

  def fits(edges):
    count = collections.Counter(dst for _, _, dst in edges)
    return count == dict.fromkeys(range(2, len(count) + 2), 2)

  if fits(found.normal) and fits(found.reduce):
    assert genotype.from_darts_text(genotype.to_darts_text(found)) == found
  else:
    with pytest.raises(ValueError, match='exactly two inputs each'):
      genotype.to_darts_text(found)


def test_darts_text_is_what_peers_evaluate():
  peers = collections.namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')
  for name, found in zoo.GENOTYPES.items():
    text = genotype.to_darts_text(found)
    theirs = eval(text, {'Genotype': peers, 'range': range})
    assert [op for op, _ in theirs.normal] == [op for op, _, _ in found.normal], name
    assert [src for _, src in theirs.reduce] == [src for _, src, _ in found.reduce], name
    assert tuple(theirs.reduce_concat) == found.reduce_concat, name


def test_darts_text_in_all_its_spellings():
  pairs = "[('skip_connect', 0), ('skip_connect', 1)]"
  plain = f'Genotype(normal={pairs}, normal_concat=[2], reduce={pairs}, reduce_concat=[2])'
  expected = genotype.from_darts_text(plain)
  assert expected.normal == (('skip_connect', 0, 2), ('skip_connect', 1, 2))
  for text in (
    f'\n  {plain}\t\n',
    plain.replace("'", '"'),
    plain.replace('[2]', 'range(2, 3)'),
    plain.replace('[2]', '[ 2, ]').replace(' ', '\n'),
    plain.replace(' ', ''),
    f'Genotype(reduce_concat=[2], normal_concat=[2], reduce={pairs}, normal={pairs},)',
  ):
    assert genotype.from_darts_text(text) == expected


@pytest.mark.parametrize(
  'old, new',
  [
    ('Genotype', 'genotype'),
    ('Genotype(', 'Genotype(x, '),
    ("('skip_connect', 2)", "('skip_connect', 5)"),
    ("('skip_connect', 2)", "('none', 2)"),
    ("('skip_connect', 2)", "('mine', 2)"),
    ("('skip_connect', 2)", "('skip_connect', -2)"),
    ("('skip_connect', 2)", "('skip_connect', 2.0)"),
    ("('skip_connect', 2)", "('skip_connect', 02)"),
    ("('skip_connect', 2)", "('skip_connect', True)"),
    ("('skip_connect', 2)", "('skip_connect', 2, 3)"),
    ("('skip_connect', 2)", '(skip_connect, 2)'),
    ("('skip_connect', 2)", "('skip_connect' 'x', 2)"),
    ("('skip_connect', 2)", "['skip_connect', 2]"),
    (", ('skip_connect', 2)]", ']'),
    ('normal_concat=range(2, 6)', 'normal_concat=range(2, 7)'),
    ('normal_concat=range(2, 6)', 'normal_concat=range(2, 999999)'),
    ('normal_concat=range(2, 6)', f'normal_concat=range(2, {10**30})'),
    ('normal_concat=range(2, 6)', 'normal_concat=range(6)'),
    ('normal_concat=range(2, 6)', 'normal_concat=range(2, 6, 1)'),
    ('normal_concat=range(2, 6)', 'normal_concat=range(6, 2)'),
    ('normal_concat=range(2, 6)', 'normal_concat=2'),
    ('normal_concat=range(2, 6)', 'normal_concat=[2, 3]+[4]'),
    ('normal_concat=range(2, 6)', 'normal_concat=[2,, 3]'),
    (', normal_concat=range(2, 6)', ''),
    ('normal_concat', 'normal'),
    ('normal_concat', 'concat'),
    ('normal_concat=', 'normal_concat:'),
    (')]', ')'),
  ],
)
def test_broken_darts_texts(old, new):
  broken = DARTS_TEXT.replace(old, new)
  assert broken != DARTS_TEXT
  with pytest.raises(ValueError):
    genotype.from_darts_text(broken)
  for text in (DARTS_TEXT + ')', DARTS_TEXT + ' ' + DARTS_TEXT, DARTS_TEXT[:-1], '# ' + DARTS_TEXT):
    with pytest.raises(ValueError):
      genotype.from_darts_text(text)


@pytest.mark.parametrize(
  'old, new, words',
  [
    ('"sep_conv_3x3"', '"none"', 'none'),
    ('"sep_conv_3x3"', '"mine"', "'mine' is unknown"),
    ('"sep_conv_3x3"', '3', 'operation'),
    ('0, 2]', '0.0, 2]', 'whole numbers'),
    ('0, 2]', '0, 2e0]', 'whole numbers'),
    ('0, 2]', 'false, 2]', 'whole numbers'),
    ('0, 2]', 'null, 2]', 'whole numbers'),
    ('0, 2]', 'NaN, 2]', 'NaN'),
    ('0, 2]', '-Infinity, 2]', 'Infinity'),
    ('0, 2]', '"0", 2]', 'whole numbers'),
    ('0, 2]', '[0], 2]', 'deeper'),
    ('0, 2]', '0, 2, 3]', 'an edge is'),
    ('0, 2]', f'0, {"9" * 5000}]', 'digits'),
    ('"normal": [', '"normal": {', 'JSON'),
    ('[2, 4]', '{"2": 4}', 'must be a list'),
    ('[2, 4]', '"24"', 'must be a list'),
    ('[2, 4]', 'null', 'must be a list'),
    ('[2, 4]', '[]', 'empty'),
    ('"normal_concat": [2, 4],', '', 'normal_concat is missing'),
    ('"normal_concat": [2, 4],', '"normal_concat": [2, 4], "x": 1,', "'x' is unknown"),
    ('"normal_concat": [2, 4],', '"normal_concat": [2], "normal_concat": [2, 4],', 'repeated'),
    ('"normal_concat": [2, 4],', '"normal_concat": [2, 4] ', 'JSON'),
  ],
)
def test_broken_json_texts(old, new, words):
  broken = JSON_TEXT.replace(old, new)
  assert broken != JSON_TEXT
  with pytest.raises(ValueError, match=words):
    genotype.from_json(broken)


@pytest.mark.parametrize(
  'field, value, words',
  [
    ('normal', 3, 'normal is 3; it must be a list'),
    ('normal', [['mine', 0, 2], ['mine', 0, 4]], "'mine' is unknown"),
    ('normal', [['skip_connect', 0.0, 2]], 'whole numbers'),
    ('reduce_concat', None, 'reduce_concat is None; it must be a list'),
    ('normal_concat', [3], 'normal_concat holds 3'),
    ('extra', [], "'extra' is unknown"),
  ],
)
def test_broken_dicts(field, value, words):
  with pytest.raises(ValueError, match=words):
    genotype.Genotype.from_dict({**VALID.to_dict(), field: value})


@pytest.mark.parametrize('fields', [None, 3, [], 'normal'])
def test_no_dict_is_no_genotype(fields):
  with pytest.raises(ValueError, match='it must be an object'):
    genotype.Genotype.from_dict(fields)


def test_a_dict_without_a_field_is_refused():
  fields = VALID.to_dict()
  del fields['reduce']
  with pytest.raises(ValueError, match='reduce is missing'):
    genotype.Genotype.from_dict(fields)


HOSTILE = [
  '',
  '   ',
  'null',
  '[]',
  '{}',
  '"normal"',
  '\ufeff' + JSON_TEXT,
  '\x00',
  '[' * 100_000,
  '{"normal":' * 9_000,
  '(' * 100_000,
  'Genotype(' * 10_000,
  'Genotype(normal=' + '[' * 90_000,
  '-' * 100_000,
  '9' * 100_000,
  '"' * 99_999,
  '\\"' * 50_000,
  "'" * 99_999,
  ' ' * 5_000_000,
  JSON_TEXT + ' ' * 100_000,
  DARTS_TEXT + ' ' * 100_000,
  '"\\ud800"',
  'Genotype(normal=[], normal_concat=[], reduce=[], reduce_concat=[])',
  '__import__("os").getcwd()',
]


@pytest.mark.parametrize('text', [None, b'{}'])
def test_no_text_is_no_genotype(text, unchecked):
  check_unreadable(text)


@pytest.mark.parametrize('text', HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts(text):
  check_unreadable(text)


def check_unreadable(text):
  for read in (genotype.from_json, genotype.from_darts_text):
    with pytest.raises(ValueError) as caught:
      read(text)
    assert len(str(caught.value)) < 400
    str(caught.value).encode()


@given(st.text(max_size=60) | st.text('{}[]()"\',:=0123456789 \\', max_size=60))
@example('range')
def test_any_text_is_a_genotype_or_a_value_error(text):
  for read in (genotype.from_json, genotype.from_darts_text):
    with pytest.raises(ValueError):
      read(text)


@pytest.mark.parametrize('form', ['json', 'darts'])
@given(st.data())
def test_mutated_texts(form, data):
  text = JSON_TEXT if form == 'json' else DARTS_TEXT
  read = genotype.from_json if form == 'json' else genotype.from_darts_text
  for _ in range(data.draw(st.integers(1, 3))):
    start = data.draw(st.integers(0, len(text)))
    end = start + data.draw(st.integers(0, 6))
    piece = data.draw(st.sampled_from(['', '0', '9', ',', '[', ')', '"', "'", 'x', '1e9', '(2,']))
    text = text[:start] + piece + text[end:]
  try:
    found = read(text)
  except ValueError:
    return
  assert genotype.from_json(genotype.to_json(found)) == found


def test_operations_of_your_own():
  edges = (('mine', 0, 2), ('skip_connect', 1, 2))
  own = genotype.Genotype(edges, (2,), edges, (2,))
  text, darts_text = genotype.to_json(own), genotype.to_darts_text(own)
  assert genotype.from_json(text, operations=('mine',)) == own
  assert genotype.from_darts_text(darts_text, operations=('mine',)) == own
  for read, written in ((genotype.from_json, text), (genotype.from_darts_text, darts_text)):
    with pytest.raises(ValueError, match='mine'):
      read(written)
  quoted = genotype.Genotype((("it's", 0, 2), ('x', 1, 2)), (2,), edges, (2,))
  assert genotype.from_json(genotype.to_json(quoted), operations=("it's", 'x', 'mine')) == quoted
  with pytest.raises(ValueError, match='cannot hold'):
    genotype.to_darts_text(quoted)


# Derivation.


def draw_arch(seed, search_space, table, spread=1.0):
  rng = np.random.default_rng(seed)
  shape = len(search_space.graph.edges), search_space.num_operations
  alpha = rng.normal(size=shape).astype(np.float32)
  return alpha, (rng.normal(size=table.mask.shape) * spread).astype(np.float32)


def softmax_strength(alpha):
  return relaxation.softmax().strength(alpha, {})


def reached_from_inputs(edges):
  reached, before = {0, 1}, None
  while reached != before:
    before = set(reached)
    reached |= {dst for src, dst in edges if src in reached}
  return reached - {0, 1}


def code_edges(search_space, code):
  return [edge for edge, bit in zip(search_space.graph.edges, code) if bit]


def combinations(search_space, table, beta):
  """Every choice of a code per row: `(joint logit, edges)`."""
  options = [np.flatnonzero(mask) for mask in table.mask]
  for chosen in itertools.product(*options):
    logit = sum(float(beta[r, k]) for r, k in enumerate(chosen))
    edges = [e for r, k in enumerate(chosen) for e in code_edges(search_space, table.codes[r, k])]
    yield logit, edges


def check_cell(search_space, alpha, edges, concat, expected):
  """The derived edges are the expected ones, less what no input reaches, with the best ops."""
  reached = reached_from_inputs(expected)
  assert concat == tuple(sorted(reached))
  kept = sorted((edge for edge in expected if edge[0] in reached | {0, 1}), key=lambda e: e[::-1])
  assert [edge[1:] for edge in edges] == kept
  for op, src, dst in edges:
    row = dict(zip(search_space.primitives, alpha[search_space.graph.edges.index((src, dst))]))
    row.pop('none', None)
    assert row[op] == max(row.values())


TABLES = {
  'subsets': topology.output_subsets,
  'output_pairs': topology.output_pairs,
  'input_pairs': topology.input_pairs,
  'in_3': lambda g: topology.k_subsets(g, 3, by='target'),
}


@pytest.mark.parametrize('kind', TABLES)
@pytest.mark.parametrize('with_none', [False, True])
@given(seed=st.integers(0, 2**31))
def test_derived_cell(kind, with_none, seed):
  own = space.darts_space(3, with_none=with_none)
  table = TABLES[kind](own.graph)
  alpha, beta = draw_arch(seed, own, table)
  valid = [choice for choice in combinations(own, table, beta) if reached_from_inputs(choice[1])]
  _, expected = max(valid, key=lambda choice: choice[0])
  edges, concat, notes = decoding.derive_cell(own, table, alpha, beta)
  check_cell(own, alpha, edges, concat, expected)
  assert bool(notes) == (len(concat) < 3 or max(combinations(own, table, beta))[1] != expected)


@given(seed=st.integers(0, 2**31))
def test_repair_takes_the_most_probable_choice_that_leaves_a_node(seed):
  own = space.darts_space(2)
  table = topology.output_subsets(own.graph)
  alpha, beta = draw_arch(seed, own, table)
  empty = table.mask & ~(table.codes > 0).any(-1)
  beta = np.where(empty & (np.arange(3) < 2)[:, None], beta + 9, beta)
  edges, concat, notes = decoding.derive_cell(own, table, alpha, beta)
  choices = list(combinations(own, table, beta))
  assert not reached_from_inputs(max(choices)[1])
  _, expected = max((c for c in choices if reached_from_inputs(c[1])), key=lambda c: c[0])
  check_cell(own, alpha, edges, concat, expected)
  assert 'next best' in notes[0]


def test_repair_is_impossible_without_an_edge_from_an_input():
  own = space.darts_space(2)
  code = np.array([[[edge == (2, 3) for edge in own.graph.edges]]], np.float32)
  table = topology.TopologyTable(code, np.ones((1, 1), bool), code[0, 0])
  with pytest.raises(ValueError, match='edge from an input'):
    decoding.derive_cell(own, table, np.zeros((5, 7)), np.zeros((1, 1)))


def chosen_codes(search_space, table, wanted):
  """Logits that choose the wanted out-edges of every source."""
  beta = np.zeros(table.mask.shape, np.float32)
  for r, k in itertools.product(*map(range, table.mask.shape)):
    edges = code_edges(search_space, table.codes[r, k])
    beta[r, k] = table.mask[r, k] and set(edges) == {edge for edge in wanted if edge[0] == r}
  return beta


def test_pruning_is_iterative_and_said():
  own = space.darts_space(4)
  table = topology.output_subsets(own.graph)
  wanted = [(0, 2), (3, 4), (4, 5), (3, 5), (2, 5)]
  beta = chosen_codes(own, table, wanted)
  edges, concat, notes = decoding.derive_cell(own, table, np.zeros((14, 7)), beta)
  assert [edge[1:] for edge in edges] == [(0, 2), (2, 5)]
  assert concat == (2, 5)
  assert notes == ('no input reaches nodes 3, 4, which were pruned with 3->4, 3->5, 4->5',)


def test_a_node_with_an_input_and_no_outputs_stays():
  own = space.darts_space(3)
  table = topology.output_subsets(own.graph)
  beta = chosen_codes(own, table, [(0, 2), (1, 3), (0, 4)])
  _, concat, notes = decoding.derive_cell(own, table, np.zeros((9, 7)), beta)
  assert concat == (2, 3, 4)
  assert notes == ()


@pytest.mark.parametrize('by', ['target', 'source'])
@pytest.mark.parametrize('with_none', [False, True])
@given(seed=st.integers(0, 2**31))
def test_darts_rule(by, with_none, seed):
  own = space.darts_space(4, with_none=with_none)
  table = topology.none(own.graph, by=by)
  alpha, beta = draw_arch(seed, own, table)
  strength = {}
  for edge, row in zip(own.graph.edges, alpha.astype(np.float64)):
    total = sum(np.exp(row))
    strength[edge] = max(
      np.exp(value) / total for name, value in zip(own.primitives, row) if name != 'none'
    )
  expected = []
  for node in range(6):
    mine = [edge for edge in own.graph.edges if edge[by == 'target'] == node]
    # The last node but one has a single out-edge: no pair of them.
    if len(mine) >= 2:
      expected += sorted(mine, key=lambda edge: -strength[edge])[:2]
  assert len(expected) == 8
  edges, concat, notes = decoding.derive_cell(own, table, softmax_strength(alpha), beta)
  check_cell(own, alpha, edges, concat, expected)
  if by == 'target':
    assert [dst for _, _, dst in edges] == [2, 2, 3, 3, 4, 4, 5, 5]
    assert concat == (2, 3, 4, 5)
    assert notes == ()


def test_none_counts_in_the_denominator():
  """Edge 0 -> 3 has the largest logit, but its weight goes to `none`."""
  own = space.darts_space(2, with_none=True)
  alpha = np.zeros((5, 8))
  alpha[2, :2] = [9.0, 5.0]
  strength = softmax_strength(alpha)
  assert decoding.top_k(own, strength).tolist() == [True, True, False, True, True]
  kept = decoding.top_k(own, strength, k=1, by='source')
  assert kept.tolist() == [True, True, False, False, True]


def test_edges_are_ranked_by_strength_and_by_nothing_else():
  """Gates that do not compete: the sigmoid ranks these edges unlike a softmax of the logits."""
  own = space.SearchSpace(graph.CellGraph(2), ('skip_connect', 'max_pool_3x3'))
  alpha = np.zeros((5, 2))
  alpha[2], alpha[3], alpha[4] = (3, 3.2), (1, -9), (9, 9)  # the edges into node 3
  gates = 1 / (1 + np.exp(-alpha))
  table = topology.none(own.graph)
  edges, _, _ = decoding.derive_cell(own, table, gates, None)
  assert ('max_pool_3x3', 0, 3) in edges and len(edges) == 4
  assert not any((src, dst) == (1, 3) for _, src, dst in edges)
  edges, _, _ = decoding.derive_cell(own, table, softmax_strength(alpha), None)
  assert ('skip_connect', 1, 3) in edges


@pytest.mark.parametrize('k, edges', [(1, 4), (2, 8), (3, 11)])
def test_a_table_without_rows_says_how_many_edges_stay(k, edges):
  own = space.darts_space(4, with_none=True)
  alpha = np.random.default_rng(k).normal(size=(14, 8))
  strength = softmax_strength(alpha)
  kept, _, _ = decoding.derive_cell(own, topology.none(own.graph, k=k), strength, None)
  counts = [sum(dst == node for _, _, dst in kept) for node in range(2, 6)]
  assert counts == [min(k, node) for node in range(2, 6)] and len(kept) == edges
  with pytest.raises(ValueError, match='k is 6; by target'):
    topology.none(own.graph, k=6)


def test_top_k_keeps_the_first_of_equal_edges_and_all_where_few():
  own = space.darts_space(3)
  kept = decoding.top_k(own, np.zeros((9, 7)), k=3)
  assert kept.tolist() == [True] * 5 + [True, True, True, False]


def test_derive_whole_genotype():
  own = space.darts_space(4)
  table = topology.output_subsets(own.graph)
  beta = {
    'normal': jnp.asarray(chosen_codes(own, table, [(0, 2), (2, 3), (0, 4), (1, 5)])),
    'reduce': jnp.asarray(chosen_codes(own, table, [(1, 4), (4, 5), (2, 5)])),
  }
  strength = {'normal': jnp.zeros((14, 7)).at[:, 3].set(1), 'reduce': jnp.zeros((14, 7))}
  found, notes = genotype.derive(own, table, strength, beta)
  assert found.normal == tuple(('sep_conv_3x3', *edge) for edge in [(0, 2), (2, 3), (0, 4), (1, 5)])
  assert found.reduce == (('max_pool_3x3', 1, 4), ('max_pool_3x3', 4, 5))
  assert (found.normal_concat, found.reduce_concat) == ((2, 3, 4, 5), (4, 5))
  assert notes == ('reduce cell: no input reaches nodes 2, 3, which were pruned with 2->5',)
  assert genotype.from_json(genotype.to_json(found)) == found


@pytest.mark.parametrize(
  'change, words',
  [
    ({'strength': np.zeros((14, 8))}, 'strength has the shape'),
    ({'beta': np.zeros((5, 15))}, 'beta has the shape'),
    ({'strength': np.full((14, 7), np.nan)}, 'strength holds a value that is not finite'),
    ({'strength': softmax_strength(np.full((14, 7), np.inf))}, 'strength holds a value'),
    ({'beta': np.full((5, 16), np.inf)}, 'beta holds a value that is not finite'),
  ],
)
def test_what_cannot_be_derived_from(change, words):
  own = space.darts_space(4)
  values = {'strength': np.zeros((14, 7)), 'beta': np.zeros((5, 16))} | change
  with pytest.raises(ValueError, match=words):
    decoding.derive_cell(own, topology.output_subsets(own.graph), **values)


# Depth, width, summary.


@given(cells())
def test_depth(cell):
  edges = genotype.Genotype(*cell, *cell).normal

  def longest_to(node):
    return max((1 + longest_to(src) for _, src, dst in edges if dst == node), default=0)

  assert genotype.depth(edges) == max(longest_to(dst) for _, _, dst in edges)


@pytest.mark.parametrize(
  'name, depth, width',
  [('SNAS_mild', 1, 4), ('DARTS_V2', 2, 3.5), ('GDAS_V1', 4, 2), ('NASNet-A', 1, 5)],
)
def test_depth_and_width_of_published_cells(name, depth, width):
  found = zoo.GENOTYPES[name]
  assert genotype.depth(found.normal) == depth
  assert genotype.width(found.normal, found.normal_concat) == width


def test_summary():
  found = genotype.Genotype(CELL, (2, 4), (('mine', 1, 3),), (3,))
  assert genotype.summary(found).splitlines() == [
    'normal  2=sep3(0)+skip(1)  4=max(2)  out=2,4  depth 2  width 1',
    'reduce  3=mine(1)  out=3  depth 1  width 1',
  ]


def test_graph_of_a_genotype_fits_its_space():
  own = space.SearchSpace(graph.CellGraph(2), ('mine', 'none', 'other'))
  alpha = np.array([[0.0, 9.0, 1.0]] * 5)
  edges, _, _ = decoding.derive_cell(own, topology.none(own.graph), alpha, np.zeros((0, 0)))
  assert {op for op, _, _ in edges} == {'other'}
