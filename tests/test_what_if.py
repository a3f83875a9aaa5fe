"""The same search, read by other decodings."""

import json
import pathlib
import shutil
import time

import numpy as np
import pytest
from helpers import ROOT
from past_runs import write_search

from stretchnas_jax import sizes, what_if
from stretchnas_jax.cells import decodings, genotype
from stretchnas_jax.cells.genotype import Genotype
from stretchnas_jax.cells.graph import CellGraph
from stretchnas_jax.cells.nas_bench_cells import Cell
from stretchnas_jax.cells.space import CELL_TYPES, SearchSpace, nas_bench_201
from stretchnas_jax.cli import app
from stretchnas_jax.runs import run_shape, scores
from stretchnas_jax.runs import what_if as what_if_lib

KEPT = ROOT / 'tests' / 'fixtures' / 'runs_0_1' / 'search'


def run(*words):
  app.run(what_if.prepare, config=False, options=what_if.OPTIONS, positional=('run',),
          argv=['what-if', *map(str, words)])  # fmt: skip


@pytest.mark.parametrize('kind', ['none', 'input_pairs', 'output_subsets'])
def test_rows_are_the_cells_that_each_rule_gives(tmp_path, kind):
  write_search(tmp_path / 'r', kind)
  answer = what_if_lib.ask(tmp_path / 'r')
  own, *rest = answer.rows
  kept = json.loads((tmp_path / 'r' / 'genotype.json').read_text())
  assert own.rule == 'as it was' and own.cell == Genotype.from_dict(kept) and own.epoch == 3
  rows = {row.rule: row for row in rest}
  if kind != 'none':
    assert rows['most probable codes'].cell == own.cell
  found = scores.load(tmp_path / 'r')
  arrays = [{c: of(c) for c in CELL_TYPES} for of in (found.strength, found.beta)]
  cell, _ = genotype.derive(
    found.space(), found.facts.table, *arrays, decoding=decodings.strongest_edges(2),
    edge_scores={c: found.edge_scores(c) for c in CELL_TYPES},
  )  # fmt: skip
  assert rows['2 strongest in-edges of a node'].cell == cell
  capped = rows['2 in-edges, at most 0 skips in a cell'].cell
  assert not any(op == 'skip_connect' for op, _, _ in (*capped.normal, *capped.reduce))
  if kind == 'output_subsets':
    sources = [src for _, src, _ in rows['most probable codes of 1 edge'].cell.normal]
    assert len(set(sources)) == len(sources)
  assert answer.notes == ()


def test_sizes_are_those_of_the_search_s_own_depth_and_width(tmp_path):
  write_search(tmp_path / 'r', **{'model.channels': 4, 'model.num_layers': 2})
  answer = what_if_lib.ask(tmp_path / 'r')
  for row in answer.rows[:3]:
    assert row.params == sizes.count_params(
      row.cell, channels=4, num_layers=2, num_classes=2, image_shape=(8, 8, 1)
    )
    assert row.macs == sizes.measure(row.cell, 4, 2, 2, image_shape=(8, 8, 1)).macs


@pytest.mark.parametrize('own', [False, True], ids=['config', 'parts'])
def test_sizes_are_those_of_the_phase_of_the_last_epoch(tmp_path, own):
  phases = [{'epochs': 4}, {'epochs': 2, 'model.num_layers': 3}, {'epochs': 1, 'model.channels': 8}]
  write_search(tmp_path / 'r', epochs=7, finished=False)
  path = tmp_path / 'r' / 'config.json'
  config = json.loads(path.read_text())
  if own:
    config['parts'] = {'phases': phases}
  else:
    config['search']['phases'] = phases
  path.write_text(json.dumps(config))
  shapes = [run_shape.read(tmp_path / 'r', epoch) for epoch in (1, 4, 5, 6, 7)]
  assert [shape.num_layers for shape in shapes] == [1, 1, 3, 3, 1]
  assert what_if_lib.ask(tmp_path / 'r').shape.channels == 8


def test_changed_edges_are_counted_once_each():
  edges = [('skip_connect', 0, 2), ('max_pool_3x3', 1, 2), ('skip_connect', 0, 3)]
  first = Genotype(edges, (2, 3), edges, (2, 3))
  second = Genotype([('max_pool_3x3', 0, 2), edges[1], edges[1]], (2,), edges, (2, 3))
  rows = [what_if_lib.Row('rule', 1, cell, ()) for cell in (first, second)]
  answer = what_if_lib.Answer(pathlib.Path('r'), tuple(rows), None, ())
  assert [answer.changed(row) for row in rows] == [0, 3]


def test_the_command_prints_a_table_and_json(tmp_path, capsys):
  write_search(tmp_path / 'r', epochs=20, nodes=2)
  run(tmp_path / 'r')
  table = capsys.readouterr().out
  assert table.splitlines()[1].startswith('as it was') and 'C 2, as in the search' in table
  run(tmp_path / 'r', '--json')
  found = json.loads(capsys.readouterr().out)
  assert found['rows'][0]['changed'] == 0 and found['rows'][0]['params'] > 0
  assert all(Genotype.from_dict(row['genotype']) for row in found['rows'])


def test_a_stopped_search_and_one_without_an_epoch(tmp_path):
  write_search(tmp_path / 'stopped', finished=False)
  with (tmp_path / 'stopped' / 'scores.jsonl').open('r+b') as file:
    file.truncate((tmp_path / 'stopped' / 'scores.jsonl').stat().st_size - 5)
  assert what_if_lib.ask(tmp_path / 'stopped').rows[0].epoch == 2
  write_search(tmp_path / 'new', epochs=1, finished=False)
  (tmp_path / 'new' / 'genotypes.jsonl').write_text('')
  with pytest.raises(FileNotFoundError, match='holds no scores yet'):
    what_if_lib.ask(tmp_path / 'new')


def test_damaged_files_leave_what_is_whole(tmp_path):
  write_search(tmp_path / 'r')
  (tmp_path / 'r' / 'config.json').write_text('{')
  answer = what_if_lib.ask(tmp_path / 'r')
  assert answer.rows[0].params is None and 'without sizes: ' in answer.notes[0]
  (tmp_path / 'r' / 'space.json').write_text('{')
  with pytest.raises(ValueError, match='damaged'):
    what_if_lib.ask(tmp_path / 'r')


def test_a_kept_run_of_version_0_1_is_decoded_from_its_checkpoint(tmp_path):
  shutil.copytree(KEPT, tmp_path / 'kept')
  answer = what_if_lib.ask(tmp_path / 'kept')
  assert len(answer.rows) > 8 and answer.rows[0].rule == 'as it was'
  assert 'newest checkpoint' in answer.notes[0] and answer.rows[0].params > 0
  assert not {'space.json', 'scores.jsonl'} & {p.name for p in (tmp_path / 'kept').iterdir()}


def test_it_takes_little_time_for_six_nodes(tmp_path):
  write_search(tmp_path / 'r', nodes=6, epochs=2, **{'model.channels': 16, 'model.num_layers': 8})
  started = time.process_time()
  answer = what_if_lib.ask(tmp_path / 'r')
  assert time.process_time() - started < 20  # below 2 s without the checks of annotations
  assert len({row.cell for row in answer.rows}) > 8 and np.all([row.macs for row in answer.rows])


def test_a_folder_without_a_search_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='no search has run there'):
    what_if_lib.ask(tmp_path)


@pytest.mark.parametrize('kind', ['none', 'output_subsets'])
def test_a_search_in_nas_bench_201_is_decoded_too(tmp_path, kind):
  write_search(tmp_path / 'r', kind, space=nas_bench_201(with_none=kind == 'none'))
  answer = what_if_lib.ask(tmp_path / 'r')
  rows = {row.rule: row for row in answer.rows}
  assert rows['as it was'].cell == scores.load(tmp_path / 'r').history.cells[-1]
  assert all(note.startswith('table: ') for note in answer.notes)
  assert all(isinstance(row.cell, Cell) for row in answer.rows)
  everything = rows['3 strongest in-edges of a node']
  assert len(everything.cell.edges) == 6 and everything.macs > 0
  assert ('most probable codes' in rows) == (kind != 'none')
  assert json.loads(json.dumps(what_if_lib.to_dict(answer)))['rows'][0]['changed'] == 0


def test_a_cell_with_noise_has_no_size_and_the_others_have_theirs(tmp_path):
  space = SearchSpace(CellGraph(3), ('noise', 'skip_connect'))
  write_search(tmp_path / 'r', space=space)
  answer = what_if_lib.ask(tmp_path / 'r')
  assert answer.rows[0].rule == 'as it was' and 'noise has no network' in answer.notes[-1]
  noisy = [any('noise' in edge for edge in (*r.cell.normal, *r.cell.reduce)) for r in answer.rows]
  assert [row.params is None for row in answer.rows] == noisy and any(noisy)


def test_no_rule_takes_an_operation_that_an_edge_may_not_have(tmp_path):
  graph, names = CellGraph(3), ('max_pool_3x3', 'skip_connect', 'sep_conv_3x3')
  one = np.zeros((len(graph.edges), 3), bool)
  one[np.arange(len(one)), np.arange(len(one)) % 3] = True
  space = SearchSpace(graph, names, {'normal': one, 'reduce': one})
  write_search(tmp_path / 'r', space=space)
  for row in what_if_lib.ask(tmp_path / 'r').rows:
    for op, *ends in (*row.cell.normal, *row.cell.reduce):
      assert one[graph.edges.index(tuple(ends)), names.index(op)], row.rule


def test_a_folder_without_its_config_has_no_sizes_and_says_so(tmp_path):
  write_search(tmp_path / 'r')
  (tmp_path / 'r' / 'config.json').unlink()
  (note,) = what_if_lib.ask(tmp_path / 'r').notes
  assert note == f'without sizes: {tmp_path / "r" / "config.json"}: No such file or directory'
