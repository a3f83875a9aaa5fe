"""Genotypes among other text: files of many, logs, quotation marks, hostile texts."""

import json
import random
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stretchnas_jax.cells import genotype, zoo

V1, V2 = zoo.GENOTYPES['DARTS_V1'], zoo.GENOTYPES['DARTS_V2']
TEXT, OLDER = genotype.to_darts_text(V2), genotype.to_darts_text(V1)
FILE = f"""
from collections import namedtuple

Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')

PRIMITIVES = ['none', 'max_pool_3x3']

DARTS_V1 = {OLDER}
DARTS_V2: Genotype = \\
  {TEXT.replace('normal_concat', '  # the normal cell' + chr(10) + '  normal_concat')}

DARTS = DARTS_V2
"""


@pytest.mark.parametrize(
  'text',
  [
    f'DARTS_V2 = {TEXT}',
    f'genotypes.{TEXT}',
    f'arch = gt.{TEXT};',
    '\ufeff' + TEXT,
    f'The cell is\n\n```python\n{TEXT}\n```\n\nas in the paper.',
    f'~~~\n{TEXT}\n~~~',
    f'`{TEXT}`',
    f'>>> {TEXT}',
    f'> {TEXT}',
    f'# the second\n{TEXT}  # a comment\n',
    TEXT.replace(', (', ',\n  # next\n  ('),
    TEXT.replace(', normal_concat', ', \\\n normal_concat'),
    TEXT.replace('\n', '\r\n'),
    TEXT.replace("'", '"'),
    TEXT.replace("'", '’'),
    TEXT.replace("('", '(“').replace("',", '”,'),
    TEXT.replace("'", ''),
    TEXT.replace("'", "\\'"),
    TEXT.replace("('", "(u'"),
    TEXT.replace("'", '&#39;'),
    json.dumps(TEXT),
    repr(TEXT),
    TEXT.replace('range(2, 6)', 'list(range(2, 6))'),
    TEXT.replace('range(2, 6)', '[2, 3, 4, 5]'),
    TEXT.replace('range(2, 6)', '(2, 3, 4, 5,)'),
    TEXT.replace('range(2, 6)', '[*range(2, 6)]'),
    TEXT.replace('range(2, 6)', 'range(2 + 4 - 4, 4 + 2)'),
    TEXT.replace('range(2, 6)', 'np.arange(2, 6)'),
    TEXT.replace('range(2, 6)', '[np.int64(2), 3] + [4, 5]'),
    f'dict({TEXT[len("Genotype(") : -1]})',
    f'\x1b[32m2026-01-02 03:04:05,678\x1b[0m INFO genotype = {TEXT}',
    f'epoch 1\ngenotype = {OLDER}\nepoch 2\ngenotype = {TEXT}\nvalid_acc 97.1',
    f'01/02 03:04:05 PM genotype = {OLDER}\n01/02 03:09:05 PM genotype = {TEXT}\n',
    '\n'.join(json.dumps({'epoch': i, 'genotype': g.to_dict()}) for i, g in enumerate((V1, V2))),
    json.dumps({'cells': [{'outputs': [{'text': ['epoch 1\n', f'genotype = {TEXT}\n']}]}]}),
    f'x = {TEXT}\ny = {TEXT.replace("sep_conv", "x")[:90]}',
  ],
)
def test_a_genotype_is_found_in_what_people_have(text):
  assert genotype.read(text) == V2


def test_of_a_log_the_last_whole_genotype_is_read():
  log = f'genotype = {OLDER}\ngenotype = {TEXT}\ngenotype = {TEXT[:99]}'
  read = genotype.read_form(log)
  assert read.genotype == V2
  assert read.notes == ('the last of 2 in the text', '1 after it cannot be read')


def test_of_several_named_genotypes_one_is_chosen():
  assert genotype.read(FILE, 'DARTS_V2') == genotype.read(FILE, 'DARTS') == V2
  assert genotype.read(FILE, 'DARTS_V1') == V1
  with pytest.raises(ValueError, match='there are 2 genotypes, DARTS_V1, DARTS_V2: choose one by'):
    genotype.read(FILE)
  with pytest.raises(ValueError, match="is called 'DARTS_V3'; did you mean DARTS_V2?"):
    genotype.read(FILE, 'DARTS_V3')
  both = [{'name': 'one', **V1.to_dict()}, {'name': 'two', **V2.to_dict()}]
  assert genotype.read(json.dumps(both), 'two') == V2
  assert genotype.read(json.dumps({'one': V1.to_dict(), 'two': V2.to_dict()}), 'one') == V1
  with pytest.raises(ValueError, match='there are 2 genotypes, one, two'):
    genotype.read(json.dumps(both))
  assert genotype.read(f'mine = {TEXT}', 'mine') == V2


def test_a_message_lists_at_most_eight_names():
  text = '\n'.join(f'CELL_{i} = {TEXT}' for i in range(12))
  with pytest.raises(ValueError, match='CELL_6 and 5 more: choose') as error:
    genotype.read(text)
  assert 'CELL_7' not in str(error.value)


def test_the_strict_readers_stay_strict():
  for text in (f'a = {TEXT}', TEXT.replace("'", ''), '# c\n' + TEXT, '\ufeff' + TEXT):
    assert genotype.read(text) == V2
    with pytest.raises(ValueError):
      genotype.from_darts_text(text)
  for text in ('\ufeff' + genotype.to_json(V2), f'```\n{genotype.to_json(V2)}```'):
    assert genotype.read(text) == V2
    with pytest.raises(ValueError):
      genotype.from_json(text)


# ---- hostile texts -------------------------------------------------------------------------------

SIZE = 15_000
HOSTILE = [
  '[', '(', '{', '{"normal":', 'Genotype(', '9', '"', "'", '-', '\\', '#', ' ', '\n', 'a', 'a ',
  'a.', 'a = ', "{'normal", 'Genotype(normal=[', 'Genotype(normal=' + '[(', '> ', '`', '```\n',
  'a = Genotype(1,\n', 'Genotype(1)\n', '\x1b[', '&#', '{1:', '*', 'range(', '<', '+', '“',
  '\ud800', "{'normal': {'normal': ", '\x00', ', Value: ', 'edge_normal_0, Value: a\n', '|a~0|',
  'a = b\n', '[1]+', '1+',
]  # fmt: skip


@pytest.mark.parametrize('part', HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_is_refused_soon(part):
  start = time.perf_counter()
  with pytest.raises(ValueError) as error:
    genotype.read(part * (SIZE // len(part)))
  assert len(str(error.value)) < 500
  assert time.perf_counter() - start < 20  # on a busy machine; it takes less than a second


def test_too_long_a_text_and_no_text_are_refused(unchecked):
  with pytest.raises(ValueError, match='has 8000001 characters'):
    genotype.read(' ' * 8_000_001)
  for value in (None, b'Genotype()', 3):
    with pytest.raises(ValueError, match='is read from text'):
      genotype.read(value)


PIECES = ['Genotype(', 'normal=', 'reduce=', 'normal_concat=', 'range(2, 6)', "('skip_connect', 0)"]
PIECES += ['[', ']', '(', ')', '{', '}', ',', ':', '=', "'", '"', '1', '-1', 'None', '\n', '#', '*']
PIECES += ["'normal/op_2_0'", "'normal_n2_p0'", "'edge_normal_0'", 'dict(', 'x = ', '+', TEXT, FILE]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(''.join) | st.text(max_size=200))
@example('Genotype(normal={}, reduce={})')
@example('{"normal": {"2": [[]]}, "reduce": []}')
@example("{'normal/op_2_0': [], 'normal/input_2_0': {}}")
@example("{'normal_n2_p0': {}, 'normal_n2_switch': [[]]}")
@example("{'edge_normal_0': [], 'inputs_node_normal_3': {}}")
@example('(((0, 9), (1, 1)), ((0, 1), (1, 1)))')
@example('Genotype([("skip_connect", 0)], [2], [[]], [[]])')
def test_any_text_gives_a_genotype_or_a_value_error(text):
  try:
    found = genotype.read(text)
  except ValueError:
    return
  assert isinstance(found, genotype.Genotype)


def test_a_changed_text_gives_a_genotype_or_a_value_error():
  draws = random.Random(0)
  for _ in range(60):
    text = list(draws.choice([TEXT, FILE, genotype.to_json(V2)]))
    for _ in range(draws.randrange(1, 6)):
      text[draws.randrange(len(text))] = draws.choice('()[]{},:=\'"0123 \n#*+-_ax\\')
    test_any_text_gives_a_genotype_or_a_value_error.hypothesis.inner_test(''.join(text))
