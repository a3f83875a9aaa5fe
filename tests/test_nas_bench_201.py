"""Cells of NAS-Bench-201 and tables of their accuracies."""

import importlib.util
import itertools
import json
import pickle
import sys
import types
from unittest import mock

import numpy as np
import pytest

from stretchnas_jax.cells import genotype, nas_bench_201, nas_bench_cells, nas_bench_table
from stretchnas_jax.cells.nas_bench_201 import Cell
from stretchnas_jax.views import cells as svg

TEXT = '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|'
HAS_PACKAGE = importlib.util.find_spec('analognasbench') is not None
# The operations of the package's keys, and its order of edges: by source.
CODES = ('skip_connect', 'none', 'nor_conv_3x3', 'nor_conv_1x1', 'avg_pool_3x3')
BY_SOURCE = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))


@pytest.fixture(autouse=True)
def fresh_tables():
  nas_bench_table.of_package.cache_clear()
  yield
  nas_bench_table.of_package.cache_clear()


@pytest.fixture(scope='module')
def cells():
  return list(nas_bench_201.all_cells())


# ---- texts ---------------------------------------------------------------------------------------


def test_all_cells_go_to_text_and_code_and_back(cells):
  texts = [nas_bench_201.to_text(cell) for cell in cells]
  assert len(set(texts)) == nas_bench_201.NUM_CELLS == 15_625
  assert [nas_bench_201.from_text(text) for text in texts] == cells
  assert [cell.code for cell in cells] == list(range(15_625))


def test_a_text_names_the_source_of_each_operation():
  cell = nas_bench_201.from_text(f'\n {TEXT} ')
  named = dict(zip(nas_bench_201.EDGES, cell.operations))
  assert named == {
    (0, 1): 'nor_conv_3x3', (0, 2): 'none', (1, 2): 'skip_connect', (0, 3): 'avg_pool_3x3',
    (1, 3): 'none', (2, 3): 'nor_conv_1x1',
  }  # fmt: skip
  other_order = TEXT.replace('|none~0|skip_connect~1|', '|skip_connect~1|none~0|')
  assert nas_bench_201.from_text(other_order) == cell


def test_a_cell_has_a_path_if_some_way_to_the_output_has_no_none(cells):
  ways = [[(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]]
  for cell in cells[::7]:
    kept = {edge for edge, op in zip(nas_bench_201.EDGES, cell.operations) if op != 'none'}
    assert cell.has_path == any(kept.issuperset(way) for way in ways)
  assert sum(not cell.has_path for cell in cells) == 341
  np.testing.assert_array_equal(nas_bench_cells.have_paths(), [cell.has_path for cell in cells])


@pytest.mark.parametrize(
  'text, fault',
  [
    ('', 'is not a cell of NAS-Bench-201; one looks like'),
    ('|none~0|+|none~0|none~1|', 'is not a cell'),
    (TEXT + '+|none~0|', 'is not a cell'),
    (TEXT.replace('none~0|skip_connect~1', 'none~0|skip_connect~0'), 'node 2 must have each'),
    (TEXT.replace('nor_conv_3x3', 'nor_conv_3x33'), 'did you mean nor_conv_3x3'),
    (TEXT.replace('none~0', 'none~5'), 'node 2 must have each source once: 0, 1'),
  ],
)
def test_a_wrong_text_is_named(text, fault):
  with pytest.raises(ValueError, match=fault):
    nas_bench_201.from_text(text)


def test_a_wrong_code_and_a_wrong_cell_are_named():
  with pytest.raises(ValueError, match='from 0 to 15624'):
    nas_bench_201.from_code(15_625)
  with pytest.raises(ValueError, match='has 6 operations; these are 2'):
    Cell(('none', 'none'))


# ---- the package ---------------------------------------------------------------------------------


def test_the_package_has_a_retraining_of_all_cells():
  if not HAS_PACKAGE:
    pytest.skip('the extra nasbench is not installed')
  same = lambda name: Cell((name,) * 6)
  table = nas_bench_201.load()
  assert table.num_cells == 15_625
  assert "not NAS-Bench-201's own" in table.source
  found = {name: nas_bench_201.accuracy(same(name)) for name in CODES}
  assert found['skip_connect'] == pytest.approx(60.7836)
  assert found['nor_conv_3x3'] == pytest.approx(93.2424)
  assert nas_bench_201.rank(same('nor_conv_3x3')) == 332
  assert nas_bench_201.rank(same('skip_connect')) == 15_145
  assert np.median(table.accuracies) == pytest.approx(90.4064)
  best = nas_bench_201.from_code(int(table.accuracies.argmax()))
  assert nas_bench_201.accuracy(best) == pytest.approx(94.0664)
  assert nas_bench_201.regret(best) == 0 and nas_bench_201.rank(nas_bench_201.to_text(best)) == 1


def installed(tmp_path, monkeypatch, content):
  """Puts a package of the same name before all others; its code must not run."""
  folder = tmp_path / 'analognasbench'
  folder.mkdir()
  (folder / '__init__.py').write_text('raise RuntimeError("imported")')
  (folder / 'data.anb').write_bytes(content)
  monkeypatch.syspath_prepend(str(tmp_path))


def package_file(accuracy_of):
  """The bytes of a file in the form of the package, for all cells."""
  module = types.ModuleType('analognasbench.data')
  module.Architecture = type('Architecture', (), {'__module__': module.__name__})
  names = {'analognasbench': types.ModuleType('analognasbench'), module.__name__: module}
  with mock.patch.dict(sys.modules, names):
    rows = {}
    for key in itertools.product(range(5), repeat=6):
      named = {edge: CODES[digit] for edge, digit in zip(BY_SOURCE, key)}
      rows[key] = module.Architecture()
      rows[key].baseline_accuracy = accuracy_of(Cell(tuple(named[e] for e in nas_bench_201.EDGES)))
    return pickle.dumps(rows, 4)


def test_the_package_is_read_and_not_imported(tmp_path, monkeypatch):
  of = lambda cell: 50 + cell.code / 1000 if cell.has_path else 10.0
  installed(tmp_path, monkeypatch, package_file(of))
  assert nas_bench_201.accuracy(TEXT) == of(nas_bench_201.from_text(TEXT))
  better = [cell for cell in nas_bench_201.all_cells() if of(cell) > nas_bench_201.accuracy(TEXT)]
  assert nas_bench_201.rank(TEXT) == 1 + len(better)


def test_another_order_of_the_keys_is_noticed(tmp_path, monkeypatch):
  content = package_file(lambda cell: 50.0 if Cell(cell.operations[::-1]).has_path else 10.0)
  installed(tmp_path, monkeypatch, content)
  with pytest.raises(ValueError, match='numbers edges or operations in another way'):
    nas_bench_201.load()


@pytest.mark.parametrize(
  'content',
  [pickle.dumps({(0,) * 6: print}), b'', b'\x80\x04.', pickle.dumps([1]), pickle.dumps({1: 2})],
)
def test_another_file_in_the_package_is_refused(tmp_path, monkeypatch, content):
  installed(tmp_path, monkeypatch, content)
  with pytest.raises(ValueError, match=r'data\.anb is not the table of analog-nasbench'):
    nas_bench_201.load()


def test_without_the_package_one_sentence_says_how_to_get_a_table(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match=r"pip install 'stretchnas_jax\[nasbench\]', or give"):
    nas_bench_201.accuracy(TEXT)


# ---- tables of users -----------------------------------------------------------------------------


def test_a_users_table_may_have_other_columns_and_fewer_cells(tmp_path):
  table, other = tmp_path / 'mine.csv', nas_bench_201.to_text(Cell(('nor_conv_3x3',) * 6))
  table.write_text(f'seed,cell,accuracy\n777,{TEXT},91.5\n777,{other},94.25\n')
  assert nas_bench_201.accuracy(TEXT, table) == 91.5
  assert nas_bench_201.rank(TEXT, table=str(table)) == 2
  assert nas_bench_201.regret(TEXT, table) == 2.75
  assert nas_bench_201.load(table).num_cells == 2 and nas_bench_201.load(table).source == str(table)
  with pytest.raises(ValueError, match='is not in this table'):
    nas_bench_201.rank(Cell(('none',) * 6), table)


def test_a_users_table_that_changes_is_read_again(tmp_path):
  table = tmp_path / 'mine.csv'
  table.write_text(f'cell,accuracy\n{TEXT},91.5\n')
  assert nas_bench_201.accuracy(TEXT, table) == 91.5
  table.write_text(f'cell,accuracy\n{TEXT},9.25\n')
  assert nas_bench_201.accuracy(TEXT, table) == 9.25


@pytest.mark.parametrize(
  'text, fault',
  [
    ('', "has no column 'cell'"),
    ('cell,acc\n', "has no column 'accuracy'"),
    ('cell,accuracy\n', 'has no row with a cell'),
    (f'cell,accuracy\n{TEXT},915\n', r"line 2: accuracy is '915'; it must be from 0 to 100"),
    (f'cell,accuracy\n{TEXT}\n', 'line 2: accuracy is None'),
    (f'cell,accuracy\n{TEXT},nan\n', 'line 2: accuracy'),
    ('cell,accuracy\n|none~0|,50\n', 'line 2: .* is not a cell'),
    (f'cell,accuracy\n{TEXT},1\n{TEXT},2\n', 'line 3: this cell stands in the table already'),
  ],
)
def test_a_wrong_row_of_a_users_table_is_named(tmp_path, text, fault):
  table = tmp_path / 'mine.csv'
  table.write_text(text)
  with pytest.raises(ValueError, match=fault):
    nas_bench_201.load(table)


def test_a_table_that_is_not_there_is_named(tmp_path):
  with pytest.raises(ValueError, match='mine.csv is not a file; see docs/nas_bench_201.md'):
    nas_bench_201.load(tmp_path / 'mine.csv')


def test_a_cell_goes_to_json_and_back_and_is_drawn():
  cell = nas_bench_201.from_text(TEXT)
  found = json.loads(genotype.to_json(cell))
  assert found['nas_bench_201'] == TEXT and len(found) == 2
  assert found['normal'] == [list(edge) for edge in cell.edges] and len(cell.edges) == 4
  assert genotype.from_fields(cell.to_dict()) == cell
  assert TEXT in genotype.summary(cell)
  drawing = svg.svg(cell)
  assert drawing.count('nor_conv') == 2 and 'reduction' not in drawing
  assert svg.svg(Cell(('none',) * 6))
  assert genotype.from_fields({'nas_bench_201': TEXT}) == cell
  with pytest.raises(ValueError, match="has the field 'nas_bench_201', a text"):
    genotype.from_fields({'nas_bench_201': 3})
  with pytest.raises(ValueError, match='the edges in normal are not those of the cell'):
    genotype.from_fields({'nas_bench_201': TEXT, 'normal': []})
