"""The written forms of genotypes: DARTS' text and JSON, and texts that are neither."""

import collections
import json

import pytest
from helpers import cells
from hypothesis import example, given
from hypothesis import strategies as st

from stretchnas_jax.cells import genotype, zoo

CELL = (('sep_conv_3x3', 0, 2), ('skip_connect', 1, 2), ('max_pool_3x3', 2, 4))
VALID = genotype.Genotype(CELL, (2, 4), CELL, (4,))
DARTS_TEXT = genotype.to_darts_text(zoo.GENOTYPES['DARTS_V1'])
JSON_TEXT = genotype.to_json(VALID)


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


def has_two_inputs_each(found):
  nodes = range(2, 2 + len(found.normal) // 2)
  of = lambda edges: [dst for _, _, dst in edges] == [node for node in nodes for _ in range(2)]
  return of(found.normal) and of(found.reduce)


def test_peers_can_evaluate_darts_text():
  peers = collections.namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')
  regular = {name: found for name, found in zoo.GENOTYPES.items() if has_two_inputs_each(found)}
  assert len(regular) >= 21
  for name, found in regular.items():
    text = genotype.to_darts_text(found)
    theirs = eval(text, {'Genotype': peers, 'range': range})
    assert [op for op, _ in theirs.normal] == [op for op, _, _ in found.normal], name
    assert [src for _, src in theirs.reduce] == [src for _, src, _ in found.reduce], name
    assert tuple(theirs.reduce_concat) == found.reduce_concat, name


def test_darts_text_may_be_spelled_in_several_ways():
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
def test_a_value_that_is_not_a_dict_is_refused(fields):
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
def test_a_value_that_is_not_text_is_refused(text, unchecked):
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
