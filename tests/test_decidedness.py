"""How decided a search is, by hand-made scores, and the lines that its course crosses."""

import re

import jax
import numpy as np
import pytest

from stretchnas_jax.cells import (
  choices,
  decidedness,
  genotype,
  relaxation,
  search_course,
  topology,
)
from stretchnas_jax.cells.choices import CLEAR, EDGES, OPERATION, Choice
from stretchnas_jax.cells.decidedness import Judgement
from stretchnas_jax.cells.search_course import Epoch
from stretchnas_jax.cells.space import CELL_TYPES, darts_space, nas_bench_201

SPACE = darts_space(3)
TABLES = {
  'output_subsets': topology.output_subsets(SPACE.graph),
  'input_pairs': topology.input_pairs(SPACE.graph),
  'none': topology.none(SPACE.graph),
}


def scores(table, seed=0, size=1.0):
  keys = iter(jax.random.split(jax.random.key(seed), 4))
  shape = (len(SPACE.graph.edges), SPACE.num_operations)
  alpha = {c: size * jax.random.normal(next(keys), shape) for c in CELL_TYPES}
  strength = {c: np.asarray(relaxation.softmax().strength(alpha[c], {})) for c in CELL_TYPES}
  beta = {c: np.asarray(size * jax.random.normal(next(keys), table.mask.shape)) for c in CELL_TYPES}
  return strength, beta


def judged(kind, size, strength=None):
  table = TABLES[kind]
  made, beta = scores(table, size=size)
  cell, _ = genotype.derive(SPACE, table, made, beta)
  edge_scores = {c: np.asarray(topology.edge_scores(beta[c], table)) for c in CELL_TYPES}
  args = (SPACE.graph.edges, SPACE.primitives, table, strength or made, edge_scores, beta)
  return decidedness.judge(*args, {c: getattr(cell, c) for c in CELL_TYPES}), cell


@pytest.mark.parametrize('kind', TABLES)
def test_scores_at_their_start_are_ties_and_large_ones_are_decided(kind):
  start, cell = judged(kind, 1e-3)
  assert start.decided == 0 and len(start.ties) == len(start.choices)
  assert len(start.of(OPERATION)) == len(cell.normal) + len(cell.reduce)
  assert start.of(EDGES)
  end, _ = judged(kind, 100.0)
  assert all(choice.decided for choice in end.of(OPERATION)) and end.margin > 0.9
  # DARTS' rule compares the best operations of edges, and of decided edges these are all near 1.
  assert all(choice.tied for choice in end.of(EDGES)) == (kind == 'none')
  assert 'not decided' in decidedness.verdict(start)


def test_the_winner_of_a_choice_is_that_of_the_cell():
  found, cell = judged('output_subsets', 1.0)
  ops = {(c, f'{src}->{dst}'): op for c in CELL_TYPES for op, src, dst in getattr(cell, c)}
  assert {(c.cell, c.place): c.first for c in found.of(OPERATION)} == ops
  assert all(c.margin >= 0 for c in found.choices)
  out_of = {(src, dst) for _, src, dst in cell.normal}
  for choice in found.of(EDGES):
    if choice.cell == 'normal':
      source = int(choice.place.removeprefix('out of node '))
      ends = [int(end) for end in choice.first.split(', ') if end != 'no edge']
      assert {(source, end) for end in ends} == {edge for edge in out_of if edge[0] == source}


def test_code_shares_are_those_of_the_search():
  table = TABLES['output_subsets']
  beta = scores(table)[1]['normal']
  expected = topology.code_probs(beta, table)
  np.testing.assert_allclose(choices.code_shares(beta, table), expected, atol=1e-6)


def test_without_codes_the_weakest_input_has_the_strongest_lost_one_as_its_rival():
  edges, names = SPACE.graph.edges, ('skip_connect', 'sep_conv_3x3')
  strength = np.array([[0.1, 0.9], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7], [0.4, 0.6],
                       [0.4, 0.6], [0.35, 0.65], [0.1, 0.9], [0.45, 0.55]])  # fmt: skip
  cell = [('sep_conv_3x3', *edges[e]) for e in (0, 1, 3, 4, 6, 7)]
  both = lambda value: dict.fromkeys(CELL_TYPES, value)
  found = decidedness.judge(
    edges, names, TABLES['none'], both(strength), both(np.ones(9)), both(np.zeros((0, 0))),
    both(cell),
  )  # fmt: skip
  entries = [choice for choice in found.of(EDGES) if choice.cell == 'normal']
  assert entries == [
    Choice('normal', EDGES, 'into node 3', '2', '0', 0.6, 0.5),
    Choice('normal', EDGES, 'into node 4', '1', '0', 0.65, 0.6),
  ]
  assert [choice.tied for choice in entries] == [False, True]


def test_strengths_of_layers_are_averaged_and_others_become_shares():
  layers = np.array([[[0.5, 0.3, 0.2]], [[0.1, 0.5, 0.4]]])
  np.testing.assert_allclose(choices.shares_of(layers), [[0.3, 0.4, 0.3]])
  logits = np.array([[0.0, 2.0, -1.0]])
  expected = np.exp(logits) / np.exp(logits).sum()
  np.testing.assert_allclose(choices.shares_of(logits), expected)


def test_none_is_a_rival_where_an_edge_goes_because_it_is_strongest():
  space, names = nas_bench_201(), ('none', 'a', 'b')
  edges = space.graph.edges
  # Edge by edge: kept by little, lost by little, kept clearly, lost clearly.
  ways = {(0, 1): [0.39, 0.4, 0.21], (0, 2): [0.4, 0.21, 0.39], (0, 3): [0.1, 0.8, 0.1],
          (1, 2): [0.8, 0.1, 0.1], (1, 3): [0.1, 0.2, 0.7], (2, 3): [0.5, 0.3, 0.2]}  # fmt: skip
  strength = np.array([ways[edge] for edge in edges])
  best = {edge: names[int(np.argmax(row))] for edge, row in ways.items()}
  cell = [(op, *edge) for edge, op in best.items() if op != 'none']
  args = (edges, names, topology.none(space.graph), {'normal': strength})
  zeros = {'normal': np.zeros((0, 0))}, {'normal': cell}
  found = decidedness.judge(*args, {'normal': np.ones(6)}, *zeros)
  by_place = {choice.place: choice for choice in found.choices}
  # No input reaches node 2, so that its out-edge is no choice.
  assert by_place == {
    '0->1': Choice('normal', OPERATION, '0->1', 'a', 'none', 0.4, 0.39),
    '0->3': Choice('normal', OPERATION, '0->3', 'a', 'none', 0.8, 0.1),
    '1->3': Choice('normal', OPERATION, '1->3', 'b', 'a', 0.7, 0.2),
    '0->2': Choice('normal', EDGES, '0->2', 'none', 'b', 0.4, 0.39),
    '1->2': Choice('normal', EDGES, '1->2', 'none', 'a', 0.8, 0.1),
  }
  assert {choice.place for choice in found.ties} == {'0->1', '0->2'}
  # With a cell of another rule, `none` is no rival.
  other = decidedness.judge(*args, {'normal': np.ones(6)}, zeros[0], {'normal': cell[:2]})
  assert all('none' not in (choice.first, choice.second) for choice in other.choices)


def test_an_operation_without_a_rival_is_decided():
  choice = Choice('normal', OPERATION, '0->2', 'a', '', 0.2, 0.0)
  assert choice.decided and not choice.tied
  against = choice._replace(second='b', rival=0.3)  # a rule took a weaker one
  assert not against.decided and against.tied and against.margin < 0


def test_sentences_name_the_closest_ties():
  tie = Choice('normal', OPERATION, '0->2', 'sep_conv_3x3', 'skip_connect', 0.164, 0.155)
  clear = tie._replace(place='1->2', rival=0.164 - CLEAR - 0.01)
  text = ' '.join(decidedness.sentences(Judgement((tie, clear))))
  assert '1 of 2 choices are decided (50%)' in text
  assert '1 near tie: normal 0->2: sep_conv_3x3 0.164, skip_connect 0.155' in text
  assert 'decided in part' in text
  assert 'no choice is a near tie' in ' '.join(decidedness.sentences(Judgement((clear,))))
  assert decidedness.sentences(Judgement(()))


# ---- the course ----------------------------------------------------------------------------------

CONV = [['sep_conv_3x3', 0, 2], ['sep_conv_3x3', 1, 2]]
SKIPS = [['skip_connect', 0, 2], ['skip_connect', 1, 2]]


def cell_of(normal, reduce=None):
  return {'normal': normal, 'reduce': CONV if reduce is None else reduce}


def test_changes_of_a_cell_are_counted_and_listed():
  before = cell_of([*CONV, ['max_pool_3x3', 0, 3]])
  after = cell_of([CONV[0], ['skip_connect', 1, 2], ['skip_connect', 2, 3]])
  found = search_course.changes(before, after)
  assert search_course.counted(found) == '+1 -1 ~1'
  short = {'sep_conv_3x3': 'sep3', 'skip_connect': 'skip'}
  assert search_course.listed(found, short) == ('normal 1->2 sep3 > skip, -0->3, +2->3 skip',)
  assert search_course.counted(search_course.changes(after, after)) == '='


def course(count, **last):
  made = [Epoch(i + 1, 20, cell_of(CONV), penalty=0.0) for i in range(count)]
  return [*made[:-1], made[-1]._replace(**last)]


@pytest.mark.parametrize(
  'count, last, words',
  [
    (3, {'cell': cell_of(SKIPS)}, 'skip connections take over: 2 of 2 edges'),
    (11, {}, 'not changed for 10 epochs'),
    (3, {'penalty': 0.5}, r'r\(beta\) has left 0: it is 0.5'),
    (12, {'cell': cell_of(CONV, SKIPS), 'accuracy': 0.9, 'cell_accuracy': 0.3}, 'on 30.0%'),
    (12, {'cell': cell_of(CONV, SKIPS), 'judgement': judged('none', 1e-3)[0]}, 'depends on chance'),
  ],
)
def test_a_line_is_crossed_once(count, last, words):
  made = course(count, **last)
  (sentence,) = search_course.crossed(made)
  assert re.search(words, sentence)
  again = [*made, made[-1]._replace(epoch=count + 1)]
  assert sentence in search_course.warnings(made).values()
  assert sentence not in search_course.crossed(again)


def test_a_quiet_course_has_no_warning():
  assert search_course.warnings([]) == {} and search_course.crossed([]) == ()
  assert search_course.warnings(course(5)) == {}


def test_a_space_with_one_input_and_one_type_of_cell_is_judged():
  space = nas_bench_201()
  table = topology.output_subsets(space.graph)
  draw = np.random.default_rng(0)
  strength = {'normal': draw.dirichlet(np.ones(space.num_operations), 6)}
  beta = {'normal': draw.normal(size=table.mask.shape)}
  kept = np.asarray(topology.select(beta['normal'], table))
  edges = [edge for edge, stays in zip(space.graph.edges, kept) if stays]
  reached = [(src, dst) for src, dst in edges if src == 0 or any(e[1] == src for e in edges)]
  found = decidedness.judge(
    space.graph.edges, space.primitives, table, strength, {'normal': np.ones(6)}, beta,
    {'normal': [('nor_conv_3x3', *edge) for edge in reached]},
  )  # fmt: skip
  assert {choice.cell for choice in found.choices} == {'normal'}
  assert len(found.of(OPERATION)) == len(reached)
